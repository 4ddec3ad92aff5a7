"""A message makes the same tasks, once, whichever side wrote it: a gateway, REST, or the old consumers on Daphne."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import people
import pytest
import redis
from celery import Celery
from conftest import ORIGIN, PACKAGE, SECRET_KEY
from core.community.models import Message, UserBlock
from recording import NOTES
from sockets import Tab, enter, enter_app
from stack import GUARD, Gateway
from test_reference_consumers import come, come_in, daphne  # noqa: F401 (a fixture)
from test_reference_rest import As

from community_gateway import handover, quietly
from community_gateway.sessions import connection_token

NOTIFY = "community_gateway.tasks.notify_"
AGENT = "core.community.tasks.process_agent_dm_task"


class Ran:
    """What a real worker has run since it started."""

    def __init__(self, url: str):
        self._notes = redis.Redis.from_url(url)

    def of(self, message) -> list[tuple[str, int]]:
        """Tasks of a message, and whom they are for; their arguments are ids and nothing else."""
        found = []
        for name, positional, arguments in map(json.loads, self._notes.lrange(NOTES, 0, -1)):
            if arguments.get("message_id") == str(message.pk):
                wanted = {"message_id", "user_id"} if name.startswith(NOTIFY) else {"message_id", "thread_id", "agent_user_id"}
                assert positional == [] and set(arguments) == wanted
                found.append((name, arguments.get("user_id", arguments.get("agent_user_id"))))
        return sorted(found)

    def until(self, message, *wanted: tuple[str, int]) -> None:
        end = time.monotonic() + GUARD
        while self.of(message) != sorted(wanted):
            assert time.monotonic() < end, f"waited for {wanted}, saw {self.of(message)}"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def ran(stack):
    path = f"{os.environ['PYTHONPATH']}:{PACKAGE / 'tests'}"
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "recording", "worker", "--pool", "solo", "--loglevel", "INFO",
         "--without-gossip", "--without-mingle", "--without-heartbeat"],
        cwd=PACKAGE / "reference", env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if " ready." in line:
            break
    else:
        raise AssertionError("".join(lines))
    rest = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    rest.start()
    yield Ran(stack.urls["broker_url"])
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def notifying(stack):
    """A gateway that hands the package's tasks over."""
    names = {f"GATEWAY_TASK_{kind.upper()}": f"{NOTIFY}{kind}" for kind in ("mention", "reply", "dm")}
    running = Gateway(stack, SECRET_KEY, "notifying", CORS_ALLOWED_ORIGINS=ORIGIN, **names)
    yield running
    assert running.stop() == 0


def newest(room) -> Message:
    return Message.objects.filter(room=room).order_by("-created_at").first()


def test_a_message_in_a_room_makes_the_same_tasks_on_every_side(ran, notifying, daphne):  # noqa: F811
    ada, grace, linus, ken = (people.user() for _ in range(4))
    room = people.room(ada, grace, linus, ken)
    UserBlock.objects.create(blocker=(hidden := people.user()), blocked=ada)
    asked = people.message(room, linus, "who comes?")
    words = {"content": f"@{grace.username} @{ken.username} @{hidden.username} @{ada.username}", "reply_to_id": str(asked.pk)}
    wanted = [(f"{NOTIFY}mention", grace.pk), (f"{NOTIFY}reply", linus.pk)]
    written = []
    with enter(notifying, room, ken) as watching:  # who is named, and is here
        As(ada).post(f"rooms/{room.pk}/messages/", **words)
        written.append(newest(room))
        watching.until("new_message")
        with come_in(daphne, room, ada) as old:
            old.send(type="send_message", **words)
            old.until("new_message")
            written.append(newest(room))
        with enter(notifying, room, ada) as new:
            new.send(type="send_message", **words)
            written.append(Message.objects.get(pk=new.until("new_message")["message"]["id"]))
            for message in written:
                ran.until(message, *wanted)
            # What comes after these has all of theirs before it, on both ways into the queue.
            new.send(type="send_message", content=f"@{grace.username}")
            last = Message.objects.get(pk=new.until("new_message")["message"]["id"])
            ran.until(last, (f"{NOTIFY}mention", grace.pk))
    As(ada).post(f"rooms/{room.pk}/messages/", content=f"@{grace.username}")
    ran.until(newest(room), (f"{NOTIFY}mention", grace.pk))
    assert [ran.of(message) for message in written] == [sorted(wanted)] * 3


