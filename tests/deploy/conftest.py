"""What the checks of the artefacts share: places, tools beside the interpreter, two real gateways, ports, a real nginx."""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
sys.path.append(str(ROOT / "tests" / "interop"))

from gateway import GUARD, ORIGIN, Gateway, Stack, binary  # noqa: E402 (its folder must be known first)

SECRET_KEY = "for tests only, and long enough for every HMAC that there is"
LOUNGE = "/ws/community/room/10000000-0000-4000-8000-000000000001/"


def tool(name: str, *arguments, **options) -> str:
    """Runs a program that a requirement brought; its output, or why it failed."""
    path = Path(sys.executable).parent / name
    command = [path if path.exists() else name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=options.pop("cwd", ROOT), **options)
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def eventually(what: str, check, guard: float = GUARD):
    """The first answer that is true; asks again and again."""
    until = time.monotonic() + guard
    while True:
        if answer := check():
            return answer
        assert time.monotonic() < until, f"never: {what}"
        time.sleep(0.05)


def fetch(url: str, body: bytes | None = None, **headers) -> tuple[int, str]:
    """GET, or POST with a body: status and body; (0, why) when nobody answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=GUARD) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


class Nginx:
    """deploy/nginx in a folder of its own, with other addresses; nginx beside it."""

    def __init__(self, folder: Path, site: str, more: dict[str, str] | None = None):
        """`more`: what else is changed in the configuration, by what stands there."""
        self.folder, self.port = folder, free_port()
        community = folder / "community"
        community.mkdir()
        shutil.copy("/etc/nginx/mime.types", folder)
        for name in ("nginx.conf", "community/community.conf", "community/share.conf"):
            text = (DEPLOY / "nginx" / Path(name).name).read_text()
            changes = {" /tmp/": f" {folder}/", "listen 8080;": f"listen 127.0.0.1:{self.port};", "/srv/static/": f"{folder}/static/",
                       "/dev/stdout": f"{folder}/access.log", "/dev/stderr": f"{folder}/error.log", "65536": "2048",
                       "worker_processes auto": "worker_processes 1"} | (more or {})
            for ours, theirs in changes.items():
                text = text.replace(ours, theirs)
            (folder / name).write_text(text)
        self.write_site(site)
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"
        self.command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        self.process = subprocess.Popen([*self.command, "-g", "daemon off;"])
        eventually("nginx listens", self._listens)

    def write_site(self, text: str) -> None:
        (self.folder / "community" / "site.conf").write_text(text)

    def _listens(self) -> bool:
        assert self.process.poll() is None, (self.folder / "error.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def workers(self) -> set[str]:
        done = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return {line.split()[0] for line in done.stdout.splitlines() if "shutting down" not in line}

    def replaced(self, change) -> None:
        """Does what reloads nginx, and waits until only new workers take connections."""
        before = self.workers()
        change()
        eventually("new workers", lambda: (now := self.workers()) and not now & before)

    def share(self, percent) -> str:
        """deploy/nginx/share, as an operator types it."""
        said = []
        environment = {"NGINX_COMMAND": " ".join(self.command), "PATH": "/usr/bin:/bin"}
        self.replaced(lambda: said.append(tool(DEPLOY / "nginx" / "share", percent, self.folder / "community", env=environment)))
        return said[0]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(GUARD)


@pytest.fixture(scope="session")
def stack():
    running = Stack()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def gateways(stack):
    """Two of them, without the limits that a test's haste would meet, behind a proxy on this machine."""
    free = {f"GATEWAY_LIMIT_{name}": 0 for name in ("MESSAGES_PER_MINUTE", "MESSAGES_PER_HOUR", "CONNECTS_PER_MINUTE")}
    settings = free | {"GATEWAY_TRUSTED_PROXIES": "127.0.0.1", "GATEWAY_LIMIT_CONNECTIONS_PER_ADDRESS": 3}
    running = [Gateway(stack, SECRET_KEY, name, **settings) for name in ("gateway-1", "gateway-2")]
    yield running
    assert [gateway.stop() for gateway in running] == [0, 0]


@pytest.fixture(scope="session")
def token(stack):
    """Makes a connection token for a user of the seed."""
    names = {"DATABASE_URL": "database_url", "GATEWAY_CACHE_URL": "cache_url"}
    environment = {name: stack.urls[url] for name, url in names.items()}
    return lambda user: tool(binary(), "token", "--user", user, env=environment).strip()


__all__ = ["DEPLOY", "GUARD", "Gateway", "LOUNGE", "Nginx", "ORIGIN", "ROOT", "SECRET_KEY", "binary", "eventually", "fetch", "free_port", "tool"]
