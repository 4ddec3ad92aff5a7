"""One message through the public address and back, looked at from every side; in plain words what is wrong and how to
mend it. The gateway is a black box here: what is known of it is what a browser, Postgres and Redis can see."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import ERROR
from django.db import DatabaseError, connections, router, transaction

from . import handover, publishing, sessions
from .checks import check as settings_check
from .conf import config, model
from .quiet import quietly
from .selftest_advice import Wrong, broke, closed, out_of_reach, refused
from .websocket import Closed, Refused, WebSocket

# More than this between two clocks, in seconds, and times in the chat are not to be believed.
SKEW = 2.0
# The task whose end can be seen from here.
TASK = "community_gateway.tasks.notify_mention"


class SelfTest:
    """The steps, in order. Each returns a line that says what is well, or raises Wrong."""

    def __init__(self, user: Any, other: Any = None, room: Any = None, timeout: float = 5.0, handover: bool = True):
        self.user, self.other, self.room, self.timeout = user, other, room, timeout
        self.socket: WebSocket | None = None
        self.events: list[dict[str, Any]] = []
        self.message_id: str | None = None
        self.steps: list[tuple[str, Callable[[], str]]] = [
            ("settings", self.settings), ("cache", self.cache), ("Redis", self.realtime), ("door", self.door),
            ("message", self.message), ("row", self.row), ("presence", self.presence), ("events", self.published),
            ("control", self.control), ("clocks", self.clocks), ("JWT", self.jwt),
        ]
        if config.TRANSPORT == "channels":
            self.steps.append(("channel layer", self.layer))
        if handover:
            self.steps.append(("hand-over", self.hand_over))

    def run(self) -> Iterator[tuple[str, str, Wrong | None]]:
        """Name, what is well, what is wrong; ends at the first step without which the others say nothing."""
        try:
            with self._room():
                for name, step in self.steps:
                    well, wrong = self._tried(step)
                    yield name, well, wrong
                    if wrong is not None and wrong.final:
                        return
        except DatabaseError as error:
            yield "database", "", Wrong(
                f"Django cannot make and remove a room to test in: {type(error).__name__}.",
                "Run `manage.py migrate`, or name an existing room and a member of it with --room and --user.",
            )
        finally:
            if self.socket is not None:
                self.socket.close()

    def _tried(self, step: Callable[[], str]) -> tuple[str, Wrong | None]:
        try:
            return step(), None
        except Wrong as wrong:
            return "", wrong
        except Exception as error:  # whatever it is, whoever reads it wants words
            # Without Redis some steps still say something; without the socket, or with the database away, none does.
            return "", broke(error, final=self.socket is None or not isinstance(error, redis.RedisError))

    @contextmanager
    def _room(self) -> Iterator[None]:
        """A private room for the test alone, gone afterwards; unless there is one to use."""
        if self.room is not None:
            yield
            return
        with quietly():
            self.room = model("room")._default_manager.create(
                name="Gateway self-test", slug=f"gateway-selftest-{uuid.uuid4()}", visibility="private", room_type="forum",
            )
            for member in filter(None, (self.user, self.other)):
                model("membership")._default_manager.create(room=self.room, user=member)
        try:
            yield
        finally:
            with quietly():
                self.room.delete()

    # ---- the steps -------------------------------------------------------------------------------------------------

    def settings(self) -> str:
        errors = [problem for problem in settings_check() if problem.level >= ERROR]
        if errors:
            words = " ".join(problem.msg for problem in errors)
            raise Wrong(words, "Mend COMMUNITY_GATEWAY in the settings; `manage.py check` says the same.")
        return "nothing is wrong with COMMUNITY_GATEWAY"

    def cache(self) -> str:
        backend = settings.CACHES[config.CACHE]["BACKEND"]
        if "redis" not in backend.lower():
            raise Wrong(
                f"Connection tokens are kept in {backend}, which no gateway can read.",
                "Set CACHES to django.core.cache.backends.redis.RedisCache, in the database of GATEWAY_CACHE_URL.",
            )
        try:
            sessions.cache().set("gateway:selftest", 1, timeout=10)
        except (redis.RedisError, OSError) as error:
            raise Wrong(f"Django's cache does not answer: {type(error).__name__}.",
                        "Start its Redis, or mend LOCATION in CACHES.") from error
        return "Django's cache is Redis and answers"

    def realtime(self) -> str:
        try:
            publishing.client().ping()
        except (redis.RedisError, OSError, ValueError) as error:
            raise Wrong(
                f"The Redis of REDIS_URL does not answer: {type(error).__name__}.",
                "Start it, open the way to it, or set COMMUNITY_GATEWAY['REDIS_URL'] to the gateway's GATEWAY_REDIS_URL.",
            ) from error
        return "the gateways' Redis answers"

    def door(self) -> str:
        token = sessions.connection_token(self.user)
        began = time.monotonic()
        self.socket = self._connect({"connection_token": token})
        try:
            self._until("room_state")
        except Closed as error:
            taken = sessions.cache().get(sessions.TOKEN_KEY.format(token)) is None
            raise closed(error, token_was_taken=taken) from error
        return f"let in through {config.PUBLIC_URL} after {1000 * (time.monotonic() - began):.0f} ms"

    def message(self) -> str:
        client_id, began = f"selftest-{uuid.uuid4()}", time.monotonic()
        self._send(type="send_message", content=f"self-test {client_id}", client_id=client_id)
        missing = {"message_ack", "new_message"}  # in whichever order: they come by different ways
        while missing:
            answer = self._until(*sorted(missing), "error")
            if answer["event"] == "error":
                raise Wrong(f"The gateway refused a message: {answer.get('message')} ({answer.get('code')}).",
                            "When it says `unavailable`, see what /readyz of the gateway says; else let the user send there.")
            missing.discard(answer["event"])
            self.message_id = answer.get("messageId", self.message_id)
        return f"sent, acknowledged and received after {1000 * (time.monotonic() - began):.0f} ms"

    def row(self) -> str:
        found = model("message")._default_manager.filter(pk=self.message_id, room=self.room, author=self.user).first()
        if found is None:
            raise Wrong("The message that the gateway acknowledged is not in Django's database.",
                        "Set the gateway's DATABASE_URL to Django's database.")
        return "the message is in Django's table"

    def presence(self) -> str:
        lease = publishing.client().zscore(f"community:presence:{self.room.pk}", str(self.user.pk))
        if lease is None:
            raise Wrong(
                "The user is connected, and Redis does not know it: Django and the gateway use different databases of Redis.",
                "Set COMMUNITY_GATEWAY['REDIS_URL'] to the gateway's GATEWAY_REDIS_URL, the number at the end included.",
                final=False,
            )
        return "the presence key is there"

    def published(self) -> str:
        self._publish(f"community:room:{self.room.pk}", {"event": "gateway_selftest"})
        if self._until("gateway_selftest", wrong=False) is None:
            raise Wrong("What Django publishes does not reach the socket.",
                        "Set COMMUNITY_GATEWAY['REDIS_URL'] to the gateway's GATEWAY_REDIS_URL.", final=False)
        return "what Django publishes reaches the socket"

    def control(self) -> str:
        self._publish(publishing.CONTROL_CHANNEL, {"action": "room_changed", "room": str(self.room.pk)})
        if self._until("room_updated", wrong=False) is None:
            raise Wrong("The gateway does not obey Django's orders.",
                        "Set COMMUNITY_GATEWAY['REDIS_URL'] to the gateway's GATEWAY_REDIS_URL.", final=False)
        return "the gateway obeys Django's orders"

    def clocks(self) -> str:
        self._send(type="ping")
        said = self._until("pong").get("timestamp")
        try:
            gateway = datetime.fromisoformat(str(said)).replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise Wrong(f"The gateway's pong has no time: {said}.", "See that it is a gateway that answers there.") from None
        here = time.time()
        seconds, micros = cast(tuple[int, int], publishing.client().time())
        database = connections[router.db_for_read(model("message"))]
        with database.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
            postgres = float(cursor.fetchone()[0])
        others = {"the gateway": gateway, "Redis": seconds + micros / 1e6, "Postgres": postgres}
        wrong = [f"{name} is {abs(at - here):.0f} s {'ahead' if at > here else 'behind'}" for name, at in others.items()
                 if abs(at - here) > SKEW]
        if wrong:
            raise Wrong(f"Clocks differ from Django's: {', '.join(wrong)}.",
                        "Let all machines take their time from the same NTP servers.", final=False)
        return "all clocks agree"

    def jwt(self) -> str:
        try:
            from rest_framework_simplejwt.tokens import AccessToken
        except ImportError:
            return "left out: simplejwt is not installed"
        token = AccessToken.for_user(self.user)
        token["session_version"] = sessions.session_version(self.user)
        cookie = getattr(settings, "JWT_ACCESS_COOKIE", "access_token")
        socket = self._connect({}, {"Cookie": f"{cookie}={token}"})
        try:
            socket.receive()
        except Closed as error:
            if error.code != 4001:
                raise closed(error, token_was_taken=True) from error
            raise Wrong(
                "The gateway does not accept Django's JWT.",
                f"Set the gateway's SECRET_KEY to the key that signs the JWTs, and GATEWAY_JWT_COOKIE to {cookie}.",
                final=False,
            ) from error
        except OSError as error:
            raise broke(error, final=False) from error
        finally:
            socket.close()
        return "the JWT in its cookie opens the door as well"

    def layer(self) -> str:
        if not publishing.send_to_group("room", str(self.room.pk), {"event": "gateway_selftest_layer"}):
            raise Wrong("Django's channel layer does not answer.", "Start its Redis, or mend `hosts` in CHANNEL_LAYERS.",
                        final=False)
        if self._until("gateway_selftest_layer", wrong=False) is None:
            raise Wrong(
                "What Django sends through the channel layer does not reach the socket.",
                "Set the gateway's GATEWAY_CHANNELS to core or pubsub, whichever BACKEND of CHANNEL_LAYERS is, and its"
                " GATEWAY_CHANNELS_URL and GATEWAY_CHANNELS_PREFIX to the layer's `hosts` and `prefix`.", final=False,
            )
        return "what Django sends through the channel layer reaches the socket"

    def hand_over(self) -> str:
        if not handover.has_broker():
            return "left out: Celery has no broker here"
        if config.TASKS["mention"] != TASK:
            return f"left out: a mention becomes {config.TASKS['mention'] or 'no task'}, which does not say that it was run"
        with self._somebody() as other:
            key = f"gateway:selftest:{other.pk}"
            sessions.cache().set(key, "waiting", timeout=60)
            try:
                self._send(type="send_message", content=f"self-test @{other.get_username()}")
                until = time.monotonic() + 2 * self.timeout
                while time.monotonic() < until:
                    if sessions.cache().get(key) == "done":
                        return "a mention became a task, and a worker ran it"
                    time.sleep(0.1)
            finally:
                sessions.cache().delete(key)
        raise Wrong(
            "A mention was sent, and no worker ran its task.",
            "See that a Celery worker runs, that it knows community_gateway.tasks, that the gateway's GATEWAY_BROKER_URL is"
            f" Celery's broker, and that its GATEWAY_TASK_MENTION is {TASK}. When nobody is to be notified,"
            " leave this out with --no-handover.", final=False,
        )

    @contextmanager
    def _somebody(self) -> Iterator[Any]:
        """Somebody to mention: an account for the test alone, gone afterwards, because a real one would see the mention and
        miss what it is told meanwhile; unless one is named."""
        if self.other is not None:
            yield self.other
            return
        users = get_user_model()
        name = f"gateway-selftest-{uuid.uuid4().hex[:12]}"
        made = users(**{users.get_email_field_name(): f"{name}@selftest.invalid"} | {users.USERNAME_FIELD: name})
        made.set_unusable_password()
        try:
            with transaction.atomic(), quietly():
                made.save()
                if self.room.visibility != "public":
                    model("membership")._default_manager.create(room=self.room, user=made)
        except DatabaseError as error:
            raise Wrong(f"Django cannot make an account to mention: {type(error).__name__}.",
                        "Name another user with --other; they will see the mention.", final=False) from error
        try:
            yield made
        finally:
            with quietly():
                made.delete()

    # ---- the socket ------------------------------------------------------------------------------------------------

    def _connect(self, query: dict[str, str], headers: dict[str, str] | None = None) -> WebSocket:
        address = f"{config.PUBLIC_URL.rstrip('/')}/ws/community/room/{self.room.pk}/"
        given = ({"Origin": config.ORIGIN} if config.ORIGIN else {}) | (headers or {})
        try:
            return WebSocket(address + (f"?{urlencode(query)}" if query else ""), given, self.timeout)
        except Refused as error:
            raise refused(error) from error
        except OSError as error:
            raise out_of_reach(error) from error
        except ValueError as error:  # of urlsplit: a port that is none
            raise Wrong(f"{config.PUBLIC_URL} is no address: {error}.", "Mend COMMUNITY_GATEWAY['PUBLIC_URL'].") from error

    @staticmethod
    def _publish(channel: str, body: dict[str, Any]) -> None:
        if not publishing.send(channel, json.dumps(body)):
            raise Wrong("The Redis of REDIS_URL did not take what Django published.", "See that it runs and is not full.",
                        final=False)

    def _send(self, **frame: Any) -> None:
        assert self.socket is not None
        self.socket.send(json.dumps(frame))

    def _until(self, *names: str, wrong: bool = True) -> Any:
        """The next event of these names. When none comes: Wrong, or None if that is no news."""
        assert self.socket is not None
        until = time.monotonic() + self.timeout
        try:
            while True:
                event = json.loads(self.socket.receive(max(until - time.monotonic(), 0.01)))
                if isinstance(event, dict) and event.get("event") in names:
                    return event
        except ValueError as error:
            raise Wrong("The other side sends what is no JSON.", "See that it is a gateway that answers there.") from error
        except TimeoutError as error:
            if not wrong:
                return None
            raise Wrong(f"The gateway let the socket in and then sent no {names[0]} for {self.timeout:.0f} s.",
                        "See the gateway's log, and what its /readyz says.") from error
