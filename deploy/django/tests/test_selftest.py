"""The self-test is green on what works, and red with the right advice on what does not."""

import base64
import hashlib
import io
import json
import socketserver
import threading
import time

import people
import pytest
from conftest import ORIGIN
from core.community.models import Message, Room
from core.users.models import User
from django.conf import settings
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import override_settings
from test_notifications import worker  # noqa: F401 (a fixture)

from community_gateway.selftest import SelfTest


@pytest.fixture(scope="module")
def start(stack):
    """Starts gateways that are set up otherwise than they should be."""
    from conftest import SECRET_KEY
    from stack import Gateway

    running = []

    def one(name, secret_key=SECRET_KEY, **variables):
        running.append(Gateway(stack, secret_key, name, **{"CORS_ALLOWED_ORIGINS": ORIGIN} | variables))
        return running[-1]

    yield one
    for gateway in running:
        gateway.stop()


@pytest.fixture
def run(settings_of):
    """Runs the command; whether it was well, and what it said."""

    def command(public, *arguments, user=None, handover=False, **values):
        said = io.StringIO()
        arguments = (*arguments, *([] if handover else ["--no-handover"]))
        user = user or people.user(is_staff=True)
        with settings_of(**{"PUBLIC_URL": public, "ORIGIN": ORIGIN} | values):
            try:
                call_command("gateway_selftest", "--user", user.pk, "--timeout", 2, *arguments, stdout=said, no_color=True)
            except CommandError:
                return False, said.getvalue()
        return True, said.getvalue()

    return command


@pytest.fixture
def answering():
    """A server that answers every connection with the same bytes, as a proxy that is set up wrongly does."""
    servers = []

    def one(answer: bytes) -> str:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.recv(65_536)
                self.request.sendall(answer)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"ws://127.0.0.1:{server.server_address[1]}"

    yield one
    for server in servers:
        server.shutdown()
        server.server_close()


def test_all_is_well(gateway, run):
    well, said = run(f"ws://{gateway.public}")
    assert well, said
    assert said.count("ok   ") == 11 and "WRONG" not in said
    assert not Room.objects.filter(name="Gateway self-test").exists()
    assert not Message.objects.filter(content__startswith="self-test").exists()


def test_a_room_of_ones_own_is_left_as_it_is(gateway, run):
    ada = people.user()
    room = people.room(ada)
    well, said = run(f"ws://{gateway.public}", "--room", str(room.pk), user=ada)
    assert well, said
    assert Message.objects.filter(room=room).count() == 1


def wrong(result, *words):
    well, said = result
    assert not well
    line = next(line for line in said.splitlines() if line.startswith("WRONG"))
    said = said[said.index(line):]
    assert all(word in said for word in words), said


def test_settings_that_are_wrong(run):
    wrong(run("ws://127.0.0.1:1", TOKEN_SECONDS=0), "TOKEN_SECONDS", "manage.py check")


def test_tokens_in_a_cache_that_no_gateway_reads(run):
    local = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    with override_settings(CACHES=local):
        wrong(run("ws://127.0.0.1:1"), "no gateway can read", "RedisCache")


def test_redis_out_of_reach(run):
    wrong(run("ws://127.0.0.1:1", REDIS_URL="redis://127.0.0.1:1/3"), "does not answer", "GATEWAY_REDIS_URL")


def test_nobody_listens(run):
    wrong(run("ws://127.0.0.1:1"), "Nobody listens", "PUBLIC_URL")


def test_a_host_that_is_not_there(run):
    wrong(run("ws://no-such-host.invalid"), "no host of the name", "DNS")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("426 Upgrade Required", ("without its upgrade", "Upgrade and Connection")),
        ("301 Moved Permanently", ("without its upgrade", "redirects")),
        ("404 Not Found", ("knows no /ws/community/", "path unchanged")),
        ("502 Bad Gateway", ("does not reach the gateway", "upstream")),
        ("503 Service Unavailable", ("takes no new sockets", "/readyz")),
    ],
)
def test_a_proxy_that_is_set_up_wrongly(run, answering, status, words):
    wrong(run(answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())), *words)


