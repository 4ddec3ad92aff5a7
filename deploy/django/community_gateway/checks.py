"""System checks: what is wrong with the settings, before anything runs with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from .conf import DEFAULTS, MODELS, SIGNALS, TASKS, config

# The columns without which a model cannot be what the settings say it is.
NEEDED_FIELDS = {
    "room": ("room_type", "visibility", "is_active", "is_archived"),
    "message": ("room", "author", "content", "message_type", "is_hidden", "is_pinned", "created_at"),
    "thread": ("room", "message_count"),
    "membership": ("room", "user", "role", "is_active", "notification_level"),
    "dm": ("room", "participants"),
    "block": ("blocker", "blocked"),
    "queue": ("message", "status", "ai_scores", "report_count"),
    "action": ("action_type", "target_user", "target_room", "expires_at", "is_active"),
    "circle_membership": ("circle", "user", "is_active"),
}


def check(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Everything that is wrong, at once."""
    own = getattr(settings, "COMMUNITY_GATEWAY", {})
    if not isinstance(own, dict):
        return [Error("COMMUNITY_GATEWAY is not a dict.", id="community_gateway.E001")]
    problems = [*_names(own, DEFAULTS, "COMMUNITY_GATEWAY"), *_values(), *_models()]
    if config.TRANSPORT == "channels" and find_spec("channels") is None:
        problems.append(Error("TRANSPORT is 'channels', but Channels is not installed.", id="community_gateway.E006"))
    if config.FIREBASE_CREDENTIALS and find_spec("firebase_admin") is None:
        problems.append(
            Error("FIREBASE_CREDENTIALS is set, but firebase-admin is not installed.",
                  hint="pip install 'community-gateway-django[firebase]'", id="community_gateway.E007")
        )
    return problems


def _names(given: Iterable[str], known: Iterable[str], where: str) -> Iterable[CheckMessage]:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), 1)
            hint = f"Did you mean {near[0]}?" if near else None
            yield Warning(f"{where} has no setting {name!r}.", hint=hint, id="community_gateway.W002")


def _values() -> Iterable[CheckMessage]:
    def wrong(name: str, what: str) -> Error:
        return Error(f"COMMUNITY_GATEWAY['{name}'] {what}.", id="community_gateway.E003")

    for name, schemes in {
        "REDIS_URL": ("redis", "rediss", "unix"),
        "PUBLIC_URL": ("ws", "wss"),
    }.items():
        value = config.given[name]
        if not isinstance(value, str) or urlsplit(value).scheme not in schemes:
            yield wrong(name, f"is not an address that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    for name in ("REDIS_TIMEOUT", "TOKEN_SECONDS", "SESSION_VERSION_SECONDS", "DIGEST_HOURS"):
        value = config.given[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            yield wrong(name, "is not a number above 0")
    for name in ("REDIS_PAUSE", "NOTIFICATION_TEXT", "FLAG_FROM", "BLOCK_FROM"):
        value = config.given[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            yield wrong(name, "is not a number of 0 or more")
    if config.TRANSPORT not in ("redis", "channels"):
        yield wrong("TRANSPORT", "is neither 'redis' nor 'channels'")
    if config.CACHE not in settings.CACHES:
        yield wrong("CACHE", "names no cache of CACHES")
    if not isinstance(config.SIGNALS, list | tuple | set) or set(config.SIGNALS) - set(SIGNALS):
        yield wrong("SIGNALS", f"is not a list made of {', '.join(SIGNALS)}")
    levels = config.CATEGORIES
    if not isinstance(levels, dict) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(type(one) in (int, float) for one in pair)
        for pair in levels.values()
    ):
        yield wrong("CATEGORIES", "is not a dict from categories to two numbers each")
    given = getattr(settings, "COMMUNITY_GATEWAY", {}).get("TASKS", {})
    if not isinstance(given, dict) or set(given) - set(TASKS) or not all(isinstance(name, str) for name in given.values()):
        yield wrong("TASKS", f"is not a dict from {', '.join(TASKS)} to names of tasks")
    if not isinstance(config.OPS_URLS, list | tuple):
        yield wrong("OPS_URLS", "is not a list of addresses")


def _models() -> Iterable[CheckMessage]:
    own = getattr(settings, "COMMUNITY_GATEWAY", {}).get("MODELS", {})
    if not isinstance(own, dict):
        yield Error("COMMUNITY_GATEWAY['MODELS'] is not a dict.", id="community_gateway.E003")
        return
    yield from _names(own, MODELS, "COMMUNITY_GATEWAY['MODELS']")
    for name, label in config.MODELS.items():
        if name not in MODELS or not label:
            continue  # an empty label says that the project has none
        try:
            found = apps.get_model(label)
        except (LookupError, ValueError):
            yield Error(
                f"COMMUNITY_GATEWAY['MODELS']['{name}'] is {label!r}, and there is no such model.",
                hint="Name the project's own model, or an empty string when it has none.", id="community_gateway.E004",
            )
            continue
        fields = {field.name for field in found._meta.get_fields()}
        if lacking := [field for field in NEEDED_FIELDS[name] if field not in fields]:
            yield Error(f"{label} cannot be the {name}: it lacks {', '.join(lacking)}.", id="community_gateway.E005")
