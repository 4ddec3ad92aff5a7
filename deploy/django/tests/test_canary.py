"""A share of the sockets on the gateway, the rest on Daphne, behind a real nginx with the configuration of MIGRATION.md."""

import http.client
import io
import re
import shutil
import socket
import subprocess
import time
import uuid

import people
import pytest
from conftest import ORIGIN, PACKAGE
from django.core.management import call_command
from sockets import Tab
from test_reference_consumers import daphne  # noqa: F401 (a fixture)

from community_gateway.sessions import connection_token

SHARE = "    1% gateway;\n    * daphne;"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Nginx:
    """One nginx whose share can be changed while it runs."""

    def __init__(self, folder, gateway: str, daphne: str):  # noqa: F811
        self.folder, self.port = folder, free_port()
        self.replaced = {"127.0.0.1:8001": gateway, "127.0.0.1:8000": daphne, "127.0.0.1:8080": f"127.0.0.1:{self.port}"}
        self.write(SHARE)
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"
        self.command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        self.process = subprocess.Popen(self.command)
        self._wait()

    def write(self, share: str) -> None:
        text = (PACKAGE / "canary.conf").read_text()
        assert text.count(SHARE) == 1
        text = text.replace(SHARE, share)
        for ours, theirs in self.replaced.items():
            assert text.count(ours) == 1
            text = text.replace(ours, theirs)
        (self.folder / "canary.conf").write_text(text)
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in
                             ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {self.folder}/pid; events {{ worker_connections 512; }}\n"
            f"http {{ {temporary} access_log off; include {self.folder}/canary.conf; }}\n"
        )

    def _wait(self) -> None:
        until = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None and time.monotonic() < until, (self.folder / "error.log").read_text()
                time.sleep(0.02)

    def share(self, text: str) -> None:
        """Writes the share, reloads, and waits until only the new worker takes connections."""
        self.write(text)
        before = self.workers()
        subprocess.run([*self.command, "-s", "reload"], check=True)
        until = time.monotonic() + 20
        while not (now := self.workers()) or now & before:
            assert time.monotonic() < until
            time.sleep(0.02)

    def workers(self) -> set[str]:
        done = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return {line.split()[0] for line in done.stdout.splitlines() if "shutting down" not in line}

    def side(self, cookie: str = "") -> str:
        """Who answers there: the gateway says 426 to a plain request for a socket, Daphne knows no such page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/ws/community/presence/", headers={"Cookie": cookie} if cookie else {})
            return "gateway" if connection.getresponse().status == 426 else "daphne"
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def nginx(gateway, daphne, tmp_path_factory):  # noqa: F811
    running = Nginx(tmp_path_factory.mktemp("nginx"), gateway.public, daphne)
    yield running
    running.stop()


def come(nginx, room, user, cookie) -> Tab:
    query = f"?connection_token={connection_token(user)}"
    headers = {"Cookie": cookie}
    tab = Tab(f"ws://127.0.0.1:{nginx.port}/ws/community/room/{room.pk}/{query}", additional_headers=headers, origin=ORIGIN)
    tab.until("user_joined", userId=str(user.pk))
    return tab


def test_a_browser_stays_on_its_side_and_the_first_are_among_the_more(nginx):
    browsers = [f"canary={uuid.UUID(int=number * 7919).hex}" for number in range(120)]

    def sides():
        found = {cookie: nginx.side(cookie) for cookie in browsers}
        assert found == {cookie: nginx.side(cookie) for cookie in browsers}  # asked again, the same
        return {cookie for cookie, side in found.items() if side == "gateway"}

    nginx.share("    1% gateway;\n    * daphne;")
    one = sides()
    nginx.share("    50% gateway;\n    * daphne;")
    half = sides()
    nginx.share("    * gateway;")
    assert sides() == set(browsers)
    nginx.share("    * daphne;")
    assert sides() == set()
    assert one <= half and len(one) < 10 and 35 < len(half) < 85
    nginx.share(SHARE)


def test_every_browser_gets_its_cookie_once(nginx):
    connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=20)
    connection.request("GET", "/api/auth/me/")
    answer = connection.getresponse()
    answer.read()
    (cookie,) = [value for name, value in answer.getheaders() if name.lower() == "set-cookie"]
    assert re.match(r"canary=[0-9a-f]{32}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax", cookie)
    connection.request("GET", "/api/auth/me/", headers={"Cookie": cookie.split(";")[0]})
    assert "set-cookie" not in {name.lower() for name, _ in connection.getresponse().getheaders()}
    connection.close()


def test_people_of_both_sides_talk_while_the_share_changes_and_changes_back(nginx):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    with come(nginx, room, ada, "community_side=daphne") as old, come(nginx, room, grace, "community_side=gateway") as new:
        shares = ["    10% gateway;\n    * daphne;", "    * gateway;", "    * daphne;"]
        for number, share in enumerate(shares):
            nginx.share(share)  # open sockets stay open
            old.send(type="send_message", content=f"old {number}")
            new.send(type="send_message", content=f"new {number}")
            for tab in (old, new):
                said = {tab.until("new_message")["message"]["content"] for _ in range(2)}
                assert said == {f"old {number}", f"new {number}"}
        nginx.share(SHARE)
    room.refresh_from_db()
    assert room.message_count == 6


def test_the_self_test_through_the_proxy(nginx, settings_of):
    said = io.StringIO()
    nginx.share("    * gateway;")
    with settings_of(PUBLIC_URL=f"ws://127.0.0.1:{nginx.port}", ORIGIN=ORIGIN):
        call_command("gateway_selftest", "--no-handover", "--user", people.user().pk, stdout=said, no_color=True)
    assert said.getvalue().endswith("All is well.\n")
    nginx.share(SHARE)
