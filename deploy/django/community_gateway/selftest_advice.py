"""What a refusal, a close code or a silence means, and what to do about it."""

from __future__ import annotations

import socket
import ssl

import redis
from django.db import DatabaseError

from .conf import config
from .websocket import Closed, Refused


class Wrong(Exception):
    """What is wrong, and how to mend it. After a final one the other steps would say nothing."""

    def __init__(self, what: str, advice: str, final: bool = True):
        super().__init__(what)
        self.what, self.advice, self.final = what, advice, final


def out_of_reach(error: OSError) -> Wrong:
    """No connection came about."""
    url = config.PUBLIC_URL
    if isinstance(error, socket.gaierror):
        return Wrong(f"There is no host of the name in {url}.", "Mend COMMUNITY_GATEWAY['PUBLIC_URL'], or the DNS.")
    if isinstance(error, ssl.SSLError):
        return Wrong(f"TLS with {url} failed: {error.reason}.",
                     "Mend the proxy's certificate; or write ws:// where the address has no TLS.")
    if isinstance(error, ConnectionRefusedError):
        return Wrong(f"Nobody listens at {url}.",
                     "Start the proxy or the gateway, or set COMMUNITY_GATEWAY['PUBLIC_URL'] to where browsers connect.")
    return Wrong(f"{url} does not answer: {type(error).__name__}.", "Open the way through firewalls and security groups.")


def refused(error: Refused) -> Wrong:
    """HTTP instead of a WebSocket."""
    status = error.status
    if status == 403:
        return Wrong(f"The origin {config.ORIGIN or '(none)'} is refused.",
                     "Add it to the gateway's CORS_ALLOWED_ORIGINS, exactly: scheme, host and port; or mend"
                     " COMMUNITY_GATEWAY['ORIGIN'].")
    if status == 404:
        return Wrong("The address leads somewhere that knows no /ws/community/.",
                     "Let the proxy send /ws/community/ to the gateway, with the path unchanged.")
    if status in (502, 504):
        return Wrong("The proxy does not reach the gateway.",
                     "Start the gateway, or mend the proxy's upstream: it is what GATEWAY_LISTEN says.")
    if status == 503:
        return Wrong("The gateway takes no new sockets now.", "See what its /readyz says; or it is draining, or full.")
    if status == 429:
        return Wrong("Too many connections.", "Try again in a minute; see the gateway's GATEWAY_LIMIT_ variables.")
    if status in (200, 301, 302, 308, 400, 426):
        return Wrong(f"The request arrived without its upgrade (HTTP {status}).",
                     "Let the proxy speak HTTP/1.1 to the gateway and pass on the headers Upgrade and Connection;"
                     " when it redirects, use the address that it redirects to.")
    return Wrong(f"The address answers with {error}, not with a WebSocket.", "Mend COMMUNITY_GATEWAY['PUBLIC_URL'].")


def closed(error: Closed, *, token_was_taken: bool) -> Wrong:
    """A close code right after the upgrade."""
    if error.code == 4001 and not token_was_taken:
        return Wrong("The gateway does not find the connection token that Django put into the cache.",
                     "Set the gateway's GATEWAY_CACHE_URL, GATEWAY_CACHE_PREFIX and GATEWAY_CACHE_VERSION to LOCATION,"
                     " KEY_PREFIX and VERSION of Django's CACHES.")
    if error.code in (4001, 4003, 4004):
        return Wrong("The gateway knows the token, and not the user or the room: it reads another database.",
                     "Set the gateway's DATABASE_URL to Django's database, and GATEWAY_USER_TABLE to the table of its users.")
    if error.code == 4029:
        return Wrong("The user has too many connections.", "Close some, or test with another --user.")
    if error.code == 1013:
        return Wrong("The gateway lacks Postgres or Redis.", "See what its /readyz says.")
    return Wrong(f"The gateway closed the socket: {error}.", "See the gateway's log.")


def broke(error: Exception, *, final: bool) -> Wrong:
    """A step that ended before it knew anything."""
    name = type(error).__name__
    if isinstance(error, Closed):
        return Wrong(f"The gateway closed the socket in the middle of the test: {error}.",
                     "See the gateway's log: it stops, or the user's rights changed. Then try again.", final)
    if isinstance(error, redis.RedisError):
        return Wrong(f"Redis does not answer: {name}.",
                     "See that the Redis of CACHES and of COMMUNITY_GATEWAY['REDIS_URL'] runs and is reached.", final)
    if isinstance(error, DatabaseError):
        return Wrong(f"Django's database does not answer: {name}.",
                     "See that it runs, and that `manage.py migrate` has nothing to do.", final)
    if isinstance(error, TimeoutError):
        return Wrong("The gateway did not answer in time.", "See the gateway's log, and what its /readyz says.", final)
    if isinstance(error, OSError):
        return Wrong(f"The connection to {config.PUBLIC_URL} broke: {name}.",
                     "See the logs of the proxy and of the gateway: one of them ended it.", final)
    return Wrong(f"The step itself failed: {name}: {error}", "See that the versions of the gateway and of this package"
                 " belong together.", final)
