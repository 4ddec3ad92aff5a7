"""One running community-gateway, and the Postgres and Redis under it."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUARD = 30.0  # seconds after which something that was to happen has not
ORIGIN = "https://chat.example.org"


def binary() -> Path:
    """The program under test: GATEWAY_BIN, else cargo's debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    path = Path(os.environ.get("GATEWAY_BIN") or target / "debug" / "community-gateway")
    if not path.exists():
        raise SystemExit(f"{path} is missing: `cargo build`, or set GATEWAY_BIN")
    return path


class Stack:
    """A private Postgres and Redis (deploy/devstack)."""

    def __init__(self):
        command = [ROOT / "deploy" / "devstack"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("deploy/devstack did not start (see above)")
        self.urls = json.loads(line)

    def stop(self) -> None:
        self._process.stdin.close()  # at which it ends everything
        self._process.stdout.close()
        self._process.wait(GUARD)


class Gateway:
    """A process of its own, on ports of its own. What it logs is kept."""

    def __init__(self, stack: Stack, secret_key: str, name: str, **settings):
        self.name = name
        self.lines: list[str] = []
        self._news = threading.Condition()
        environment = {
            "DATABASE_URL": stack.urls["database_url"],
            "GATEWAY_REDIS_URL": stack.urls["redis_url"],
            "GATEWAY_CACHE_URL": stack.urls["cache_url"],
            "GATEWAY_BROKER_URL": stack.urls["broker_url"],
            "SECRET_KEY": secret_key,
            "CORS_ALLOWED_ORIGINS": ORIGIN,
            "GATEWAY_LISTEN": "127.0.0.1:0",
            "GATEWAY_OPS_LISTEN": "127.0.0.1:0",
            "GATEWAY_INSTANCE": name,
            "GATEWAY_LOG_FORMAT": "json",
            "GATEWAY_DRAIN_SECONDS": "2",
        } | {key: str(value) for key, value in settings.items()}
        self._process = subprocess.Popen(
            [binary(), "serve"], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.public = self._listener("public")
        self.ops = self._listener("ops")

    def _read(self) -> None:
        for line in self._process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        self._process.stderr.close()
        with self._news:
            self.lines.append("")  # wakes who waits for a line that never came
            self._news.notify_all()

    def wait_for_log(self, message: str, **fields) -> dict:
        """The first line of the log with this message and these fields."""
        looked_at = 0

        def found():
            nonlocal looked_at
            for line in self.lines[looked_at:]:
                looked_at += 1
                said = parsed(line)
                if said.get("message") == message and fields.items() <= said.items():
                    return said
            return self._process.poll() is not None and {}

        with self._news:
            said = self._news.wait_for(found, GUARD)
        if not said:
            raise AssertionError(f"{self.name} never logged {message!r} {fields}; its log:\n" + "\n".join(self.lines))
        return said

    def _listener(self, listener: str) -> str:
        return self.wait_for_log("listening", listener=listener)["address"]

    def begin_stop(self) -> None:
        """Asks it to end, and does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Asks it to end; the exit code."""
        self.begin_stop()
        return self.ended()

    def kill(self) -> None:
        """Ends it without a word, as a crash would."""
        self._process.kill()
        self.ended()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def ended(self) -> int:
        """Waits for its end; the exit code."""
        return self._process.wait(GUARD)


def parsed(line: str) -> dict:
    """A line of the log; its fields stand at the top or under `fields`."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said | said.get("fields", {}) if isinstance(said, dict) else {}
