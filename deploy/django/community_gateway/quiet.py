"""Who acts, and when the signals are to say nothing: for one block of code, in one thread or task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_quiet: ContextVar[bool] = ContextVar("community_gateway_quiet", default=False)
_actor: ContextVar[Any] = ContextVar("community_gateway_actor", default=None)


@contextmanager
def quietly() -> Iterator[None]:
    """Inside, the signals publish nothing: for code that tells the sockets by itself."""
    before = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(before)


@contextmanager
def acting(user: Any) -> Iterator[None]:
    """Inside, events say that this user did it (`deletedBy`, `by`)."""
    before = _actor.set(getattr(user, "pk", user))
    try:
        yield
    finally:
        _actor.reset(before)


def is_quiet() -> bool:
    return _quiet.get()


def actor() -> Any:
    """The key of the user who acts, or None when nobody said."""
    return _actor.get()
