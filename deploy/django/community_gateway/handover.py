"""Notifications for messages that Django itself writes: the tasks that the gateway hands over for its own, by the same rules.

A row has one writer, so a message makes its tasks once, whichever side wrote it. Nobody is told twice of one message; the
author, agents in a conversation, who is hidden by a block and who has a socket open are not told at all.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis
from django.db import transaction

from . import announce, publishing
from .conf import config, model_or_none

logger = logging.getLogger("community_gateway")

# After this nobody wants to be told any more; in seconds, as the gateway's.
EXPIRES = 3_600
# A user's open sockets, as the gateways keep them.
SOCKETS_KEY = "community:sockets:{}"

_app: Any = None  # the project's Celery app
# So many requests may wait for the broker at once; each that it left without an answer holds one place until it ends.
_places = threading.BoundedSemaphore(16)
_reached_until = 0.0  # by the monotonic clock: until then the broker counts as there
_away_until = 0.0  # and until then as away


def connect() -> None:
    """Keeps the project's Celery app. Called once, where the app is loaded: in another thread Celery knows only the
    latest app that was made default, which may be none of the project's."""
    global _app
    try:
        from celery import current_app
    except ImportError:
        return  # a project without it
    _app = current_app._get_current_object()


def has_broker() -> bool:
    """Says whether the project has a Celery app with a broker."""
    return _app is not None and bool(_app.conf.broker_write_url)


def hand_over(message: Any, *, using: str | None = None) -> None:
    """Queues, after the commit, who is to be told of a new message. Never fails because the broker is away: what it does
    not take at once is lost and logged."""
    if message.is_hidden or _app is None:
        return
    tasks = [(config.TASKS.get(kind), user) for kind, user in due(message)]
    if wanted := [(name, user) for name, user in tasks if name]:
        key = str(message.pk)
        transaction.on_commit(lambda: _queue(key, wanted), using=using, robust=True)


def due(message: Any) -> list[tuple[str, int]]:
    """What a message is to whom: `dm`, `mention` or `reply`, the first that holds."""
    others: list[int] = []
    agents: list[int] = []
    if message.room.room_type == "dm" and (dm := model_or_none("dm")) is not None:
        thread = dm._default_manager.filter(room_id=message.room_id).first()
        for user in thread.participants.order_by("pk") if thread is not None else ():
            (agents if getattr(user, "tier", None) == "team" else others).append(user.pk)
    author = message.reply_to.author_id if getattr(message, "reply_to_id", None) else None
    answered = [] if author is None else [int(author)]
    mentioned = [int(user) for user in getattr(message, "mentions", None) or [] if str(user).isdigit()]
    unseen = {int(user) for user in announce.unseen_by(message) if user.isdigit()}
    told = {message.author_id, *agents}
    found: list[tuple[str, int]] = []
    for kind, users in (("dm", others), ("mention", mentioned), ("reply", answered)):
        for user in users:
            if user not in told and (kind == "dm" or user not in unseen):
                told.add(user)
                found.append((kind, user))
    return found


def _queue(message: str, tasks: list[tuple[str, int]]) -> None:
    global _away_until
    away = _online({user for _, user in tasks})
    waiting = [(name, user) for name, user in tasks if user not in away]
    if not waiting:
        return
    if time.monotonic() < _away_until:
        logger.warning("%d notifications were not queued: the broker did not answer a moment ago.", len(waiting))
        return

    def send() -> None:
        _reach(_app)
        for name, user in waiting:
            _app.send_task(name, kwargs={"message_id": message, "user_id": user}, expires=EXPIRES,
                           queue=config.TASK_QUEUE or None, retry=False, ignore_result=True)

    try:
        _bounded(send, 2 * config.REDIS_TIMEOUT)
    except Exception as error:  # each broker has errors of its own, and none of them is the request's
        _away_until = time.monotonic() + config.REDIS_PAUSE
        logger.warning("%d notifications were not queued: %s", len(waiting), type(error).__name__)


def _bounded(work: Callable[[], None], seconds: float) -> None:
    """Does something, and raises TimeoutError when it takes longer: a client of a broker waits for its answer without end.
    It then goes on in its thread, and what the broker takes late is queued late."""
    until = time.monotonic() + seconds
    if not _places.acquire(timeout=seconds):
        raise TimeoutError
    done: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            work()
            done.put(None)
        except Exception as error:
            done.put(error)
        finally:
            _places.release()

    threading.Thread(target=run, daemon=True, name="hand-over").start()
    try:
        error = done.get(timeout=max(until - time.monotonic(), 0.01))
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error


def _reach(app: Any) -> None:
    """Raises OSError soon when nobody is at the broker's address; its own client would try for many seconds."""
    global _reached_until
    if time.monotonic() < _reached_until:
        return
    with app.connection_for_write() as connection:
        host, port = connection.hostname, connection.port or connection.default_port
    if host and port and not str(host).startswith("/"):
        socket.create_connection((host, int(port)), config.REDIS_TIMEOUT).close()
    _reached_until = time.monotonic() + config.REDIS_PAUSE


def _online(users: Iterable[int]) -> set[int]:
    """Who of these has a socket at a gateway. Nobody, when Redis does not say."""
    keys = sorted(users)
    try:
        with publishing.client().pipeline(transaction=False) as pipeline:
            for user in keys:
                pipeline.exists(SOCKETS_KEY.format(user))
            return {user for user, there in zip(keys, pipeline.execute(), strict=True) if there}
    except (redis.RedisError, OSError, ValueError) as error:
        logger.warning("Who is online is not known: %s", type(error).__name__)
        return set()
