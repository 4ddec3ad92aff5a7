"""A crowd of WebSocket clients in one process, with no more than Python brings: the same for every server.

It reads frames, counts those that carry a message, and notes when the last of a room has got it. It checks nothing else: the
swarm does.
"""

import asyncio
import base64
import os
import struct
import time


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame. The mask is zero, which is legal, and the server unmasks all the same."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    return head + bytes(4) + payload


class Client(asyncio.Protocol):
    """One socket. `server` says how to talk to it."""

    def __init__(self, crowd: "Crowd", number: int, room: str) -> None:
        self.crowd, self.number, self.room = crowd, number, room
        self.buffer, self.upgraded, self.ready, self.socket_id = b"", False, asyncio.get_running_loop().create_future(), ""

    def connection_made(self, transport) -> None:
        self.transport = transport
        path = self.crowd.server.path(self.number, self.room)
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())

    def connection_lost(self, error) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"client {self.number} was not let in: {self.buffer[:120]!r}"))
        self.crowd.gone += 1

    def send(self, text: str) -> None:
        self.transport.write(masked(1, text.encode()))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.upgraded:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.transport.close()
                return
            self.upgraded, self.buffer = True, rest
        at, buffer = 0, self.buffer
        while len(buffer) - at >= 2:
            opcode, length, head = buffer[at] & 15, buffer[at + 1] & 127, 2
            if length == 126:
                if len(buffer) - at < 4:
                    break
                length, head = int.from_bytes(buffer[at + 2:at + 4], "big"), 4
            elif length == 127:
                if len(buffer) - at < 10:
                    break
                length, head = int.from_bytes(buffer[at + 2:at + 10], "big"), 10
            if len(buffer) - at < head + length:
                break
            payload = buffer[at + head:at + head + length]
            at += head + length
            if opcode == 1:
                self.take(payload)
            elif opcode == 9:
                self.transport.write(masked(10, payload))
            elif opcode == 8:
                self.transport.close()
        self.buffer = buffer[at:]

    def take(self, payload: bytes) -> None:
        if b"mark=" in payload:
            self.crowd.delivered(payload)
        elif not self.ready.done():
            if self.crowd.server.entered(self, payload.decode()):
                self.ready.set_result(None)


class Crowd:
    """All clients of one measurement."""

    def __init__(self, server) -> None:
        self.server, self.clients, self.gone = server, [], 0
        self.mark, self.count, self.wanted, self.all_there = b"", 0, 0, None

    async def come(self, rooms: list[str], at_once: int) -> None:
        """A client for each name of a room, so many at a time."""
        loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(at_once)

        async def one(number: int, room: str) -> None:
            async with gate:
                local = (f"127.2.{number // 250 // 250}.{number // 250 % 250 + 1}", 0)
                _, client = await loop.create_connection(
                    lambda: Client(self, number, room), "127.0.0.1", self.server.port, local_addr=local)
                await asyncio.wait_for(client.ready, 120)
                self.clients.append(client)

        await asyncio.gather(*(one(number, room) for number, room in enumerate(rooms)))

    def delivered(self, payload: bytes) -> None:
        if self.mark in payload:
            self.count += 1
            if self.count == self.wanted and not self.all_there.done():
                self.all_there.set_result(time.perf_counter())

    async def say(self, sender: Client, number: int, hearers: int) -> float:
        """One message; seconds until the last one has it."""
        self.mark, self.count, self.wanted = f"mark={number:06d}".encode(), 0, hearers
        self.all_there = asyncio.get_running_loop().create_future()
        text = f"mark={number:06d} " + "the build passed again, who wants a coffee after lunch? " * 6
        began = time.perf_counter()
        sender.send(self.server.message(sender, text[:300].rstrip()))
        return await asyncio.wait_for(self.all_there, 60) - began

    async def leave(self) -> None:
        for client in self.clients:
            client.transport.abort()
        while self.gone < len(self.clients):
            await asyncio.sleep(0.05)
