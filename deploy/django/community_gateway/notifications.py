"""Who is told of a message when not looking, and how. The gateway decides when to ask (mention, reply, direct message);
the rules here decide again from the tables, because minutes may lie between the two."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.cache import BaseCache
from django.db.models import Q

from . import fcm
from .conf import config, model, model_or_none
from .models import Device, NotificationSettings
from .sessions import cache

logger = logging.getLogger("community_gateway")

KINDS = ("mention", "reply", "dm")
# What a membership's notification_level lets through.
LEVELS = {"all": KINDS, "mentions": ("mention", "reply"), "none": ()}
# So long the same notification is not sent to the same device again, whatever the queue repeats.
REPEAT_SECONDS = 3600
TITLES = {"mention": "{author} mentioned you in {room}", "reply": "{author} answered you in {room}",
          "dm": "{author} wrote to you"}


class TryLater(Exception):
    """Some devices could not be reached now; the others have what is theirs."""


def notify(kind: str, message_id: str, user_id: int) -> str:
    """Tells a user's devices of a message. Returns what happened, in a word or two, for the log.

    Raises TryLater when it is worth another attempt.
    """
    if cache().get(f"gateway:selftest:{user_id}") == "waiting":
        cache().set(f"gateway:selftest:{user_id}", "done", timeout=60)
        return "self-test"
    message = _message(message_id)
    if message is None:
        return "no such message"
    user = get_user_model()._default_manager.filter(pk=user_id, is_active=True).first()
    if user is None:
        return "no such user"
    if reason := why_not(kind, message, user):
        return reason
    settings = NotificationSettings.objects.filter(user=user).first()
    if settings is not None and not settings.push:
        return "push is off"
    if not fcm.is_configured():
        return "no Firebase"
    return _send(kind, message, list(Device.objects.filter(user=user).order_by("pk")))


def why_not(kind: str, message: Any, user: Any) -> str:
    """Why a user is not to be told of a message; empty when they are."""
    if kind not in KINDS:
        return "unknown kind"
    if message.is_hidden or message.message_type == "deleted":
        return "not to be seen"
    if message.author_id == user.pk:
        return "their own"
    if _blocked(message.author_id, user.pk):
        return "blocked"
    membership = model("membership")._default_manager.filter(room_id=message.room_id, user_id=user.pk).first()
    if membership is None:
        return "" if message.room.visibility == "public" else "no member"
    if membership.role == "banned" or not (membership.is_active or message.room.visibility == "public"):
        return "no member"
    if not membership.notifications_enabled or kind not in LEVELS.get(membership.notification_level, KINDS):
        return "muted"
    if membership.last_read_at is not None and membership.last_read_at >= message.created_at:
        return "read"
    return ""


def _message(message_id: str) -> Any:
    try:
        key = UUID(str(message_id))
    except ValueError:
        return None
    return model("message")._default_manager.select_related("room", "author").filter(pk=key).first()


def _blocked(one: Any, other: Any) -> bool:
    block = model_or_none("block")
    either = Q(blocker_id=one, blocked_id=other) | Q(blocker_id=other, blocked_id=one)
    return block is not None and block._default_manager.filter(either).exists()


def _send(kind: str, message: Any, devices: list[Device]) -> str:
    seen: BaseCache = cache()
    keys = {device.pk: f"gateway:notified:{kind}:{message.pk}:{device.pk}" for device in devices}
    due = [device for device in devices if seen.add(keys[device.pk], 1, timeout=REPEAT_SECONDS)]
    if not due:
        return "no device" if not devices else "sent before"
    names = {"author": message.author.get_username() if message.author else "Unknown", "room": message.room.name}
    body = message.content[: int(config.NOTIFICATION_TEXT)]
    page = config.PAGE_URL.format(room=message.room_id, message=message.pk)
    data = {"kind": kind, "roomId": str(message.room_id), "messageId": str(message.pk), "url": page}
    try:
        outcomes = fcm.send([device.token for device in due], TITLES[kind].format(**names), body, data)
    except Exception:
        seen.delete_many([keys[device.pk] for device in due])
        raise
    gone = [device.pk for device, outcome in zip(due, outcomes, strict=True) if outcome is fcm.Outcome.GONE]
    later = [device.pk for device, outcome in zip(due, outcomes, strict=True) if outcome is fcm.Outcome.LATER]
    if gone:
        Device.objects.filter(pk__in=gone).delete()
    sent = sum(outcome is fcm.Outcome.SENT for outcome in outcomes)
    logger.info("Notified of a %s: %d sent, %d dead, %d later", kind, sent, len(gone), len(later))
    if later:
        seen.delete_many([keys[one] for one in later])
        raise TryLater
    return f"{sent} sent"
