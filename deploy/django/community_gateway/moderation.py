"""A moderator's decisions: the rows they write, and what the sockets are told.

Each is one transaction with the rows locked, so that two moderators who decide at once leave one decision; each but an
escalation leaves an action (who, what, why, until when); each that changes what somebody sees is announced after the commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from . import announce
from .conf import model, model_or_none
from .publishing import control, publish
from .quiet import acting, quietly
from .sessions import log_out_everywhere

DELETED_TEXT = "[Message deleted]"
# Roles that a mute or a ban takes away, and that come back as `member` when it ends.
PUNISHED = {"mute": "muted", "ban": "banned"}
# In `ai_scores` of an action, which has no other place for it: that this ban closed the account. A room that is gone leaves
# its actions without one, so that an empty `target_room` says nothing.
CLOSED = "closed_account"


def approve(item: Any, moderator: Any, notes: str = "") -> None:
    """The message is fine: it is shown, and nothing about it waits any more."""
    with _deciding(item, moderator, "approved", notes) as message:
        was_hidden = message.is_hidden
        message.is_hidden = message.is_flagged = False
        _save(message, "is_hidden", "is_flagged")
        _record("approve", moderator, message, notes)
        if was_hidden:
            announce.message_decided(message, "approved")


def hide(item: Any, moderator: Any, notes: str = "") -> None:
    """Nobody sees the message; its row stays as it is."""
    with _deciding(item, moderator, "rejected", notes) as message:
        message.is_hidden = True
        _save(message, "is_hidden")
        _record("hide", moderator, message, notes)
        announce.message_decided(message, "hidden")


def delete(item: Any, moderator: Any, notes: str = "") -> None:
    """The message's text is gone; `[Message deleted]` stays in its place."""
    with _deciding(item, moderator, "rejected", notes) as message:
        blank(message)
        _record("delete", moderator, message, notes)
        announce.message_decided(message, "deleted")


def escalate(item: Any, moderator: Any, notes: str = "") -> None:
    """Somebody else must decide. Nothing changes for the room."""
    with _deciding(item, moderator, "escalated", notes):
        pass


def warn(item: Any, moderator: Any, notes: str = "") -> None:
    """The author is told; the message and its place in the queue stay as they are."""
    message = _about(item, moderator)
    with transaction.atomic():
        memberships = model("membership")._default_manager
        memberships.filter(room_id=message.room_id, user_id=message.author_id).update(
            warnings_count=F("warnings_count") + 1, updated_at=timezone.now()
        )
        _record("warn", moderator, message, notes)
        _tell_author(message, "warned", notes)


def mute(item: Any, moderator: Any, notes: str = "", expires_at: datetime | None = None) -> None:
    """The author reads on in that room, and does not write."""
    _punish("mute", item, moderator, notes, expires_at)


def ban(item: Any, moderator: Any, notes: str = "", expires_at: datetime | None = None, everywhere: bool = False) -> None:
    """The author neither reads nor writes: in that room, or anywhere."""
    if not everywhere:
        _punish("ban", item, moderator, notes, expires_at)
        return
    message = _about(item, moderator)
    with transaction.atomic(), quietly():
        users = get_user_model()._default_manager.filter(pk=message.author_id, is_active=True)
        closed = bool(users.update(is_active=False)) or _closing(message.author_id).exists()
        _record("ban", moderator, message, notes, expires_at, room=None, found={CLOSED: closed})
        log_out_everywhere(message.author_id)
        control("disconnect", user=message.author_id)


def end_expired(now: datetime | None = None) -> int:
    """Ends the mutes and bans whose time is over. Returns how many."""
    actions = model("action")._default_manager
    now = now or timezone.now()
    ended = 0
    due = actions.filter(is_active=True, action_type__in=PUNISHED, expires_at__lte=now).values_list("pk", flat=True)
    for key in list(due):
        with transaction.atomic(), quietly():
            action = actions.select_for_update(of=("self",)).filter(pk=key, is_active=True).first()
            if action is None:
                continue  # another worker was faster
            action.is_active = False
            action.save(update_fields=["is_active"])
            ended += 1
            _release(action)
    return ended


def account_opened(user: Any) -> None:
    """Somebody opened an account that a ban had closed: that ban is over, and its end will change nothing any more."""
    if model_or_none("action") is not None:
        _closing(user.pk).update(is_active=False)


def blank(message: Any) -> None:
    """Writes what the gateway writes for a deleted message."""
    message.message_type, message.content = "deleted", DELETED_TEXT
    message.attachments, message.embeds, message.mentions, message.is_pinned = [], [], [], False
    _save(message, "message_type", "content", "attachments", "embeds", "mentions", "is_pinned")


