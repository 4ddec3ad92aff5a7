"""The settings, in one place: `COMMUNITY_GATEWAY = {...}` in the project's settings, with defaults for all of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.signals import setting_changed
from django.db.models import Model

# What the signals may publish or queue; SIGNALS in the settings is any part of these.
SIGNALS = ("message_created", "message_changed", "thread", "membership", "room", "block", "user", "notification", "logout")

# The project's models, by what they are to us.
MODELS: dict[str, str] = {
    "room": "community.Room",
    "message": "community.Message",
    "thread": "community.Thread",
    "membership": "community.RoomMembership",
    "dm": "community.DirectMessageThread",
    "block": "community.UserBlock",
    "queue": "community.ModerationQueue",
    "action": "community.ModerationAction",
    "circle_membership": "thrive_circle.CircleMembership",
}

# What a message is to somebody, and the task that tells them.
TASKS: dict[str, str] = {
    kind: os.environ.get(f"GATEWAY_TASK_{kind.upper()}", f"community_gateway.tasks.notify_{kind}")
    for kind in ("mention", "reply", "dm")
}



def _number(name: str, default: float) -> float:
    try:
        return float(os.environ.get(name) or default)
    except ValueError:
        return default


def _levels(text: str) -> dict[str, tuple[float, float]]:
    """`category=flag:block`, comma separated, as the gateway reads it. What is not of that form is the gateway's to refuse."""
    found = {}
    for part in text.split(","):
        category, _, levels = part.partition("=")
        flag, _, block = levels.partition(":")
        try:
            found[category.strip()] = (float(flag), float(block))
        except ValueError:
            continue
    return found


DEFAULTS: dict[str, Any] = {
    # The gateway's GATEWAY_REDIS_URL: where it listens for what Django publishes.
    "REDIS_URL": os.environ.get("GATEWAY_REDIS_URL", "redis://127.0.0.1:6379/3"),
    # Seconds that connecting, or one answer, may take. A request is never held up for longer than twice this.
    "REDIS_TIMEOUT": 0.5,
    # Seconds without another attempt after Redis did not answer, so that a request pays once and not for each event.
    "REDIS_PAUSE": 5.0,
    # How events reach the sockets: "redis", or "channels" while some of them are still on Daphne.
    "TRANSPORT": "redis",
    # All but `logout`: with it, a user's sockets end when one of their sessions logs out.
    "SIGNALS": [kind for kind in SIGNALS if kind != "logout"],
    # Whether the moderation queue appears in Django's admin; False for a project that has its own.
    "ADMIN": True,
    # From which score on a message waits for a human, and from which on it is hidden, for the admin's words; by category
    # where one has levels of its own. As the gateway's GATEWAY_MODERATION_FLAG_FROM, _BLOCK_FROM and _CATEGORIES.
    "FLAG_FROM": _number("GATEWAY_MODERATION_FLAG_FROM", 0.3),
    "BLOCK_FROM": _number("GATEWAY_MODERATION_BLOCK_FROM", 0.7),
    "CATEGORIES": _levels(os.environ.get("GATEWAY_MODERATION_CATEGORIES", "")),
    "MODELS": MODELS,
    # Connection tokens and session versions: Django's cache of this name, as the gateway's GATEWAY_CACHE_* say.
    "CACHE": "default",
    "TOKEN_SECONDS": 60,
    "SESSION_VERSION_SECONDS": 90 * 86_400,
    # What a browser connects to, and what it says of itself. The self-test uses both.
    "PUBLIC_URL": "ws://127.0.0.1:8001",
    "ORIGIN": "",
    # The private listeners of all instances, for gateway_status.
    "OPS_URLS": ["http://127.0.0.1:9101"],
    # The tasks that messages of Django's own queue, by the same names as the gateway's GATEWAY_TASK_*; empty turns one off.
    "TASKS": TASKS,
    # Their queue, as the gateway's GATEWAY_TASK_NOTIFY_QUEUE; empty leaves it to Celery's routes.
    "TASK_QUEUE": os.environ.get("GATEWAY_TASK_NOTIFY_QUEUE", ""),
    # Where a notification leads: {room} and {message} are filled in.
    "PAGE_URL": "/community/{room}?message={message}",
    # firebase-admin: the path of the service account's JSON; empty turns push notifications off.
    "FIREBASE_CREDENTIALS": "",
    # Longest text of a message in a notification; 0 sends none, for who wants no text at Google's.
    "NOTIFICATION_TEXT": 120,
    # At least so many hours between two e-mail digests for one user.
    "DIGEST_HOURS": 24,
}


class Config:
    """The settings as attributes: `config.REDIS_URL`."""

    def __init__(self) -> None:
        self._given: dict[str, Any] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What the project set, over the defaults."""
        if self._given is None:
            own = getattr(settings, "COMMUNITY_GATEWAY", {})
            merged = DEFAULTS | (dict(own) if isinstance(own, Mapping) else {})
            models = merged["MODELS"]
            merged["MODELS"] = MODELS | (dict(models) if isinstance(models, Mapping) else {})
            tasks = merged["TASKS"]
            merged["TASKS"] = TASKS | (dict(tasks) if isinstance(tasks, Mapping) else {})
            self._given = merged
        return self._given

    def __getattr__(self, name: str) -> Any:
        try:
            return self.given[name]
        except KeyError:
            raise AttributeError(f"COMMUNITY_GATEWAY has no setting {name}") from None

    def forget(self) -> None:
        """Reads the settings again at the next use."""
        self._given = None


config = Config()


def model(name: str) -> type[Any]:
    """The project's model for one of our names. Raises LookupError when there is none."""
    found: type[Model] = apps.get_model(config.MODELS[name])
    return found


def model_or_none(name: str) -> type[Any] | None:
    """The project's model, or None where the project has none."""
    try:
        return model(name) if config.MODELS.get(name) else None
    except (LookupError, ValueError):
        return None


def _changed(*, setting: str, **_: Any) -> None:
    if setting == "COMMUNITY_GATEWAY":
        config.forget()


setting_changed.connect(_changed, dispatch_uid="community_gateway.conf")