def test_something_that_speaks_no_http(run, answering):
    wrong(run(answering(b"220 mail.example.org ESMTP\r\n\r\n")), "not with a WebSocket")


def test_a_proxy_that_takes_the_upgrade_away(gateway, run, answering):
    """Plain HTTP/1.0 to the gateway itself, as nginx does without `proxy_http_version`."""
    import socket

    host, port = gateway.public.split(":")
    with socket.create_connection((host, int(port)), 10) as plain:
        plain.sendall(b"GET /ws/community/presence/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: plain.recv(4096), b""))
    wrong(run(answering(answer)), "without its upgrade")


def test_an_origin_that_the_gateway_does_not_know(gateway, run):
    wrong(run(f"ws://{gateway.public}", ORIGIN="https://elsewhere.example"), "https://elsewhere.example", "CORS_ALLOWED_ORIGINS")


def test_a_gateway_that_reads_another_cache(start, run):
    other = start("other-cache", GATEWAY_CACHE_PREFIX="somebody")
    wrong(run(f"ws://{other.public}"), "does not find the connection token", "GATEWAY_CACHE_PREFIX")


def test_a_gateway_that_reads_another_database(start, run, stack):
    elsewhere = stack.urls["database_url"].replace("/reference", "/allthrive")
    other = start("other-database", DATABASE_URL=elsewhere)
    # The account is in both, as after a restored dump; the room is not.
    wrong(run(f"ws://{other.public}"), "reads another database", "DATABASE_URL")


def test_a_gateway_in_another_database_of_redis(start, run, stack):
    other = start("other-redis", GATEWAY_REDIS_URL=stack.urls["redis_url"].replace("/3", "/5"))
    well, said = run(f"ws://{other.public}")
    assert not well
    assert "Redis does not know it" in said and "the number at the end included" in said


def test_a_gateway_with_another_key(start, run):
    other = start("other-key", "another key, and long enough for every HMAC that there is: really long enough")
    wrong(run(f"ws://{other.public}"), "does not accept Django's JWT", "SECRET_KEY")


def test_a_clock_that_is_wrong(gateway, run, monkeypatch):
    now = time.time
    monkeypatch.setattr("community_gateway.selftest.time.time", lambda: now() + 90)
    wrong(run(f"ws://{gateway.public}"), "the gateway is 90 s behind", "NTP")


def test_nobody_works_on_tasks(gateway, run):
    before = set(User.objects.values_list("pk", flat=True))
    user = people.user()
    wrong(run(f"ws://{gateway.public}", user=user, handover=True), "no worker ran its task", "GATEWAY_BROKER_URL",
          "--no-handover")
    assert set(User.objects.values_list("pk", flat=True)) == before | {user.pk}


def test_a_task_that_the_gateway_hands_over_is_run(start, run, worker, monkeypatch):  # noqa: F811
    """By default, and for somebody who is nobody else: a real user's notifications go on meanwhile."""
    from community_gateway import selftest

    waiting, user = [], people.user()
    bystanders = set(User.objects.values_list("pk", flat=True))
    kept = selftest.sessions.cache().set

    class Cache:
        def __getattr__(self, name):
            return getattr(cache, name)

        def set(self, key, value, timeout):
            if value == "waiting":
                waiting.append(int(key.rsplit(":", 1)[1]))
            return kept(key, value, timeout=timeout)

    monkeypatch.setattr(selftest.sessions, "cache", Cache)
    other = start("hands-over", GATEWAY_TASK_MENTION="community_gateway.tasks.notify_mention")
    well, said = run(f"ws://{other.public}", user=user, handover=True)
    assert well, said
    assert "a mention became a task, and a worker ran it" in said
    assert len(waiting) == 1 and not set(waiting) & bystanders
    assert set(User.objects.values_list("pk", flat=True)) == bystanders
    named = people.user()
    well, said = run(f"ws://{other.public}", "--other", str(named.pk), user=user, handover=True)
    assert well, said
    assert waiting[1:] == [named.pk]


def test_a_public_room_of_ones_own_needs_no_member_for_the_hand_over(start, run, worker):  # noqa: F811
    other = start("hands-over-too", GATEWAY_TASK_MENTION="community_gateway.tasks.notify_mention")
    ada = people.user()
    for room in (people.room(ada), people.room(ada, visibility="private")):
        well, said = run(f"ws://{other.public}", "--room", str(room.pk), user=ada, handover=True)
        assert well, said
        assert list(room.memberships.values_list("user_id", flat=True)) == [ada.pk]


def test_a_project_whose_mentions_are_its_own_business_is_left_alone(gateway, run, monkeypatch):
    from community_gateway import handover

    for tasks, word in (({"mention": ""}, "no task"), ({"mention": "my.task"}, "my.task")):
        well, said = run(f"ws://{gateway.public}", handover=True, TASKS=tasks)
        assert well and f"left out: a mention becomes {word}" in said, said
    monkeypatch.setattr(handover, "_app", None)
    well, said = run(f"ws://{gateway.public}", handover=True)
    assert well and "left out: Celery has no broker here" in said, said


# ---- the channel layer ---------------------------------------------------------------------------------------------


def test_the_channel_layer_is_tried_where_events_go_by_it(gateway, run):
    well, said = run(f"ws://{gateway.public}", TRANSPORT="channels")
    assert well, said
    assert "what Django sends through the channel layer reaches the socket" in said


def test_a_gateway_that_is_not_in_the_channel_layer(start, run):
    other = start("no-layer", GATEWAY_CHANNELS="off")
    wrong(run(f"ws://{other.public}", TRANSPORT="channels"), "through the channel layer does not reach", "GATEWAY_CHANNELS")


def test_a_channel_layer_that_is_away(gateway, run):
    layers = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": ["redis://127.0.0.1:1/3"]}}}
    with override_settings(CHANNEL_LAYERS=layers):
        wrong(run(f"ws://{gateway.public}", TRANSPORT="channels"), "channel layer does not answer", "CHANNEL_LAYERS")


# ---- what breaks in the middle -------------------------------------------------------------------------------------


@pytest.fixture
def talking():
    """A server that lets in, and answers each text by what it was given for its kind: texts, or bytes as they are. After what
    it was given it closes with a code, or breaks the connection."""
    servers = []

    def one(opening=(), **answers) -> str:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                head = self.request.recv(65_536).decode()
                key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
                digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
                self.request.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                     b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n")
                self.say(opening)
                while (frame := self.read()) is not None:
                    self.say([one(frame) if callable(one) else one for one in answers.get(frame["type"], ())])

            def read(self):
                first = self.exactly(2)
                if not first or first[0] & 0xF != 1:
                    return None
                size = first[1] & 0x7F
                if size == 126:
                    size = int.from_bytes(self.exactly(2))
                mask, body = self.exactly(4), self.exactly(size)
                return json.loads(bytes(byte ^ mask[at % 4] for at, byte in enumerate(body)))

            def exactly(self, count):
                found = b""
                while len(found) < count and (more := self.request.recv(count - len(found))):
                    found += more
                return found

            def say(self, answers):
                for answer in answers:
                    if isinstance(answer, int):
                        self.request.sendall(b"\x88\x02" + answer.to_bytes(2))
                    else:
                        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                        self.request.sendall(b"\x81\x7e" + len(text).to_bytes(2) + text)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"ws://127.0.0.1:{server.server_address[1]}"

    yield one
    for server in servers:
        server.shutdown()
        server.server_close()


STATE = {"event": "room_state"}


def test_a_gateway_that_closes_while_a_message_is_sent(run, talking):
    wrong(run(talking([STATE], send_message=[1012])), "in the middle of the test: closed with 1012", "gateway's log")


def test_an_answer_that_is_no_event(run, talking):
    wrong(run(talking([b"hello"])), "no JSON", "a gateway")


class Step:
    """One step on a connection of its own, as the command runs it."""

    def __init__(self, url, settings_of):
        self.url, self.settings_of = url, settings_of
        self.test = SelfTest(people.user(), room=people.room(), timeout=1)

    def __call__(self, name, into=True):
        with self.settings_of(PUBLIC_URL=self.url, ORIGIN=ORIGIN):
            if into:
                self.test.socket = self.test._connect({})
            well, problem = self.test._tried(dict(self.test.steps)[name])
        assert problem is not None, well
        return f"{problem.what} {problem.advice}"


@pytest.mark.parametrize("step", ["events", "control"])
def test_a_gateway_that_closes_while_an_event_is_awaited(talking, settings_of, step):
    said = Step(talking([1012]), settings_of)(step)
    assert "closed with 1012" in said and "gateway's log" in said


def test_a_gateway_that_closes_in_place_of_a_pong(talking, settings_of):
    said = Step(talking(ping=[4003]), settings_of)("clocks")
    assert "closed with 4003" in said and "gateway's log" in said


def test_a_pong_without_a_time(talking, settings_of):
    assert "no time" in Step(talking(ping=[{"event": "pong"}]), settings_of)("clocks")


def test_a_jwt_that_nobody_answers(talking, settings_of):
    said = Step(talking(), settings_of)("JWT", into=False)
    assert "did not answer in time" in said and "/readyz" in said


def test_a_connection_that_breaks_while_something_is_sent(talking, settings_of, monkeypatch):
    step_of = Step(talking(), settings_of)

    def broken(*_):
        raise BrokenPipeError

    monkeypatch.setattr("community_gateway.websocket.WebSocket.send", broken)
    said = step_of("clocks")
    assert "broke: BrokenPipeError" in said and "proxy" in said


def test_redis_that_goes_away_in_the_middle(talking, settings_of):
    pong = {"event": "pong", "timestamp": "2026-11-22T13:37:40.475420"}
    with settings_of(REDIS_URL="redis://127.0.0.1:1/3"):
        step_of = Step(talking(ping=[pong]), settings_of)
    for step, words in (("clocks", "Redis does not answer: ConnectionError"), ("presence", "Redis does not answer"),
                        ("events", "did not take what Django published"), ("control", "did not take")):
        step_of.settings_of = lambda **values: settings_of(REDIS_URL="redis://127.0.0.1:1/3", **values)
        assert words in step_of(step), step


def test_a_database_that_goes_away_in_the_middle(talking, settings_of, monkeypatch):
    from django.db import OperationalError

    class Broken:
        def __getitem__(self, _):
            raise OperationalError

    monkeypatch.setattr("community_gateway.selftest.connections", Broken())
    pong = {"event": "pong", "timestamp": "2026-11-22T13:37:40.475420"}
    said = Step(talking(ping=[pong]), settings_of)("clocks")
    assert "database does not answer: OperationalError" in said


def test_an_address_that_is_none(run):
    wrong(run("ws://127.0.0.1:eight"), "is no address", "PUBLIC_URL")


def test_keys_that_are_none(run):
    user = people.user()
    for arguments in (["--room", "x"], ["--other", "x"]):
        said = run("ws://127.0.0.1:1", *arguments, user=user)
        assert said == (False, "")


def test_a_gateway_that_lets_in_and_then_says_nothing(run, talking):
    wrong(run(talking()), "sent no room_state", "/readyz")


# ---- gateway_status ------------------------------------------------------------------------------------------------


def test_the_status_of_every_gateway(gateway, settings_of):
    said = io.StringIO()
    with settings_of(OPS_URLS=[f"http://{gateway.ops}"]):
        call_command("gateway_status", stdout=said, no_color=True)
    assert "ready: " in said.getvalue() and "sockets" in said.getvalue()
    with settings_of(OPS_URLS=[f"http://{gateway.ops}", "http://127.0.0.1:1"]), pytest.raises(CommandError, match="1 of 2"):
        call_command("gateway_status", stdout=said, no_color=True)
    assert "does not answer" in said.getvalue()
    assert settings.COMMUNITY_GATEWAY["OPS_URLS"] == ["http://127.0.0.1:9101"]
