"""What a process writes, line by line, for those who wait for it."""

import threading
from collections.abc import Iterable


class Lines:
    """Reads a stream to its end in a thread of its own."""

    def __init__(self, stream: Iterable[str], guard: float):
        self.lines: list[str] = []
        self._stream, self._guard = stream, guard
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._stream:
            self._add(line.rstrip("\n"))
        self._add("(end)")

    def _add(self, line: str) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()

    def wait_for(self, *texts: str) -> str:
        """The first line in which all of these stand."""
        def found() -> str | None:
            return next((line for line in self.lines if all(text in line for text in texts)), None)

        with self._news:
            self._news.wait_for(lambda: found() or self.lines[-1:] == ["(end)"], self._guard)
            line = found()
        assert line, f"never said {texts!r}:\n" + self.log()
        return line

    def log(self) -> str:
        return "\n".join(self.lines[-60:])

    def join(self, seconds: float) -> None:
        self._reader.join(seconds)
