"""Rows for tests; each test makes its own."""

import itertools

from core.community.models import DirectMessageThread, Message, ModerationQueue, Room, RoomMembership
from core.users.models import User
from django.contrib.auth.hashers import make_password

from community_gateway import quietly

_numbers = itertools.count(1)
PASSWORD = make_password("secret")  # hashed once: hashing is slow on purpose


def user(**fields) -> User:
    """A new account, whose password is `secret`."""
    name = f"{fields.pop('username', 'user')}{next(_numbers)}"
    with quietly():
        return User.objects.create(username=name, email=f"{name}@example.org", password=PASSWORD, **fields)


def moderator(**fields) -> User:
    return user(username="moderator", is_staff=True, is_superuser=True, **fields)


def room(*members: User, **fields) -> Room:
    """A new room with these members; public unless told otherwise."""
    number = next(_numbers)
    with quietly():
        made = Room.objects.create(**{"name": f"Room {number}", "slug": f"room-{number}", "member_count": len(members)}
                                   | fields)
        for member in members:
            RoomMembership.objects.create(room=made, user=member)
    return made


def direct(*participants: User) -> DirectMessageThread:
    """A conversation, its room, and a membership for everybody."""
    holder = room(*participants, room_type="dm", visibility="unlisted")
    with quietly():
        made = DirectMessageThread.objects.create(room=holder, created_by=participants[0])
        made.participants.set(participants)
    return made


def message(where: Room, author: User | None, content: str = "hello", **fields) -> Message:
    """A message that was there before; nobody is told."""
    with quietly():
        return Message.objects.create(room=where, author=author, content=content, **fields)


def queued(about: Message, **fields) -> ModerationQueue:
    return ModerationQueue.objects.create(message=about, **fields)
