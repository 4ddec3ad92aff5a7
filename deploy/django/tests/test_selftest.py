"""The self-test is green on what works, and red with the right advice on what does not."""

import io
import socketserver
import threading
import time

import people
import pytest
from conftest import ORIGIN
from core.community.models import Message, Room
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings
from test_notifications import worker  # noqa: F401 (a fixture)


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

    def command(public, *arguments, user=None, **values):
        said = io.StringIO()
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
    people.user()  # somebody to mention
    wrong(run(f"ws://{gateway.public}", "--handover"), "no worker ran its task", "GATEWAY_BROKER_URL")


def test_a_task_that_the_gateway_hands_over_is_run(start, run, worker):  # noqa: F811
    people.user()
    other = start("hands-over", GATEWAY_TASK_MENTION="community_gateway.tasks.notify_mention")
    well, said = run(f"ws://{other.public}", "--handover")
    assert well, said
    assert "a mention became a task, and a worker ran it" in said


def test_a_gateway_that_lets_in_and_then_says_nothing(run, answering):
    import base64
    import hashlib

    class Mute(socketserver.BaseRequestHandler):
        def handle(self):
            head = self.request.recv(65_536).decode()
            key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
            digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            self.request.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n")
            self.request.recv(1)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mute) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wrong(run(f"ws://127.0.0.1:{server.server_address[1]}"), "sent no room_state", "/readyz")
        server.shutdown()


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
