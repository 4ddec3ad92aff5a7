"""Who connects: the connection token, else the JWT in its cookie, else the JWT in the query."""

from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.http import parse_cookie
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken

from community_gateway.sessions import TOKEN_KEY, session_version
from core.users.models import User


def user_by_token(token: str):
    """Reads and deletes: two who come at once with the same token may both be let in."""
    key = TOKEN_KEY.format(token)
    value = cache.get(key)
    cache.delete(key)
    if not isinstance(value, dict) or value.get("used"):
        return None
    return User.objects.filter(pk=value.get("user_id"), is_active=True).first()


def user_by_jwt(raw: str):
    try:
        token = AccessToken(raw)
        user = User.objects.filter(pk=token["user_id"], is_active=True).first()
    except (TokenError, KeyError, ValueError):
        return None
    version = token.get("session_version")
    if user is None or (version is not None and int(version) != session_version(user)):
        return None
    return user


def user_of(scope):
    query = parse_qs(scope["query_string"].decode("latin-1"))
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1") not in settings.CORS_ALLOWED_ORIGINS:
        return None
    if given := query.get("connection_token"):
        return user_by_token(given[0])
    cookie = parse_cookie(headers.get(b"cookie", b"").decode("latin-1")).get(settings.JWT_ACCESS_COOKIE)
    raw = cookie or query.get("token", [None])[0]
    return user_by_jwt(raw) if raw else None


class SocketLogin:
    """Puts `user` into the scope; None for who may not come in."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        user = await database_sync_to_async(user_of)(scope)
        return await self.app(scope | {"user": user}, receive, send)
