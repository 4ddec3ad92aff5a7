"""What the app's views and its admin do before anybody connects: people, rooms, memberships, credentials."""

import itertools
import secrets
import time
from datetime import timedelta

from django.core.cache import cache
from rest_framework_simplejwt.tokens import AccessToken

from .models import DirectThread, Membership, Message, Participant, Room, User

TOKEN_SECONDS = 60
SESSION_VERSION_SECONDS = 90 * 86_400

_numbers = itertools.count(1)


def user(**fields) -> User:
    """A new user. Names are told apart by number."""
    name = f"{fields.pop('username', 'user')}{next(_numbers)}"
    return User.objects.create(username=name, email=f"{name}@example.org", **fields)


def room(*members: User, **fields) -> Room:
    """A new room with these members; public unless told otherwise."""
    number = next(_numbers)
    values = {"name": f"Room {number}", "slug": f"room-{number}", "member_count": len(members)} | fields
    created = Room.objects.create(**values)
    for member in members:
        Membership.objects.create(room=created, user=member)
    return created


def direct_thread(*participants: User) -> DirectThread:
    """A conversation, with the room that holds its messages and a membership in it for everybody."""
    holder = room(*participants, room_type="dm", visibility="unlisted")
    thread = DirectThread.objects.create(room=holder, created_by=participants[0], is_group=len(participants) > 2)
    for participant in participants:
        Participant.objects.create(directmessagethread=thread, user=participant)
    return thread


def message(where: Room, author: User | None, content: str, at, **fields) -> Message:
    """A message as a Django view would have stored it."""
    return Message.objects.create(room=where, author=author, content=content, created_at=at, **fields)


def connection_token(of: User, **overrides) -> str:
    """What the app's token view does for a page that wants to connect."""
    token = secrets.token_urlsafe(32)
    value = {
        "user_id": of.pk,
        "username": of.username,
        "connection_id": None,
        "created_at": time.time(),
        "used": False,
    }
    cache.set(f"ws_conn_token:{token}", value | overrides, timeout=TOKEN_SECONDS)
    return token


def session_version(of: User) -> int:
    """The version that logins of a user belong to, as the app makes it at the first login."""
    cache.add(f"session:version:{of.pk}", 1, timeout=SESSION_VERSION_SECONDS)
    return cache.get(f"session:version:{of.pk}")


def log_out_everywhere(of: User) -> None:
    cache.incr(f"session:version:{of.pk}")


def access_jwt(of: User, lifetime: timedelta = timedelta(minutes=15), **claims) -> str:
    """An access token, with the app's own claim unless told otherwise (`session_version=None` leaves it out)."""
    jwt = AccessToken.for_user(of)
    jwt.set_exp(lifetime=lifetime)
    for name, value in ({"session_version": session_version(of)} | claims).items():
        if value is not None:
            jwt[name] = value
    return str(jwt)
