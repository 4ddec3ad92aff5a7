"""`manage.py gateway_status`: what every gateway of OPS_URLS says of itself."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...conf import config

# What is shown of the metrics, and how it is called.
SHOWN = {
    "community_gateway_sockets_open": "sockets",
    "community_gateway_topics_open": "rooms and conversations",
    "community_gateway_write_queue": "messages waiting to be written",
    "community_gateway_messages_stored_total": "messages written since its start",
}


class Command(BaseCommand):
    help = "Asks every gateway of OPS_URLS whether it is ready, and how many sockets it holds."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--timeout", type=float, default=3.0, help="seconds for an answer (default 3)")

    def handle(self, *_: Any, **options: Any) -> None:
        if not config.OPS_URLS:
            raise CommandError("COMMUNITY_GATEWAY['OPS_URLS'] names no gateway.")
        not_ready = 0
        for url in config.OPS_URLS:
            status, body = self._get(f"{url}/readyz", options["timeout"])
            if status != 200:
                not_ready += 1
                self.stdout.write(f"{self.style.ERROR(url)} {self._why(status, body)}")
                continue
            values = self._metrics(self._get(f"{url}/metrics", options["timeout"])[1])
            said = ", ".join(f"{values[name]:.0f} {words}" for name, words in SHOWN.items() if name in values)
            self.stdout.write(f"{self.style.SUCCESS(url)} ready: {said}")
        if not_ready:
            raise CommandError(f"{not_ready} of {len(config.OPS_URLS)} not ready.", returncode=1)

    @staticmethod
    def _get(url: str, timeout: float) -> tuple[int, str]:
        """Status and body; status 0 and why when nobody answers."""
        try:
            with urllib.request.urlopen(url, timeout=timeout) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except (OSError, ValueError) as error:
            return 0, str(getattr(error, "reason", error))

    @staticmethod
    def _why(status: int, body: str) -> str:
        if status == 0:
            return f"does not answer ({body}): is it running, and is its GATEWAY_OPS_LISTEN reachable from here?"
        try:
            return f"not ready: {json.dumps(json.loads(body), ensure_ascii=False)}"
        except ValueError:
            return f"answers with HTTP {status}: is this a gateway's private listener?"

    @staticmethod
    def _metrics(text: str) -> dict[str, float]:
        return {name: float(value) for name, value in re.findall(r"^(\w+) ([0-9.e+]+)$", text, re.MULTILINE)}
