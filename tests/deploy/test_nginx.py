"""deploy/nginx with the real nginx, two real gateways, and a Django that says which request it got."""

import http.client
import json
import re
import socketserver
import threading
import uuid
from http.server import BaseHTTPRequestHandler
from socket import create_connection

import pytest
from conftest import DEPLOY, GUARD, LOUNGE, ORIGIN, ROOT, SECRET_KEY, Gateway, Nginx, eventually, tool
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect


class Django(socketserver.ThreadingTCPServer):
    """Answers every request with what it got."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass


@pytest.fixture(scope="module")
def django():
    with Django() as running:
        yield running
        running.shutdown()


def site(gateways, django):
    """deploy/nginx/site.conf with what runs here."""
    stable, canary = (gateway.public for gateway in gateways)
    site = (DEPLOY / "nginx" / "site.conf").read_text()
    for ours, theirs in [("127.0.0.1:8001", stable), ("127.0.0.1:8003", canary), ("127.0.0.1:8002", f"{stable} backup"),
                         ("127.0.0.1:8000", f"127.0.0.1:{django.server_address[1]}")]:
        assert site.count(ours) == 1
        site = site.replace(ours, theirs)
    return site


@pytest.fixture(scope="module")
def nginx(gateways, django, tmp_path_factory):
    running = Nginx(tmp_path_factory.mktemp("nginx"), site(gateways, django))
    yield running
    running.stop()


@pytest.fixture
def impatient(stack, django, tmp_path):
    """nginx with 3 s of patience where 300 are shipped; `stable` is a gateway that pings well within that, `canary` one that does not."""
    settings = {"GATEWAY_TRUSTED_PROXIES": "127.0.0.1", "GATEWAY_LIMIT_CONNECTS_PER_MINUTE": 0}
    running = [Gateway(stack, SECRET_KEY, f"pings-after-{seconds}", GATEWAY_PING_SECONDS=seconds, **settings) for seconds in (1, 50)]
    shorter = {f"proxy_{way}_timeout 300s;": f"proxy_{way}_timeout 3s;" for way in ("read", "send")}
    # nginx says that it lost patience with a client's socket, but only to who listens so closely.
    nginx = Nginx(tmp_path, site(running, django), shorter | {"error.log warn;": "error.log info;"})
    assert sorted(re.findall(r"proxy_\w+_timeout \w+;", (tmp_path / "community" / "community.conf").read_text())) == sorted(
        [*shorter.values(), "proxy_connect_timeout 3s;"])
    yield nginx
    nginx.stop()
    assert [gateway.stop() for gateway in running] == [0, 0]


def get(nginx, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=GUARD)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def come(nginx, token, address="127.0.0.1", cookie="", kind=ClientConnection, **headers):
    """A browser's socket, from an address of its own, its first state read."""
    sock = create_connection(("127.0.0.1", nginx.port), GUARD, source_address=(address, 0))
    headers |= {"Cookie": cookie} if cookie else {}
    tab = connect(f"ws://127.0.0.1:{nginx.port}{LOUNGE}?connection_token={token}", sock=sock, origin=ORIGIN,
                  additional_headers=headers, create_connection=kind, legacy=True)
    until(tab, "room_state")
    return tab


class Silent(ClientConnection):
    """A client that says nothing by itself, and counts the pings that it answers."""

    def __init__(self, *arguments, **options):
        self.pings = threading.Semaphore(0)
        super().__init__(*arguments, **options | {"ping_interval": None})

    def process_event(self, event):
        super().process_event(event)
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pings.release()


def until(tab, event):
    while json.loads(tab.recv(GUARD))["event"] != event:
        pass


def side(nginx, gateways, token, cookie):
    """Which gateway a browser with this cookie comes to."""
    before = [upgrades(gateway) for gateway in gateways]
    come(nginx, token, cookie=cookie).close()
    (one,) = [gateway.name for gateway, count in zip(gateways, before, strict=True) if upgrades(gateway) > count]
    return one


def upgrades(gateway) -> float:
    metrics = http.client.HTTPConnection(gateway.ops, timeout=GUARD)
    metrics.request("GET", "/metrics")
    text = metrics.getresponse().read().decode()
    metrics.close()
    return float(re.search(r"^community_gateway_upgrades_total (\S+)", text, re.M)[1])


def test_the_files_as_they_are_shipped_are_valid(tmp_path):
    (tmp_path / "community").mkdir()
    for name in ("community.conf", "share.conf", "site.conf"):
        (tmp_path / "community" / name).write_text((DEPLOY / "nginx" / name).read_text())
    text = (DEPLOY / "nginx" / "nginx.conf").read_text().replace(" /tmp/", f" {tmp_path}/")
    (tmp_path / "nginx.conf").write_text(text.replace("mime.types", "/etc/nginx/mime.types"))
    tool("/usr/sbin/nginx", "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log")


def test_quiet_sockets_are_kept_for_as_long_as_at_the_balancer():
    text = (DEPLOY / "nginx" / "community.conf").read_text()
    (sockets,) = re.findall(r"location /ws/community/ \{(.*?)\n    \}", text, re.S)
    assert re.findall(r"proxy_(read|send)_timeout (\w+);", sockets) == [("read", "300s"), ("send", "300s")]
    # The gateway must be the one that finds the dead: it pings, and gives up, long before nginx would.
    ping, idle = (int(re.search(rf"`GATEWAY_{name}_SECONDS` \| `(\d+)`", (ROOT / "README.md").read_text())[1]) for name in ("PING", "IDLE"))
    assert ping < idle < 300


