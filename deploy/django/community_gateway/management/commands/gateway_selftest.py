"""`manage.py gateway_selftest`: is everything between Django and a browser's socket as it should be?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...conf import model
from ...selftest import SelfTest


class Command(BaseCommand):
    help = "Sends a message through the public address and looks at it from every side; says what is wrong and how to mend it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", help="key of the user who connects; else the first active one of the staff")
        parser.add_argument("--other", help="key of a user to mention, who will see it; else one is made, and removed afterwards")
        parser.add_argument("--room", help="a room that the user may write in; else one is made, and removed afterwards")
        parser.add_argument("--timeout", type=float, default=5.0, help="seconds for an answer (default 5)")
        parser.add_argument("--no-handover", action="store_true",
                            help="do not wait for a worker to run a task that the gateway handed over")

    def handle(self, *_: Any, **options: Any) -> None:
        user = self._user(options["user"], is_staff=True)
        other = self._user(options["other"]) if options["other"] else None
        room = self._first(model("room")._default_manager.filter, options["room"]) if options["room"] else None
        if options["room"] and room is None:
            raise CommandError(f"There is no room {options['room']}.")
        wrong = 0
        test = SelfTest(user, other, room, options["timeout"], not options["no_handover"])
        for name, well, problem in test.run():
            if problem is None:
                self.stdout.write(f"{self.style.SUCCESS('ok   ')} {name}: {well}")
            else:
                wrong += 1
                self.stdout.write(f"{self.style.ERROR('WRONG')} {name}: {problem.what}\n      {problem.advice}")
        if wrong:
            raise CommandError("The self-test failed.", returncode=1)
        self.stdout.write("All is well.")

    @staticmethod
    def _first(filtered: Callable[..., Any], key: str) -> Any:
        try:
            return filtered(pk=key).first()
        except (ValueError, ValidationError):
            return None  # not even of the shape of a key

    def _user(self, key: str | None, **wanted: Any) -> Any:
        users = get_user_model()._default_manager.filter(is_active=True)
        found = self._first(users.filter, key) if key else None
        if key is None:
            found = users.filter(**wanted).order_by("pk").first() or users.order_by("pk").first()
        if found is None:
            raise CommandError(f"There is no active user {key or ''}: name one.")
        return found
