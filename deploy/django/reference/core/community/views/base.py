"""What all views need: input that is checked, pages by cursor, rooms with rights."""

import uuid

from rest_framework.exceptions import NotFound, ValidationError

from ..access import Rights
from ..models import Message, Room


def text(request, name: str, most: int, *, required: bool = True, default: str = "") -> str:
    value = request.data.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise ValidationError({name: "A text"})
    value = value.strip()
    if required and not value:
        raise ValidationError({name: "Must not be empty"})
    if len(value) > most:
        raise ValidationError({name: f"At most {most} characters"})
    return value


def key(value, name: str = "id") -> uuid.UUID:
    try:
        return uuid.UUID(str(value))
    except ValueError:
        raise ValidationError({name: "No such id"}) from None


def limit(request, most: int = 100) -> int:
    try:
        return min(max(int(request.query_params.get("limit", 50)), 1), most)
    except ValueError:
        raise ValidationError({"limit": "A number"}) from None


def room_of(request, room_id) -> Rights:
    """The room with the asker's rights; 404 and 403 as they are."""
    room = Room.objects.select_related("circle").filter(pk=room_id).first()
    if room is None:
        raise NotFound("Room not found")
    return Rights(request.user, room)


def message_of(request, message_id) -> tuple[Message, Rights]:
    """A message that the asker may see."""
    message = Message.objects.select_related("room", "author").filter(pk=message_id, is_hidden=False).first()
    if message is None:
        raise NotFound("Message not found")
    return message, Rights(request.user, message.room)


def room_shape(room, membership=None) -> dict:
    return {
        "id": str(room.pk), "name": room.name, "slug": room.slug, "description": room.description, "icon": room.icon,
        "roomType": room.room_type, "visibility": room.visibility, "memberCount": room.member_count,
        "messageCount": room.message_count, "onlineCount": room.online_count, "isArchived": room.is_archived,
        "slowModeSeconds": room.slow_mode_seconds, "role": membership.role if membership else None,
    }
