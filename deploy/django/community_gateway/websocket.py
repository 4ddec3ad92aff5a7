"""A WebSocket client as small as can be, so that the self-test needs no package. Text frames only; not for anything else."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import struct
import time
from urllib.parse import urlsplit

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LONGEST = 4 * 1024 * 1024


class Refused(Exception):
    """The upgrade was answered with an HTTP status, or with something that is no HTTP (status 0)."""

    def __init__(self, status: int, server: str = ""):
        super().__init__(f"HTTP {status}" if status else "no HTTP")
        self.status, self.server = status, server


class Closed(Exception):
    """The server closed the connection; 1006 when it did so without a word."""

    def __init__(self, code: int, reason: str = ""):
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code, self.reason = code, reason


class WebSocket:
    """One connection. Every call raises OSError when it takes longer than `timeout` seconds."""

    def __init__(self, url: str, headers: dict[str, str], timeout: float):
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        self._socket: socket.socket = socket.create_connection((host, port), timeout)
        try:
            if secure:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=host)
            self._timeout, self._rest = timeout, b""
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            self._upgrade(target, parts.netloc.rsplit("@")[-1], headers)
        except BaseException:
            self._socket.close()
            raise

    def _upgrade(self, target: str, host: str, headers: dict[str, str]) -> None:
        key = base64.b64encode(os.urandom(16))
        lines = {"Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key.decode(),
                 "Sec-WebSocket-Version": "13"} | headers
        text = f"GET {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._socket.sendall(f"{text}\r\n".encode())
        while b"\r\n\r\n" not in self._rest:
            if len(self._rest) > 65_536 or not (more := self._socket.recv(4096)):
                raise Refused(0)
            self._rest += more
        head, self._rest = self._rest.split(b"\r\n\r\n", 1)
        first, *rest = head.decode("latin-1").split("\r\n")
        found = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        word = first.split(" ")
        status = int(word[1]) if len(word) > 1 and word[0].startswith("HTTP/") and word[1].isdigit() else 0
        wanted = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        if status != 101 or found.get("sec-websocket-accept") != wanted:
            raise Refused(status, found.get("server", ""))

    def send(self, text: str) -> None:
        """Sends a text frame."""
        self._frame(0x1, text.encode())

    def _frame(self, opcode: int, payload: bytes) -> None:
        size, mask = len(payload), os.urandom(4)
        length = (struct.pack("!B", 0x80 | size) if size < 126 else
                  struct.pack("!BH", 0x80 | 126, size) if size < 65_536 else struct.pack("!BQ", 0x80 | 127, size))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def receive(self, timeout: float | None = None) -> str:
        """The next text. Pings are answered on the way. Raises Closed, or TimeoutError."""
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        text = b""
        while True:
            first, second = self._exactly(2, until)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8, until))
            if size > _LONGEST:
                raise Closed(1009, "a frame is larger than anything a gateway sends")
            payload = self._exactly(size, until)
            opcode = first & 0x0F
            if opcode == 0x8:
                raise Closed(int.from_bytes(payload[:2]) if len(payload) > 1 else 1005, payload[2:].decode(errors="replace"))
            if opcode == 0x9:
                self._frame(0xA, payload)
            elif opcode in (0x0, 0x1):
                text += payload
                if first & 0x80:
                    return text.decode()

    def _exactly(self, count: int, until: float) -> bytes:
        while len(self._rest) < count:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("nothing came")
            self._socket.settimeout(left)
            try:
                more = self._socket.recv(65_536)
            except ConnectionError:
                more = b""
            if not more:
                raise Closed(1006)
            self._rest += more
        self._socket.settimeout(self._timeout)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def close(self) -> None:
        """Says goodbye and does not wait for the answer."""
        try:
            self._frame(0x8, (1000).to_bytes(2))
        except OSError:
            pass
        self._socket.close()
