"""Rooms: browse, search, create, join, leave, settings."""

from django.db import transaction
from django.db.models import Q
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from .. import services
from ..access import must_create_rooms, readable_rooms
from ..models import Room, RoomMembership
from .base import limit, room_of, room_shape, text

SETTINGS = {"name": str, "description": str, "icon": str, "visibility": str, "is_archived": bool, "slow_mode_seconds": int,
            "min_trust_to_join": int, "min_trust_to_post": int}


@api_view(["GET", "POST"])
def rooms(request):
    """`?search=` looks in names and descriptions; the default rooms come first, then the busiest."""
    if request.method == "POST":
        return create(request)
    found = readable_rooms(request.user)
    if words := request.query_params.get("search", "").strip():
        found = found.filter(Q(name__icontains=words) | Q(description__icontains=words))
    page = found.order_by("-is_default", "position", "-member_count", "pk")[: limit(request)]
    mine = {one.room_id: one for one in RoomMembership.objects.filter(user=request.user, room__in=[one.pk for one in page])}
    return Response({"rooms": [room_shape(room, mine.get(room.pk)) for room in page]})


@transaction.atomic
def create(request):
    must_create_rooms(request.user)
    visibility = text(request, "visibility", 20, default="public")
    if visibility not in Room.Visibility.values:
        raise ValidationError({"visibility": "public, private or unlisted"})
    room = services.create_room(
        request.user, text(request, "name", 100), visibility=visibility,
        description=text(request, "description", 2000, required=False), icon=text(request, "icon", 50, required=False),
    )
    return Response(room_shape(room, room.memberships.get(user=request.user)), status=201)


@api_view(["GET", "PATCH"])
def room(request, room_id):
    rights = room_of(request, room_id)
    if request.method == "PATCH":
        rights.must_moderate()
        change(rights.room, request.data)
    return Response(room_shape(rights.room, rights.membership))


def change(room: Room, given: dict) -> None:
    if strange := set(given) - set(SETTINGS):
        raise ValidationError({name: "Cannot be changed" for name in strange})
    for name, value in given.items():
        if type(value) is not SETTINGS[name] or (SETTINGS[name] is int and not 0 <= value <= 86_400):
            raise ValidationError({name: "Of the wrong type"})
        setattr(room, name, value)
    room.clean_fields()
    room.save(update_fields=[*given, "updated_at"])


@api_view(["POST"])
def join(request, room_id):
    rights = room_of(request, room_id)
    membership = services.join_room(rights.room, request.user)
    return Response(room_shape(rights.room, membership))


@api_view(["POST"])
def leave(request, room_id):
    services.leave_room(room_of(request, room_id).room, request.user)
    return Response(status=204)


@api_view(["PATCH"])
def notifications(request, room_id):
    """`{"level": "all" | "mentions" | "none", "enabled": bool}` of one's own membership."""
    membership = room_of(request, room_id).membership
    level, enabled = request.data.get("level", "all"), request.data.get("enabled", True)
    if membership is None or level not in dict(RoomMembership.LEVELS) or not isinstance(enabled, bool):
        raise ValidationError({"level": "all, mentions or none, for members"})
    membership.notification_level, membership.notifications_enabled = level, enabled
    membership.save(update_fields=["notification_level", "notifications_enabled", "updated_at"])
    return Response({"level": level, "enabled": enabled})