def test_a_socket_that_only_answers_pings_outlives_nginxs_patience_many_times(impatient, token):
    with come(impatient, token(1), cookie="community_side=stable", kind=Silent) as tab:
        for _ in range(8):  # each after a second of silence: together far more than the 3 s
            assert tab.pings.acquire(timeout=GUARD)
        tab.send('{"type":"ping"}')
        until(tab, "pong")


def test_a_socket_that_nobody_pings_is_cut_by_nginx_and_its_client_comes_back(impatient, token):
    tab = come(impatient, token(1), cookie="community_side=canary", kind=Silent)
    with pytest.raises(ConnectionClosed) as cut:
        while True:
            tab.recv(GUARD)
    assert cut.value.rcvd is None and tab.close_code == 1006  # no word of the gateway's: the connection was gone
    assert not tab.pings.acquire(blocking=False)
    # … and it was nginx that lost patience.
    log = impatient.folder / "error.log"
    eventually("nginx names its patience", lambda: re.search(r"upstream timed out .* while proxying upgraded connection", log.read_text()))
    come(impatient, token(1), cookie="community_side=canary").close()


def test_a_gateway_that_was_replaced_is_not_taken_for_dead():
    # Why: see site.conf; loadtest/swarm/run with BEHIND=nginx SWAP_AFTER=… shows what else happens.
    for path in ("nginx/site.conf", "compose/site.conf"):
        text = (DEPLOY / path).read_text()
        servers = [line for block in re.findall(r"upstream community_\w+ \{([^}]*)\}", text) for line in re.findall(r"server .*", block)]
        assert len(servers) >= 3 and all(line.endswith(" max_fails=0;") for line in servers), path


def test_sockets_go_to_the_gateways_and_everything_else_to_django(nginx, token):
    status, _, body = get(nginx, "/ws/community/presence/")
    assert status == 426 and "upgrade" in body.lower()  # the gateway's own words for a request without an upgrade
    for path in ("/", "/admin/", "/api/auth/me/", "/ws/other/", "/ws/communit", "/metrics", "/readyz", "/livez"):
        status, _, body = get(nginx, path)
        assert (status, json.loads(body)["path"]) == (200, path)
    with come(nginx, token(1)) as tab:
        tab.send('{"type":"ping"}')
        until(tab, "pong")


def test_the_client_is_who_nginx_saw_and_not_who_it_says_it_is(nginx, token):
    _, _, body = get(nginx, "/", **{"X-Forwarded-For": "203.0.113.9"})
    assert json.loads(body)["headers"]["x-forwarded-for"] == "127.0.0.1"
    tabs = [come(nginx, token(user), "127.0.0.2") for user in (1, 2, 3)]  # as many as an address may have here
    with pytest.raises((InvalidStatus, ConnectionClosed)) as refused:
        come(nginx, token(4), "127.0.0.2", **{"X-Forwarded-For": "203.0.113.9"})
    assert "503" in str(refused.value) or "429" in str(refused.value) or "4029" in str(refused.value)
    come(nginx, token(4), "127.0.0.3").close()
    for tab in tabs:
        tab.close()


def test_no_token_is_in_nginxs_log(nginx, token):
    secret = token(1)
    come(nginx, secret).close()
    get(nginx, f"/page?connection_token={secret}")
    log = nginx.folder / "access.log"  # a line is written after the answer has been sent
    eventually("the request is in the log", lambda: '"GET /page"' in log.read_text())
    assert secret not in log.read_text()
    assert secret not in (nginx.folder / "error.log").read_text()


def test_a_share_of_the_browsers_and_back_and_each_stays_on_its_side(nginx, gateways, token):
    browsers = [f"canary={uuid.UUID(int=number * 7919 + 1).hex}" for number in range(24)]

    def canaries():
        return {one for one in browsers if side(nginx, gateways, token(1), one) == "gateway-2"}

    assert canaries() == set()
    assert "10 percent" in nginx.share(10)
    few = canaries()
    nginx.share(50)
    half = canaries()
    assert half == canaries()  # asked again, the same
    assert few < half and 5 < len(half) < 19
    with come(nginx, token(2), cookie=next(iter(half))) as tab:
        nginx.share(100)
        assert canaries() == set(browsers)
        nginx.share(0)
        assert canaries() == set()
        tab.send('{"type":"ping"}')  # opened before all these reloads
        until(tab, "pong")
    assert side(nginx, gateways, token(1), "community_side=canary") == "gateway-2"


def test_a_share_that_nginx_refuses_changes_nothing(nginx):
    before = (nginx.folder / "community" / "share.conf").read_text()
    for wrong in ("101", "x", ""):
        with pytest.raises(AssertionError):
            tool(DEPLOY / "nginx" / "share", wrong, nginx.folder / "community", env={"NGINX_COMMAND": "true", "PATH": "/usr/bin:/bin"})
    with pytest.raises(AssertionError, match="the old share stays"):
        tool(DEPLOY / "nginx" / "share", "5", nginx.folder / "community", env={"NGINX_COMMAND": "false", "PATH": "/usr/bin:/bin"})
    assert (nginx.folder / "community" / "share.conf").read_text() == before


def test_every_browser_gets_its_cookie_once(nginx):
    _, headers, _ = get(nginx, "/")
    cookie = headers["Set-Cookie"]
    assert re.match(r"canary=[0-9a-f]{32}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax", cookie)
    _, headers, _ = get(nginx, "/", Cookie=cookie.split(";")[0])
    assert "Set-Cookie" not in headers
