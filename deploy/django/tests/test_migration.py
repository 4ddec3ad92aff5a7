"""MIGRATION.md, walked through: its settings, its table, its commands and its shares are taken from the page as they stand."""

import os
import re
import shlex
import subprocess
import sys

import people
import pytest
from conftest import ORIGIN, PACKAGE, SECRET_KEY
from core.community.models import Message
from django.conf import settings
from django.test import override_settings
from sockets import Tab, enter
from stack import Gateway
from test_canary import Nginx
from test_reference_consumers import daphne  # noqa: F401 (a fixture)
from test_reference_rest import As

from community_gateway.checks import check
from community_gateway.conf import DEFAULTS, SIGNALS
from community_gateway.sessions import connection_token

PAGE = (PACKAGE / "MIGRATION.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of a language, without the page's own indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", PAGE, re.M | re.S)
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, text in found]


def written() -> dict:
    """COMMUNITY_GATEWAY as the page writes it."""
    (block,) = (one for one in blocks("python") if "COMMUNITY_GATEWAY" in one)
    names: dict = {}
    exec(block, names)
    return names["COMMUNITY_GATEWAY"]


@pytest.fixture
def as_written(stack):
    """The page's settings, with this Redis."""
    ours = written() | {"REDIS_URL": stack.urls["redis_url"], "ORIGIN": ORIGIN}
    with override_settings(COMMUNITY_GATEWAY=ours):
        yield ours


def variables(stack) -> dict[str, str]:
    """The gateway's variables, each from what the page's table says it is of Django's."""
    cache, database = settings.CACHES["default"], settings.DATABASES["default"]
    address = f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    layer = settings.CHANNEL_LAYERS["default"]
    of_django = {
        "DATABASE_URL": address,
        "GATEWAY_CACHE_URL": cache["LOCATION"], "GATEWAY_CACHE_PREFIX": cache["KEY_PREFIX"],
        "GATEWAY_CACHE_VERSION": str(cache["VERSION"]),
        "SECRET_KEY": settings.SIMPLE_JWT["SIGNING_KEY"],
        "CORS_ALLOWED_ORIGINS": ",".join(settings.CORS_ALLOWED_ORIGINS),
        "GATEWAY_CHANNELS": layer["BACKEND"].split(".")[1], "GATEWAY_CHANNELS_URL": layer["CONFIG"]["hosts"][0],
        "GATEWAY_BROKER_URL": settings.CELERY_BROKER_URL,
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32",
    }
    rows = re.findall(r"^ *\| (`.*?) \| ", PAGE, re.M)
    names = {name if name[0] != "_" else f"GATEWAY_CACHE{name}" for row in rows for name in re.findall(r"`([A-Z_]+)", row)}
    assert names == set(of_django), "the table and the variables here are the same"
    return of_django | {"GATEWAY_REDIS_URL": settings.COMMUNITY_GATEWAY["REDIS_URL"]}


def managed(command: str, **env) -> subprocess.CompletedProcess:
    """A line of the page's shell that begins with manage.py, run as it stands."""
    words = shlex.split(command, comments=True)
    assert words[0] == "manage.py"
    return subprocess.run([sys.executable, *words], cwd=PACKAGE / "reference", env=os.environ | env, capture_output=True, text=True)


def come(nginx, room, user, **options) -> Tab:
    tab = Tab(f"ws://127.0.0.1:{nginx.port}/ws/community/room/{room.pk}/?connection_token={connection_token(user)}",
              origin=ORIGIN, **options)
    tab.until("room_state")
    tab.settled()
    return tab


def test_the_settings_of_the_page_have_nothing_wrong(as_written):
    assert check() == []
    assert set(as_written) - {"ORIGIN"} <= set(DEFAULTS)
    assert set(SIGNALS) - set(as_written["SIGNALS"]) == {"message_created", "notification", "logout"}, "the two that the page names"


