"""A browser tab, as far as the gateway can tell: the `websockets` package, and the frames of the app's React hooks."""

import asyncio
import contextlib
import json
from http import HTTPStatus
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from djangoapp import people
from djangoapp.setup import ACCESS_COOKIE
from gateway import GUARD, Gateway


class Refused(Exception):
    """The gateway answered the upgrade with an HTTP status."""

    def __init__(self, response):
        super().__init__(f"refused with {response.status_code}")
        self.status = HTTPStatus(response.status_code)
        self.headers = response.headers
        self.body = response.body


class Tab:
    """One connection. Events are kept in the order they came; waiting never sleeps, and never waits for ever."""

    opened: list["Tab"] = []  # by the test that runs now; closed when it ends

    def __init__(self, socket):
        self.socket = socket
        self.events: list[dict] = []  # all that ever came
        self._taken = 0  # how many of them the test has looked at
        self._news = asyncio.Condition()
        self._closed = False
        self._reading = asyncio.create_task(self._read())
        Tab.opened.append(self)

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                async with self._news:
                    event = json.loads(text)
                    if event["event"] != "session":  # comes beside everything else, and is not Django's
                        self.events.append(event)
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        finally:
            async with self._news:
                self._closed = True
                self._news.notify_all()

    async def _wait_until(self, what: str, condition) -> None:
        try:
            async with asyncio.timeout(GUARD), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            names = [event.get("event") for event in self.events[-20:]]
            raise AssertionError(f"waited for {what}; the last events were {names}") from None

    async def next(self) -> dict:
        """The next event, whichever it is."""
        await self._wait_until("an event", lambda: self._taken < len(self.events) or self._closed)
        assert self._taken < len(self.events), f"closed with {self.code} where an event was expected"
        self._taken += 1
        return self.events[self._taken - 1]

    async def until(self, name: str, **fields) -> dict:
        """The next event of this name with these fields; the ones before it are passed over."""
        while True:
            event = await self.next()
            if event["event"] == name and fields.items() <= event.items():
                return event

    async def rest(self) -> list[dict]:
        """Everything that came before the answer to a ping sent now, and was not looked at yet."""
        await self.send(type="ping")
        events = []
        while (event := await self.next())["event"] != "pong":
            events.append(event)
        return events

    async def collect(self, name: str, count: int) -> list[dict]:
        """All events of this name so far, once there are `count` of them."""
        def those():
            return [event for event in self.events if event["event"] == name]

        await self._wait_until(f"{count} events {name}", lambda: len(those()) >= count or self._closed)
        return those()

    async def send(self, **frame) -> None:
        await self.socket.send(json.dumps(frame, ensure_ascii=False))  # as JSON.stringify does

    async def say(self, content: str, **fields) -> None:
        await self.send(type="send_message", content=content, **fields)

    async def settled(self) -> None:
        """Returns when the gateway has finished what this tab sent so far: commands are taken one by one."""
        await self.send(type="ping")
        await self.until("pong")

    async def close_code(self) -> int:
        """The code that the gateway closes with, once it does."""
        await self._wait_until("the close", lambda: self._closed)
        return self.code

    @property
    def code(self) -> int | None:
        return self.socket.close_code

    @property
    def reason(self) -> str | None:
        return self.socket.close_reason

    async def close(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.socket.close()
        await self._reading


async def dial(gateway: Gateway, path: str, *, origin=None, cookie=None, headers=None, **query) -> Tab:
    """Connects to a path. Raises `Refused` when the upgrade is refused."""
    address = f"ws://{gateway.public}{path}" + (f"?{urlencode(query)}" if query else "")
    headers = list((headers or {}).items())
    if cookie is not None:
        headers.append(("Cookie", f"theme=dark; {ACCESS_COOKIE}={cookie}; csrftoken=x"))
    try:
        socket = await connect(
            address, origin=origin, additional_headers=headers, proxy=None, open_timeout=GUARD, close_timeout=GUARD
        )
    except InvalidStatus as error:
        raise Refused(error.response) from None
    return Tab(socket)


async def becomes(wanted, look) -> None:
    """Waits until what `look` sees in a database is `wanted`, for what no event tells."""
    seen = None
    try:
        async with asyncio.timeout(GUARD):
            while (seen := look()) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited for {wanted}, saw {seen}") from None


def room_path(room) -> str:
    return f"/ws/community/room/{room.pk}/"


def dm_path(thread) -> str:
    return f"/ws/community/dm/{thread.pk}/"


async def knock(gateway: Gateway, room, user, **more) -> Tab:
    """Connects a user to a room with a fresh token, as the page does. Whether it is let in is not waited for."""
    return await dial(gateway, room_path(room), connection_token=people.connection_token(user), **more)


async def enter(gateway: Gateway, room, user, **more) -> Tab:
    """Connects a user to a room and waits until it is in."""
    tab = await knock(gateway, room, user, **more)
    await tab.until("room_state")
    return tab
