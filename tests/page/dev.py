"""One run of deploy/dev."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from lines import Lines

ROOT = Path(__file__).resolve().parents[2]
GUARD = 60.0
START = 180.0  # seconds for all of it to start: migrations, Daphne, a worker, two gateways


class Dev:
    """deploy/dev from its start until it says that all is running. Its temporary folders lie in one of ours."""

    def __init__(self, temporary: str | None = None, **settings):
        self._own = None if temporary else tempfile.TemporaryDirectory(prefix="dev-test-", ignore_cleanup_errors=True)
        self.temporary = temporary or self._own.name
        os.chmod(self.temporary, 0o711)  # Postgres runs as another user
        environment = os.environ | {"TMPDIR": self.temporary} | {name: str(value) for name, value in settings.items()}
        self.process = subprocess.Popen(
            [ROOT / "deploy" / "dev"], env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            # Who runs the tests in the background ignores interrupts, children inherit that, and bash cannot undo it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._said = Lines(self.process.stdout, START)
        try:
            self.wait_for("Running; Ctrl-C ends everything")
        except AssertionError:
            self.close()
            raise
        self.site = self._address("Site").rstrip("/")
        self.page = self._address("Chat page").rstrip("/")
        self.database_url = self._address("Postgres")
        self.redis_url = self._address("Redis")
        self.gateways = [self._address("Gateway one"), self._address("Gateway two")]
        listed = [re.match(r"\s+Gateway \w+\s+\S+\s+(http://[^/]+)/readyz", line) for line in self._said.lines]
        self.operations = [found[1] for found in listed if found]

    def wait_for(self, *texts: str) -> str:
        """The first line of its log in which all of these stand."""
        return self._said.wait_for(*texts)

    def log(self) -> str:
        return self._said.log()

    def _address(self, what: str) -> str:
        [found] = [match[1] for line in self._said.lines if (match := re.match(rf"\s+{what}\s+(\S+)", line))]
        return found

    def sql(self, statement: str) -> str:
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.database_url, "-c", statement]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def user(self, name: str) -> str:
        """The key of one of the people."""
        return self.sql(f"SELECT id FROM users_user WHERE username = '{name}'")

    def forget_logins(self) -> None:
        """So that a test may log in more often than people may."""
        cache = self.redis_url.rsplit("/", 1)[0] + "/2"
        command = ["redis-cli", "-u", cache, "DEL", "allthrive:1:throttle_login_127.0.0.1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def publish(self, channel: str, message: str) -> None:
        command = ["redis-cli", "-u", self.redis_url, "PUBLISH", channel, message]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    @contextlib.contextmanager
    def redis_away(self):
        """Redis answers nobody meanwhile."""
        command = ["redis-cli", "-u", self.redis_url, "INFO", "server"]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        process = int(re.search(r"process_id:(\d+)", told)[1])
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    def left_behind(self) -> list[str]:
        """Processes and folders of this run that are still there: all of them know its temporary folder."""
        needle = f"TMPDIR={self.temporary}".encode()
        left = [str(path) for path in Path(self.temporary).iterdir()]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if needle in (process / "environ").read_bytes().split(b"\0"):
                    left.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                pass  # gone meanwhile, or not ours
        return left

    def interrupt(self) -> int:
        """Ends it as Ctrl-C does, and returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(GUARD)

    def kill(self) -> None:
        """Kills the script without warning."""
        self.process.kill()
        self.process.wait(GUARD)

    def close(self) -> None:
        if self.process.poll() is None:
            try:
                self.interrupt()
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        self._said.join(GUARD)
        self.process.stdout.close()
        if self._own:
            self._own.cleanup()