def test_a_direct_message_makes_the_same_tasks_on_every_side(ran, notifying, daphne):  # noqa: F811
    ada, grace, agent = people.user(), people.user(), people.user(tier="team")
    talk = people.direct(ada, grace, agent)
    talk.is_group = True
    talk.save()
    wanted = [(AGENT, agent.pk), (f"{NOTIFY}dm", grace.pk)]
    As(ada).post(f"rooms/{talk.room.pk}/messages/", content=f"hello @{grace.username}")
    by_rest = Message.objects.get(room=talk.room, author=ada)
    ran.until(by_rest, *wanted)
    with come(daphne, f"dm/{talk.pk}", ada) as old:
        old.until("dm_state")
        old.send(type="send_message", content="hello again")
        by_daphne = Message.objects.get(pk=old.until("new_message")["message"]["id"])
        ran.until(by_daphne, *wanted)
    with Tab(f"ws://{notifying.public}/ws/community/dm/{talk.pk}/?connection_token={connection_token(ada)}") as new:
        new.until("dm_state")
        new.send(type="send_message", content="and again", client_id="1")
        by_gateway = Message.objects.get(pk=new.until("message_ack")["messageId"])
        ran.until(by_gateway, *wanted)
    assert [ran.of(message) for message in (by_rest, by_daphne, by_gateway)] == [sorted(wanted)] * 3


def test_who_is_told_of_what():
    ada, grace, linus = people.user(), people.user(), people.user()
    room = people.room(ada, grace, linus)
    asked = people.message(room, grace)
    both = people.message(room, ada, mentions=[grace.pk, str(linus.pk), ada.pk, "x"], reply_to=asked)
    assert handover.due(both) == [("mention", grace.pk), ("mention", linus.pk)], "once each, and never the author"
    assert handover.due(people.message(room, ada, reply_to=people.message(room, None))) == []


@pytest.fixture
def queued(monkeypatch):
    """What is queued, in place of a broker."""
    found = []

    class App:
        def send_task(self, name, *, kwargs, **options):
            found.append((name, kwargs, options))

    monkeypatch.setattr(handover, "_app", App())
    monkeypatch.setattr(handover, "_reach", lambda _: None)
    return found


def test_names_queue_and_what_is_not_told(queued, settings_of):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    with settings_of(TASKS={"mention": "my.task", "reply": ""}, TASK_QUEUE="slow"):
        first = Message.objects.create(room=room, author=ada, content="x", mentions=[grace.pk])
        Message.objects.create(room=room, author=grace, content="x", reply_to=first)
    options = {"expires": 3600, "queue": "slow", "retry": False, "ignore_result": True}
    assert queued == [("my.task", {"message_id": str(first.pk), "user_id": grace.pk}, options)]
    queued.clear()
    with quietly():
        Message.objects.create(room=room, author=ada, content="x", mentions=[grace.pk])
    with settings_of(SIGNALS=["message_created"]):
        Message.objects.create(room=room, author=ada, content="x", mentions=[grace.pk])
    Message.objects.create(room=room, author=ada, content="x", mentions=[grace.pk], is_hidden=True)
    assert queued == []


def test_who_is_online_is_not_known_while_redis_is_away(queued, settings_of, gateway):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    with enter_app(gateway, grace):
        Message.objects.create(room=room, author=ada, content="x", mentions=[grace.pk])
        assert queued == []
        with settings_of(REDIS_URL="redis://127.0.0.1:1/3"):
            Message.objects.create(room=room, author=ada, content="x", mentions=[grace.pk])
    assert len(queued) == 1


def test_a_broker_that_takes_connections_and_never_answers_holds_nobody_up(monkeypatch, caplog, settings_of):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        monkeypatch.setattr(handover, "_app", Celery(broker=url, set_as_current=False))
        monkeypatch.setattr(handover, "_reached_until", 0.0)
        monkeypatch.setattr(handover, "_away_until", 0.0)
        ada, grace = people.user(), people.user()
        room = people.room(ada, grace)
        with settings_of(REDIS_TIMEOUT=0.2):
            began = time.monotonic()
            for _ in range(5):
                Message.objects.create(room=room, author=ada, content="x", mentions=[grace.pk])
            assert time.monotonic() - began < 3
    assert caplog.text.count("1 notifications were not queued") == 5
    assert caplog.text.count("did not answer a moment ago") == 4


def test_a_broker_that_is_away_holds_nobody_up(monkeypatch, caplog):
    monkeypatch.setattr(handover, "_app", Celery(broker="redis://127.0.0.1:1/0", set_as_current=False))
    monkeypatch.setattr(handover, "_reached_until", 0.0)
    monkeypatch.setattr(handover, "_away_until", 0.0)
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    began = time.monotonic()
    for _ in range(5):
        Message.objects.create(room=room, author=ada, content="x", mentions=[grace.pk])
    assert time.monotonic() - began < 3
    assert caplog.text.count("1 notifications were not queued") == 5
    assert caplog.text.count("did not answer a moment ago") == 4
