"""A browser tab, as far as a server can tell."""

import json
from contextlib import ExitStack

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from community_gateway.sessions import connection_token

GUARD = 20.0


class Tab:
    """One connection; what comes is waited for, never for ever."""

    def __init__(self, address: str, **options):
        self._open = ExitStack()
        self.socket = self._open.enter_context(
            connect(address, proxy=None, open_timeout=GUARD, close_timeout=1, **options)
        )

    def next(self) -> dict:
        return json.loads(self.socket.recv(timeout=GUARD))

    def until(self, name: str, **fields) -> dict:
        """The next event of this name with these fields."""
        while True:
            event = self.next()
            if event["event"] == name and fields.items() <= event.items():
                return event

    def send(self, **frame) -> None:
        self.socket.send(json.dumps(frame))

    def settled(self) -> list[dict]:
        """Everything that came before the answer to a ping sent now."""
        self.send(type="ping")
        events = []
        while (event := self.next())["event"] != "pong":
            events.append(event)
        return events

    def close_code(self) -> int:
        try:
            while True:
                self.socket.recv(timeout=GUARD)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "ended without a close frame"
            return closed.rcvd.code

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> "Tab":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def enter(gateway, room, user) -> Tab:
    """Connects to a room by a fresh token and waits until it is in."""
    tab = Tab(f"ws://{gateway.public}/ws/community/room/{room.pk}/?connection_token={connection_token(user)}")
    tab.until("room_state")
    tab.settled()
    return tab


def enter_app(gateway, user) -> Tab:
    """Connects a presence socket."""
    tab = Tab(f"ws://{gateway.public}/ws/community/presence/?connection_token={connection_token(user)}")
    tab.until("presence_state")
    tab.settled()
    return tab