# ---- the parts -----------------------------------------------------------------------------------------------------


@contextmanager
def _deciding(item: Any, moderator: Any, status: str, notes: str) -> Iterator[Any]:
    """Locks an item and its message, lets the body change the message, and closes the item."""
    with transaction.atomic(), quietly(), acting(moderator):
        locked = model("queue")._default_manager.select_for_update(of=("self",)).get(pk=item.pk)
        messages = model("message")._default_manager.select_for_update(of=("self",)).select_related("room")
        yield messages.get(pk=locked.message_id)
        now = timezone.now()
        locked.status, locked.reviewed_by, locked.reviewed_at, locked.updated_at = status, moderator, now, now
        locked.review_notes = notes or locked.review_notes
        locked.save(update_fields=["status", "reviewed_by", "reviewed_at", "review_notes", "updated_at"])


def _save(message: Any, *fields: str) -> None:
    message.updated_at = timezone.now()
    message.save(update_fields=[*fields, "updated_at"])


def _about(item: Any, moderator: Any) -> Any:
    """The item's message, if its author is somebody whom this moderator may punish."""
    message = model("message")._default_manager.select_related("room", "author").get(pk=item.message_id)
    if message.author is None:
        raise PermissionDenied("The author's account is gone.")
    if message.author.pk == moderator.pk:
        raise PermissionDenied("Nobody punishes themselves.")
    if message.author.is_staff and not moderator.is_superuser:
        raise PermissionDenied("Only a superuser may punish staff.")
    return message


def _punish(what: str, item: Any, moderator: Any, notes: str, expires_at: datetime | None) -> None:
    message = _about(item, moderator)
    with transaction.atomic(), quietly():
        role = PUNISHED[what]
        membership, created = model("membership")._default_manager.select_for_update(of=("self",)).get_or_create(
            room_id=message.room_id, user_id=message.author_id,
            # Somebody who is no member of a public room: the row carries the role, and counts for nothing.
            defaults={"role": role, "is_active": False},
        )
        if not created:
            membership.role, membership.updated_at = role, timezone.now()
            membership.save(update_fields=["role", "updated_at"])
        _record(what, moderator, message, notes, expires_at)
        control("refresh", room=message.room_id, user=message.author_id)
        if what == "ban":
            control("kick", room=message.room_id, user=message.author_id)


def _closing(user: Any) -> Any:
    """The bans that keep an account closed."""
    return model("action")._default_manager.filter(
        action_type="ban", target_user_id=user, is_active=True, **{f"ai_scores__{CLOSED}": True}
    )


def _release(action: Any) -> None:
    """Gives back what an action took away, and only that, unless another still stands."""
    if action.action_type == "ban" and action.ai_scores.get(CLOSED) is True:
        if _closing(action.target_user_id).exists():
            return
        get_user_model()._default_manager.filter(pk=action.target_user_id).update(is_active=True)
    elif action.target_room_id is not None:
        where = {"target_user_id": action.target_user_id, "target_room_id": action.target_room_id}
        same = model("action")._default_manager.filter(action_type=action.action_type, is_active=True, **where)
        if same.exists():
            return
        model("membership")._default_manager.filter(
            room_id=action.target_room_id, user_id=action.target_user_id, role=PUNISHED[action.action_type]
        ).update(role="member", updated_at=timezone.now())
    else:
        return  # a room that is gone, or an account that was closed by somebody else
    model("action")._default_manager.create(
        action_type=f"un{action.action_type}", source="system", reason="The time is over.", is_active=False,
        expires_at=None, ai_scores={}, moderator=None, target_message_id=None,
        target_user_id=action.target_user_id, target_room_id=action.target_room_id,
    )
    control("refresh", room=action.target_room_id, user=action.target_user_id)


def _record(what: str, moderator: Any, message: Any, reason: str, expires_at: datetime | None = None,
            room: Any = "the message's", found: dict[str, bool] | None = None) -> None:
    if message.author_id is None:
        return  # an action has a target, and this one's account is gone
    model("action")._default_manager.create(
        action_type=what, source="admin", reason=reason, expires_at=expires_at, is_active=True, ai_scores=found or {},
        moderator=moderator, target_message_id=message.pk, target_user_id=message.author_id,
        target_room_id=message.room_id if room is not None else None,
    )


def _tell_author(message: Any, action: str, reason: str) -> None:
    """Of a warning. What is hidden or deleted the gateway tells the author by itself."""
    event = {"event": "moderation", "roomId": str(message.room_id), "messageId": str(message.pk), "action": action,
             "reason": reason}
    publish(user=message.author_id, event=event)
