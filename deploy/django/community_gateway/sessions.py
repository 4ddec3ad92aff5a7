"""Connection tokens and session versions, in Django's cache as the gateway reads them."""

from __future__ import annotations

import secrets
import time
from typing import Any

from django.core.cache import BaseCache, caches

from .conf import config
from .publishing import control

TOKEN_KEY = "ws_conn_token:{}"
VERSION_KEY = "session:version:{}"


def cache() -> BaseCache:
    return caches[config.CACHE]


def connection_token(user: Any, connection_id: str | None = None) -> str:
    """A token with which one WebSocket may be opened, once, within TOKEN_SECONDS."""
    token = secrets.token_urlsafe(32)
    value = {"user_id": user.pk, "username": user.get_username(), "connection_id": connection_id,
             "created_at": time.time(), "used": False}
    cache().set(TOKEN_KEY.format(token), value, timeout=config.TOKEN_SECONDS)
    return token


def session_version(user: Any) -> int:
    """The version that a login made now belongs to: put it into the JWT as `session_version`."""
    key = VERSION_KEY.format(getattr(user, "pk", user))
    cache().add(key, 1, timeout=config.SESSION_VERSION_SECONDS)
    return int(cache().get(key) or 1)


def log_out_everywhere(user: Any) -> int:
    """Ends all of a user's logins: older JWTs are refused, open sockets close. Returns the new version."""
    key = VERSION_KEY.format(getattr(user, "pk", user))
    session_version(user)
    version = cache().incr(key)
    cache().touch(key, config.SESSION_VERSION_SECONDS)
    control("logout", user=user, session_version=version)
    return version
