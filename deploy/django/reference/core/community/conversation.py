"""What a consumer reads and writes, synchronous: states, pages, messages, receipts."""

from django.db.models import Q
from rest_framework.exceptions import APIException

from community_gateway import hand_over, quietly, shapes

from . import services
from .access import Rights, hidden_from
from .models import DirectMessageThread, Message, Room, RoomMembership

PAGE = 50


class Refusal(Exception):
    """No, and the connection lives."""


def open_room(user, key) -> Room | None:
    """The room, if the user may be in it."""
    return _readable(user, Room.objects.filter(pk=key).exclude(room_type="dm").first())


def open_direct(user, key) -> Room | None:
    """The room behind a conversation, if the user takes part in it."""
    thread = DirectMessageThread.objects.select_related("room").filter(pk=key).first()
    return _readable(user, thread.room if thread else None)


def _readable(user, room: Room | None) -> Room | None:
    try:
        return room if room is not None and Rights(user, room) else None
    except APIException:
        return None


def page(user, room: Room, cursor=None, many: int = PAGE) -> tuple[list[dict], bool, str | None]:
    """Messages, the oldest first; whether there are older ones; the cursor to ask for them with."""
    found = Message.objects.filter(room=room, is_hidden=False, thread=None).select_related("author", "reply_to__author")
    if room.room_type != "dm":
        found = found.exclude(author_id__in=hidden_from(user))
    if cursor is not None:
        last = Message.objects.filter(pk=cursor, room=room).values("created_at", "pk").first()
        if last is None:
            raise Refusal("Failed to process message")
        found = found.filter(Q(created_at__lt=last["created_at"]) | Q(created_at=last["created_at"], pk__lt=last["pk"]))
    rows = list(found.order_by("-created_at", "-pk")[: many + 1])
    more, rows = len(rows) > many, rows[:many]
    return [shapes.message(row) for row in reversed(rows)], more, str(rows[-1].pk) if rows and more else None


def send(user, room: Room, content: str, reply_to, attachments) -> dict:
    """Writes a message and returns it as clients see it. The consumer tells the group itself, so the signals do not."""
    room.refresh_from_db()
    try:
        rights = Rights(user, room)
        rights.must_write()
    except APIException:
        raise Refusal("You cannot send messages in this room") from None
    with quietly():
        message = services.send_message(room, user, content, reply_to=reply_to, attachments=attachments)
    hand_over(message)  # which the signal would have done
    return shapes.message(message)


def read(user, room: Room, key) -> None:
    """Moves the member's reading position to a message's time, never backwards."""
    at = Message.objects.filter(pk=key, room=room).values_list("created_at", flat=True).first()
    if at is not None:
        behind = Q(last_read_at=None) | Q(last_read_at__lt=at)
        RoomMembership.objects.filter(behind, room=room, user=user).update(last_read_at=at)
