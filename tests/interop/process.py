"""A program of Django's side that runs beside the tests: Daphne, a Celery worker."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from gateway import GUARD, Stack


class Program:
    """`python -m …` with the stack in its environment. Its output is kept."""

    def __init__(self, stack: Stack, *arguments: str, **environment: str):
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=Path(__file__).parent,
            env=os.environ | {"STACK": json.dumps(stack.urls)} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        self._process.stdout.close()

    def wait_for(self, pattern: str) -> re.Match:
        """The first line that matches."""

        def found():
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._news:
            match = self._news.wait_for(found, GUARD)
        if not match:
            raise AssertionError(f"never said {pattern!r}:\n" + "\n".join(self.lines))
        return match

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(GUARD)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(GUARD)


class Daphne(Program):
    """The app's consumers on Daphne; `public` is its address."""

    def __init__(self, stack: Stack, layer: str):
        super().__init__(stack, "daphne", "-b", "127.0.0.1", "-p", "0", "djangoapp.asgi:application", LAYER=layer)
        self.public = f"127.0.0.1:{self.wait_for(r'Listening on TCP address 127.0.0.1:([1-9][0-9]*)')[1]}"


class Worker(Program):
    def __init__(self, stack: Stack):
        super().__init__(stack, "celery", "-A", "djangoapp.worker", "worker", "--pool", "solo", "--loglevel", "INFO")
        self.wait_for(r"ready\.")
