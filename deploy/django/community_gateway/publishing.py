"""Events and orders for the gateways: after the commit, within bounded time, never an exception because of Redis.

An event that cannot be sent is lost and logged; an order that is lost costs the gateway's own round of checks
(fifteen seconds), in which it looks at everybody's rights anyway.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import redis
from django.core.serializers.json import DjangoJSONEncoder
from django.core.signals import setting_changed
from django.db import transaction

from .conf import config

logger = logging.getLogger("community_gateway")

CONTROL_CHANNEL = "community:control"

# What each order needs and what it may have; the values are ids, texts or numbers.
ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "disconnect": (("user",), ()),
    "logout": (("user", "session_version"), ()),
    "kick": (("room", "user"), ()),
    "refresh": ((), ("room", "user", "thread")),
    "room_changed": (("room",), ()),
    "block_changed": (("users",), ()),
    "moderation": (("message", "decision"), ()),
    "reload": ((), ()),
}
DECISIONS = ("approved", "hidden", "deleted")


def publish(
    *,
    event: Mapping[str, Any],
    room: Any = None,
    thread: Any = None,
    dm: Any = None,
    user: Any = None,
    to: Iterable[Any] | None = None,
    except_: Iterable[Any] | None = None,
    using: str | None = None,
) -> None:
    """Sends an event to everybody in a room, in a thread inside a room, in a direct conversation (the thread's id), or
    to a user's presence sockets; `to` limits it to these users, `except_` leaves these out. Over the channel layer the
    event carries both, and who receives it obeys: gateways do, and consumers by `for_user`.

    Raises TypeError or ValueError for what is wrong with the call, and nothing for what is wrong with Redis.
    """
    targets = {"room": room, "thread": thread, "dm": dm, "user": user}
    named = [(kind, _id(value)) for kind, value in targets.items() if value is not None]
    if len(named) != 1:
        raise TypeError("publish() needs exactly one of room, thread, dm, user")
    if not isinstance(event.get("event"), str):
        raise ValueError("an event needs a string `event`")
    if to is not None and except_ is not None:
        raise TypeError("publish() takes to or except_, not both")
    kind, key = named[0]
    body = dict(event)
    if to is not None:
        body["to"] = [_id(one) for one in to]
    elif except_ is not None and (left_out := [_id(one) for one in except_]):
        body["except"] = left_out
    text = _json(body)
    if config.TRANSPORT == "channels" and kind in ("room", "dm"):
        transaction.on_commit(lambda: send_to_group(kind, key, body), using=using, robust=True)
    else:
        transaction.on_commit(lambda: send(f"community:{kind}:{key}", text), using=using, robust=True)


def for_user(message: Mapping[str, Any], user: Any) -> dict[str, Any] | None:
    """What a consumer sends to its user of a message to its group: the event without what is the layer's and without whom
    it is for. None when it is for others."""
    key = _id(user)
    to, left_out = message.get("to"), message.get("except") or ()
    if (to is not None and key not in map(str, to)) or key in map(str, left_out):
        return None
    return {name: value for name, value in message.items() if name not in ("type", "to", "except")}


def control(action: str, *, using: str | None = None, **fields: Any) -> None:
    """Gives the gateways an order, in force on every instance within a second.

    Raises TypeError or ValueError for what is wrong with the call, and nothing for what is wrong with Redis.
    """
    if action not in ACTIONS:
        raise ValueError(f"there is no action {action!r}; there are {', '.join(ACTIONS)}")
    needed, allowed = ACTIONS[action]
    given = {name: value for name, value in fields.items() if value is not None}
    if lacking := [name for name in needed if name not in given]:
        raise TypeError(f"{action} needs {', '.join(lacking)}")
    if strange := set(given) - {*needed, *allowed}:
        raise TypeError(f"{action} takes no {', '.join(sorted(strange))}")
    if action == "moderation" and given["decision"] not in DECISIONS:
        raise ValueError(f"a decision is one of {', '.join(DECISIONS)}")
    order: dict[str, Any] = {"action": action}
    for name, value in given.items():
        if name == "users":
            order[name] = [_id(one) for one in value]
        else:
            order[name] = int(value) if name == "session_version" else _id(value)
    text = _json(order)
    transaction.on_commit(lambda: send(CONTROL_CHANNEL, text), using=using, robust=True)


def _id(value: Any) -> str:
    """Ids are strings on the wire; a model instance stands for its key."""
    return str(getattr(value, "pk", value))


def _json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, separators=(",", ":"))


# ---- the connection ------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_client: redis.Redis | None = None
_silent_until = 0.0  # by the monotonic clock: until then Redis is not tried
_layer_silent_until = 0.0  # and until then the channel layer is not


def client() -> redis.Redis:
    """The connection pool of this process to the gateway's Redis. Its calls raise redis.RedisError."""
    global _client
    with _lock:
        if _client is None:
            _client = redis.Redis.from_url(
                config.REDIS_URL,
                socket_timeout=config.REDIS_TIMEOUT,
                socket_connect_timeout=config.REDIS_TIMEOUT,
                retry=None,
                health_check_interval=30,
            )
        return _client


def send(channel: str, text: str) -> bool:
    """Publishes at once. Says whether Redis took it."""
    global _silent_until
    if time.monotonic() < _silent_until:
        logger.warning("Not published on %s: Redis did not answer a moment ago.", _kind(channel))
        return False
    try:
        client().publish(channel, text)
    except (redis.RedisError, OSError, ValueError) as error:
        _silent_until = time.monotonic() + config.REDIS_PAUSE
        logger.warning("Not published on %s: %s", _kind(channel), type(error).__name__)
        return False
    return True


def _kind(channel: str) -> str:
    """The channel without ids, for logs."""
    return ":".join(channel.split(":")[:2])


def send_to_group(kind: str, key: str, body: dict[str, Any]) -> bool:
    """Sends at once through Django's channel layer, which both the gateways and Daphne's consumers hear. Says whether it took it."""
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer

    global _layer_silent_until
    if time.monotonic() < _layer_silent_until:
        logger.warning("Not sent to the group of a %s: the channel layer did not answer a moment ago.", kind)
        return False
    message = {"type": f"{kind}_event", **json.loads(_json(body))}
    try:
        async_to_sync(_group_send)(get_channel_layer(), f"community.{kind}.{key}", message)
    except Exception as error:  # whatever the layer raises, nobody's request fails of it
        if isinstance(error, redis.RedisError | OSError):  # it is away, as opposed to having refused this one
            _layer_silent_until = time.monotonic() + config.REDIS_PAUSE
        logger.warning("Not sent to the group of a %s: %s", kind, type(error).__name__)
        return False
    return True


async def _group_send(layer: Any, group: str, message: dict[str, Any]) -> None:
    import asyncio

    async with asyncio.timeout(2 * config.REDIS_TIMEOUT):
        await layer.group_send(group, message)


def _changed(*, setting: str, **_: Any) -> None:
    global _client, _silent_until, _layer_silent_until
    if setting == "COMMUNITY_GATEWAY":
        with _lock:
            _client, _silent_until, _layer_silent_until = None, 0.0, 0.0


setting_changed.connect(_changed, dispatch_uid="community_gateway.publishing")
