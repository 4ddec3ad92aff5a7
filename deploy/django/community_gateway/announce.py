"""What happened to a row, told to the sockets: which event or order, to whom. Called by the signals, and by code that
changes rows behind their back (`QuerySet.update`, `bulk_create`, SQL)."""

from __future__ import annotations

from typing import Any

from . import shapes
from .conf import model_or_none
from .publishing import control, publish
from .quiet import actor


def where(message: Any) -> dict[str, Any]:
    """The topic on which a message's events go: its thread, the conversation for a direct message, else the room."""
    room = message.room
    if room.room_type == "dm":
        dm = model_or_none("dm")
        thread = dm._default_manager.filter(room_id=room.pk).values_list("pk", flat=True).first() if dm else None
        if thread is not None:
            return {"dm": thread}
    inside = _thread(message)
    return {"room": room.pk} if inside is None else {"thread": inside}


def _thread(message: Any) -> Any:
    """The thread inside a room that a message is in. Conversations have none."""
    return None if message.room.room_type == "dm" else getattr(message, "thread_id", None)


def _about(name: str, message: Any) -> dict[str, Any]:
    """How an event about a message begins, as the gateway's own do."""
    inside = _thread(message)
    return {"event": name} | ({"threadId": str(inside)} if inside is not None else {}) | {"messageId": str(message.pk)}


def unseen_by(message: Any) -> list[str]:
    """Who must not see a message's author in a room: a block, either way, separates completely."""
    block = model_or_none("block")
    if block is None or message.author_id is None or message.room.room_type == "dm":
        return []
    author = message.author_id
    blocks = block._default_manager
    ids = set(blocks.filter(blocker_id=author).values_list("blocked_id", flat=True))
    ids.update(blocks.filter(blocked_id=author).values_list("blocker_id", flat=True))
    return sorted(str(one) for one in ids)


def message_created(message: Any, *, using: str | None = None) -> None:
    """A new message, to its room, conversation or thread. A hidden one is nobody's business."""
    if message.is_hidden:
        return
    event = {"event": "new_message", "message": shapes.message(message)}
    publish(**where(message), event=event, except_=unseen_by(message), using=using)


def message_edited(message: Any, *, using: str | None = None) -> None:
    """A changed text."""
    if not message.is_hidden:
        event = {"event": "message_edited", "message": shapes.message(message)}
        publish(**where(message), event=event, except_=unseen_by(message), using=using)


def message_deleted(message: Any, *, using: str | None = None) -> None:
    """A message that is gone, or stays as `[Message deleted]`."""
    by = actor() or message.author_id
    event = _about("message_deleted", message) | {"deletedBy": shapes.text(by)}
    publish(**where(message), event=event, using=using)


def message_pinned(message: Any, *, using: str | None = None) -> None:
    """A message that was pinned or unpinned."""
    event = _about("message_pinned", message) | {"isPinned": message.is_pinned, "by": shapes.text(actor())}
    publish(**where(message), event=event, using=using)


def message_decided(message: Any, decision: str, *, using: str | None = None) -> None:
    """A moderator's decision (`approved`, `hidden`, `deleted`): the gateway shows the message, or takes it away.

    A message that was hidden without a record of it is shown by an event of ours: the gateway shows again only what a
    record says was hidden.
    """
    if decision == "approved" and (action := model_or_none("action")) is not None:
        if not action._default_manager.filter(target_message_id=message.pk, action_type="hide").exists():
            message_created(message, using=using)
            return
    control("moderation", message=message.pk, decision=decision, using=using)


def reaction_counts(message: Any, emoji: str, user: Any, added: bool, *, using: str | None = None) -> None:
    """A reaction that REST or a task added or removed; `reaction_counts` of the row are the new ones."""
    event = _about("reaction_updated", message) | {"emoji": emoji, "userId": str(getattr(user, "pk", user)), "added": added,
                                                   "reactionCounts": message.reaction_counts}
    publish(**where(message), event=event, using=using)


def thread_created(thread: Any, *, using: str | None = None) -> None:
    """A thread that somebody began elsewhere than on a socket."""
    publish(room=thread.room_id, event={"event": "thread_created", "thread": shapes.thread(thread)}, using=using)


def thread_updated(thread: Any, *, using: str | None = None) -> None:
    """A thread that was locked, archived, renamed, resolved."""
    publish(room=thread.room_id, event={"event": "thread_updated", "thread": shapes.thread(thread)}, using=using)
