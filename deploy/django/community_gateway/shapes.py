"""Rows as the gateway shows them to clients: the same fields, names and formats as its own events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

# How much of a message an answer to it shows.
PREVIEW_CHARACTERS = 200
NOBODY: dict[str, Any] = {"id": None, "username": "Unknown", "avatarUrl": None}


def time(value: datetime | None) -> str | None:
    """ISO 8601 in UTC with microseconds: `2026-11-22T13:37:40.475420+00:00`."""
    return value.astimezone(UTC).isoformat(timespec="microseconds") if value else None


def text(key: Any) -> str | None:
    """Keys are strings on the wire."""
    return None if key is None else str(key)


def author(user: Any) -> dict[str, Any]:
    """Who wrote a message; somebody whose account is gone is Unknown."""
    if user is None:
        return dict(NOBODY)
    return {"id": str(user.pk), "username": user.get_username(), "avatarUrl": getattr(user, "avatar_url", None) or None}


def message(row: Any) -> dict[str, Any]:
    """A message, with a preview of what it answers."""
    answered = row.reply_to if getattr(row, "reply_to_id", None) else None
    if answered is not None and (answered.is_hidden or answered.room_id != row.room_id):
        answered = None
    return {
        "id": str(row.pk),
        "roomId": str(row.room_id),
        "threadId": text(getattr(row, "thread_id", None)),
        "author": author(row.author),
        "content": row.content,
        "messageType": row.message_type,
        "attachments": list(getattr(row, "attachments", None) or []),
        "embeds": list(getattr(row, "embeds", None) or []),
        "mentions": list(getattr(row, "mentions", None) or []),
        "replyToId": text(answered.pk if answered else None),
        "replyTo": _preview(answered) if answered else None,
        "reactionCounts": dict(getattr(row, "reaction_counts", None) or {}),
        "isEdited": bool(getattr(row, "is_edited", False)),
        "editedAt": time(getattr(row, "edited_at", None)),
        "isPinned": row.is_pinned,
        "createdAt": time(row.created_at),
    }


def _preview(row: Any) -> dict[str, Any]:
    who = author(row.author)
    return {"id": str(row.pk), "content": row.content[:PREVIEW_CHARACTERS],
            "author": {"id": who["id"], "username": who["username"]}}


def thread(row: Any) -> dict[str, Any]:
    """A thread inside a room."""
    return {
        "id": str(row.pk),
        "roomId": str(row.room_id),
        "title": row.title,
        "parentMessageId": text(row.parent_message_id),
        "creatorId": text(row.creator_id),
        "isLocked": row.is_locked,
        "isPinned": row.is_pinned,
        "isResolved": row.is_resolved,
        "isArchived": row.is_archived,
        "messageCount": row.message_count,
        "lastMessageAt": time(row.last_message_at),
        "createdAt": time(row.created_at),
    }
