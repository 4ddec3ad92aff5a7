"""E-mail digests: what was written to a user, or about them, and not read. Never ordinary room messages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.core.mail import send_mail
from django.db.models import F, Q
from django.template.loader import render_to_string
from django.utils import timezone

from .conf import config, model
from .models import NotificationSettings
from .notifications import why_not

# Nobody wants a mail about what is older, nor a longer one.
DAYS = 7
MOST = 20


class Line(NamedTuple):
    """One message in a digest."""

    kind: str
    author: str
    room: str
    text: str
    url: str
    at: datetime


def users_due(now: datetime | None = None) -> Iterator[int]:
    """Keys of those who may have something unread and were not written to for DIGEST_HOURS."""
    now = now or timezone.now()
    memberships = model("membership")._default_manager
    unread = Q(last_read_at=None) | Q(last_read_at__lt=F("room__last_message_at"))
    waiting = memberships.filter(
        unread, is_active=True, notifications_enabled=True, user__is_active=True,
        room__last_message_at__gte=now - timedelta(days=DAYS),
    ).exclude(notification_level="none").exclude(role="banned")
    recent = NotificationSettings.objects.filter(
        Q(email_digest=False) | Q(digest_sent_at__gt=now - timedelta(hours=config.DIGEST_HOURS))
    )
    keys = waiting.exclude(user_id__in=recent.values("user_id")).order_by().values_list("user_id", flat=True).distinct()
    yield from keys.iterator(chunk_size=2000)


def send(user_id: int, now: datetime | None = None) -> int:
    """Writes to one user. Returns how many messages the mail speaks of; 0 when there is none."""
    now = now or timezone.now()
    user = get_user_model()._default_manager.filter(pk=user_id, is_active=True).first()
    if user is None or not user.email:
        return 0
    settings, _ = NotificationSettings.objects.get_or_create(user=user)
    pause = timedelta(hours=config.DIGEST_HOURS)
    before = settings.digest_sent_at
    if not settings.email_digest or (before is not None and before > now - pause):
        return 0
    found = lines(user, max(before or now - timedelta(days=DAYS), now - timedelta(days=DAYS)))
    if not found:
        return 0
    # Claimed before it is sent: a second worker that runs the same task finds it done. A mail that fails is given back.
    claimed = NotificationSettings.objects.filter(pk=settings.pk, digest_sent_at=before).update(digest_sent_at=now)
    if not claimed:
        return 0
    context = {"user": user, "lines": found, "count": len(found)}
    subject = render_to_string("community_gateway/digest_subject.txt", context).strip()
    try:
        send_mail(subject, render_to_string("community_gateway/digest.txt", context), None, [user.email])
    except Exception:
        NotificationSettings.objects.filter(pk=settings.pk).update(digest_sent_at=before)
        raise
    return len(found)


def lines(user: Any, since: datetime) -> list[Line]:
    """The unread messages that a digest tells of, the newest first."""
    messages = model("message")._default_manager.select_related("room", "author", "reply_to")
    mine = messages.filter(
        Q(mentions__contains=[user.pk]) | Q(reply_to__author_id=user.pk) | Q(room__room_type="dm"),
        room__in=model("membership")._default_manager.filter(user_id=user.pk, is_active=True).values("room_id"),
        created_at__gt=since, is_hidden=False,
    ).exclude(author_id=user.pk).order_by("-created_at")
    found: list[Line] = []
    for message in mine[: 10 * MOST]:
        kind = _kind(message, user)
        if not why_not(kind, message, user):
            who = message.author.get_username() if message.author else "Unknown"
            url = config.PAGE_URL.format(room=message.room_id, message=message.pk)
            text = message.content[: int(config.NOTIFICATION_TEXT)]
            found.append(Line(kind, who, message.room.name, text, url, message.created_at))
        if len(found) == MOST:
            break
    return found


def _kind(message: Any, user: Any) -> str:
    if user.pk in message.mentions or str(user.pk) in message.mentions:
        return "mention"
    return "dm" if message.room.room_type == "dm" else "reply"
