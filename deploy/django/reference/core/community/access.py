"""Who may read and write where. The gateway judges by the same rules, from the same rows. What it counts elsewhere (messages
a minute) or reads in the text (links of newcomers) it does beyond them."""

from datetime import timedelta

from django.db.models import Q, Sum
from django.utils import timezone
from rest_framework.exceptions import NotFound, PermissionDenied, Throttled

from core.thrive_circle.models import CircleMembership

from .models import Message, Room, RoomMembership, UserBlock

MODERATES = {"owner", "admin", "moderator"}
NEW, MEMBER, TRUSTED = 0, 1, 2
# A room may be created after so many messages and days, and so many in a day.
ROOM_MESSAGES, ROOM_DAYS, ROOMS_A_DAY = 10, 7, 3


def messages_sent(user) -> int:
    return RoomMembership.objects.filter(user=user).aggregate(sent=Sum("messages_sent"))["sent"] or 0


def trust(user, role: str | None = None) -> int:
    """How far a user is trusted: ten messages and three days, fifty and fourteen, or a role."""
    if user.is_staff or role in MODERATES | {"trusted"}:
        return TRUSTED
    sent, days = messages_sent(user), (timezone.now() - user.date_joined).days
    if sent >= 50 and days >= 14:
        return TRUSTED
    return MEMBER if sent >= 10 and days >= 3 else NEW


def hidden_from(user) -> set[int]:
    """With whom there is a block, either way."""
    pairs = UserBlock.objects.filter(Q(blocker=user) | Q(blocked=user)).values_list("blocker_id", "blocked_id")
    return {one for pair in pairs for one in pair} - {user.pk}


class Rights:
    """What one user may do in one room. Raises NotFound or PermissionDenied when that is not even reading."""

    def __init__(self, user, room: Room):
        self.user, self.room = user, room
        self.membership = RoomMembership.objects.filter(room=room, user=user).first()
        self.role = self.membership.role if self.membership else None
        is_member = self.membership is not None and self.membership.is_active
        self.trust = trust(user, self.role)
        if not room.is_active:
            raise NotFound("Room not found")
        if room.room_type == "dm":
            is_open = room.dm_thread.participants.filter(pk=user.pk).exists()
        elif room.visibility == "public":
            is_open = is_member or self.trust >= room.min_trust_to_join
        else:
            is_open = is_member or self._in_circle()
        if self.role == "banned" or not is_open:
            raise PermissionDenied("You have no access to this room")

    def _in_circle(self) -> bool:
        circle = self.room.circle_id
        return circle is not None and CircleMembership.objects.filter(circle=circle, user=self.user, is_active=True).exists()

    @property
    def moderates(self) -> bool:
        return self.user.is_staff or self.role in MODERATES

    def must_write(self) -> None:
        room = self.room
        if room.is_archived:
            raise PermissionDenied("This room is archived")
        others = set(room.dm_thread.participants.values_list("pk", flat=True)) if room.room_type == "dm" else set()
        is_blocked = len(others) == 2 and bool(others & hidden_from(self.user))
        too_new = not others and self.trust < room.min_trust_to_post
        if self.role == "muted" or is_blocked or too_new:
            raise PermissionDenied("You cannot send messages in this room")

    def must_send(self) -> None:
        """As `must_write`, for a new message: slow mode is about these alone. Doubled for the new, none for the trusted."""
        self.must_write()
        seconds = self.room.slow_mode_seconds * (2 if self.trust == NEW else 1)
        if seconds <= 0 or self.trust >= TRUSTED:
            return
        window = timezone.now() - timedelta(seconds=seconds)
        mine = Message.objects.filter(room=self.room, author=self.user, created_at__gt=window)
        if (last := mine.order_by("-created_at").values_list("created_at", flat=True).first()) is not None:
            raise Throttled((last - window).total_seconds(), "This room is in slow mode")

    def must_moderate(self) -> None:
        if not self.moderates:
            raise PermissionDenied("Only moderators may do this")


def readable_rooms(user):
    """What a user may see in lists: public rooms, and those one belongs to."""
    mine = RoomMembership.objects.filter(user=user, is_active=True).exclude(role="banned").values("room_id")
    banned = RoomMembership.objects.filter(user=user, role="banned").values("room_id")
    circles = CircleMembership.objects.filter(user=user, is_active=True).values("circle_id")
    rooms = Room.objects.filter(is_active=True).exclude(room_type="dm").exclude(pk__in=banned)
    return rooms.filter(Q(visibility="public") | Q(pk__in=mine) | Q(circle_id__in=circles))


def must_create_rooms(user) -> None:
    """Raises PermissionDenied with what is still missing. Within the transaction that creates the room: two that come at once
    are counted one after the other."""
    if user.is_staff:
        return
    type(user).objects.select_for_update(no_key=True).get(pk=user.pk)
    if messages_sent(user) < ROOM_MESSAGES:
        raise PermissionDenied(f"Rooms may be created after {ROOM_MESSAGES} messages")
    now = timezone.now()
    if now - user.date_joined < timedelta(days=ROOM_DAYS):
        raise PermissionDenied(f"Rooms may be created after {ROOM_DAYS} days")
    today = Room.objects.filter(creator=user, created_at__gt=now - timedelta(days=1)).exclude(room_type="dm").count()
    if today >= ROOMS_A_DAY:
        raise PermissionDenied(f"At most {ROOMS_A_DAY} rooms a day")