def test_the_table_is_enough_for_the_gateways_own_check(stack):
    from gateway import binary

    done = subprocess.run([binary(), "check"], env=variables(stack), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "`community-gateway check` must exit with 0" in PAGE


def test_before_there_is_a_gateway_nothing_changes(as_written, daphne):  # noqa: F811
    """Step 2: what the package publishes has no reader, and people on Daphne talk on."""
    from test_reference_consumers import come_in

    ada = people.user()
    room = people.room(ada)
    with come_in(daphne, room, ada) as old:
        room.slow_mode_seconds = 5
        room.save()
        message = Message.objects.create(room=room, author=ada, content="by a task")
        old.send(type="send_message", content="still here")
        assert old.until("new_message")["message"]["content"] == "still here"  # `message_created` is not told: left out
        message.is_pinned = True
        message.save()
        assert old.until("message_pinned")["messageId"] == str(message.pk)  # what the others hear by the layer


@pytest.fixture
def set_up(stack, daphne, tmp_path):  # noqa: F811
    """A gateway of the page's variables beside Daphne, behind the page's nginx."""
    table = variables(stack)
    gateway = Gateway(stack, SECRET_KEY, "migration", **table,
                      GATEWAY_TASK_MENTION="community_gateway.tasks.notify_mention")
    nginx = Nginx(tmp_path, gateway.public, daphne)
    yield gateway, nginx
    nginx.stop()
    if gateway.is_running:
        gateway.stop()


def test_one_person_and_then_the_shares_and_the_way_back(set_up, as_written):
    gateway, nginx = set_up
    (split,) = re.findall(r"split_clients.*?\{\n(.*?)\n\}", "\n".join(blocks("nginx")), re.S)
    ada, grace, ken = people.user(), people.user(), people.user(is_staff=True)
    room = people.room(ada, grace, ken)

    # Step 4: `* daphne;` alone; everybody is where they were. Step 5: one person by a cookie.
    assert "`* daphne;` alone" in PAGE and "`community_side=gateway` as a cookie" in PAGE
    nginx.share("    * daphne;")
    assert nginx.side() == "daphne" and nginx.side("community_side=gateway") == "gateway"
    with (come(nginx, room, ada, additional_headers={"Cookie": "community_side=gateway"}) as new, come(nginx, room, grace) as old):
        new.send(type="send_message", content="from the gateway")
        old.send(type="send_message", content="from Daphne")
        for tab in (new, old):
            said = {tab.until("new_message")["message"]["content"] for _ in range(2)}
            assert said == {"from the gateway", "from Daphne"}
            assert not [event for event in tab.settled() if event["event"] == "new_message"], "once is right"

    # The commands of step 5, on the gateway's side. No worker runs here: its part of the self-test is left out.
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("manage.py")]
    assert [shlex.split(line, comments=True)[1] for line in commands] == ["gateway_selftest", "gateway_status"]
    nginx.share("    * gateway;")
    environment = {"GATEWAY_PUBLIC_URL": f"ws://127.0.0.1:{nginx.port}", "GATEWAY_OPS_URLS": f"http://{gateway.ops}",
                   "GATEWAY_TASK_MENTION": ""}
    for command in commands:
        done = managed(command, **environment)
        assert done.returncode == 0, done.stdout + done.stderr

    # 1 percent, 10, 50, 100: the page's own block, with its number changed.
    assert "# 1 percent, 10, 50, 100" in PAGE and "1% gateway;" in split
    for share in ("1%", "10%", "50%"):
        nginx.share(split.replace("1%", share))
    nginx.share("    * gateway;")

    # Back: `* daphne;` alone, reload; then the gateways end, and whoever was there comes back to Daphne.
    with come(nginx, room, ada, additional_headers={"Cookie": "community_side=gateway"}) as new, come(nginx, room, grace) as other:
        nginx.share("    * daphne;")
        assert any(line.startswith("kill -TERM $(pidof community-gateway)") for block in blocks("sh") for line in block.splitlines())
        gateway.begin_stop()
        for tab in (new, other):
            assert tab.until("reconnect")["delayMs"] >= 0
            assert tab.close_code() == 1001
        assert gateway.ended() == 0
        with come(nginx, room, ada) as back, come(nginx, room, grace) as too:
            back.send(type="send_message", content="here again")
            assert too.until("new_message")["message"]["content"] == "here again"
    room.refresh_from_db()
    assert room.message_count == Message.objects.filter(room=room).count() == 3, "nothing is to be undone in the tables"


def test_after_the_layer_is_gone_events_go_by_redis(stack, as_written):
    """After, steps 1 and 2: `TRANSPORT` and `message_created` put back, `GATEWAY_CHANNELS=off`."""
    gateway = Gateway(stack, SECRET_KEY, "after", **variables(stack) | {"GATEWAY_CHANNELS": "off"})
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    after = as_written | {"TRANSPORT": "redis", "SIGNALS": [*as_written["SIGNALS"], "message_created"]}
    assert '`"TRANSPORT": "redis"`, and `message_created` back into `SIGNALS`' in PAGE and "`GATEWAY_CHANNELS=off`" in PAGE
    with enter(gateway, room, grace) as tab, override_settings(COMMUNITY_GATEWAY=after):
        As(ada).post(f"rooms/{room.pk}/messages/", content="by rest")
        assert tab.until("new_message")["message"]["content"] == "by rest"
        assert not [event for event in tab.settled() if event["event"] == "new_message"]
    assert gateway.stop() == 0
