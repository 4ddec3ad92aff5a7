"""A third gateway beside those of deploy/dev, which a test may change and end without ending the rest."""

import os
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from dev import GUARD, ROOT, Dev
from lines import Lines

BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "community-gateway"


class Gateway:
    """One gateway on ports of its own. What may change while it runs stands in its settings file."""

    def __init__(self, dev: Dev, name: str, settings: str):
        self._folder = tempfile.TemporaryDirectory(prefix="page-gateway-")
        self._settings = Path(self._folder.name) / "settings"
        self.set(settings)
        redis = dev.redis_url.rsplit("/", 1)[0]
        self.environment = {
            "PATH": os.environ["PATH"], "DATABASE_URL": dev.database_url, "GATEWAY_REDIS_URL": dev.redis_url,
            "GATEWAY_CACHE_URL": redis + "/2", "SECRET_KEY": "only-for-development-and-known-to-everybody",
            "GATEWAY_INSTANCE": name, "GATEWAY_LISTEN": "127.0.0.1:0", "GATEWAY_OPS_LISTEN": "127.0.0.1:0",
            "GATEWAY_LOG_FORMAT": "text", "GATEWAY_WATCH_SECONDS": "0", "GATEWAY_CONFIG_FILE": str(self._settings),
        }
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", BINARY, "serve"], env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.said = Lines(self._process.stdout, GUARD)
        self.said.wait_for("serving")
        self._public = self._port("public")
        self.operations = f"http://127.0.0.1:{self._port('ops')}"

    def _port(self, listener: str) -> int:
        line = self.said.wait_for("listening", listener, "127.0.0.1:")
        return int(line.split("127.0.0.1:", 1)[1].split()[0].strip('"'))

    def set(self, settings: str) -> None:
        self._settings.write_text(settings)

    def enter_and_fall_silent(self, user: str, room: str) -> socket.socket:
        """A socket of somebody who hears nothing and says nothing any more, not even goodbye."""
        token = subprocess.run(
            [BINARY, "token", "--user", user], env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        silent = socket.create_connection(("127.0.0.1", self._public), GUARD)
        silent.sendall((
            f"GET /ws/community/room/{room}/?connection_token={token} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode())
        said = b""
        while b"room_state" not in said:  # then they are in the room
            part = silent.recv(4096)
            assert part, said
            said += part
        return silent

    def ready(self) -> int:
        """The status of /readyz; 0 when nobody listens any more."""
        try:
            with urllib.request.urlopen(self.operations + "/readyz", timeout=GUARD) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def exit_code(self) -> int:
        return self._process.wait(GUARD)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(GUARD)
        self.said.join(GUARD)
        self._process.stdout.close()
        self._folder.cleanup()
