"""A WebSocket client that does what no library lets one do: frames of any shape, and not reading what comes."""

from __future__ import annotations

import os
import socket
import struct
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class RawSocket:
    """One TCP connection to the brain; every wait ends after ten seconds."""

    def __init__(self, url: str, *, receive_buffer: int = 0) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        self.socket.connect((parts.hostname, parts.port))

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(self, *details: object) -> None:
        self.socket.close()

    def upgrade(self, token: str, extra: bytes = b"") -> bytes:
        """Ask for a WebSocket, with ``extra`` in the same packet; return the head of the answer."""
        request = (
            f"GET /ws/agent HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.socket.sendall(request.encode() + extra)
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := self.socket.recv(1)):
            head += byte
        return head

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send one frame."""
        self.socket.sendall(frame(opcode, payload, fin=fin))

    def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame. Raises ``ConnectionError`` at the end of the stream."""
        first, length = self._exactly(2)
        if length >= 126:
            width = 2 if length == 126 else 8
            length = int.from_bytes(self._exactly(width), "big")
        return first & 15, self._exactly(length)

    def close_code(self) -> int:
        """Read until the brain closes; return its close code, 1006 when it cut the connection."""
        try:
            while True:
                opcode, payload = self.receive()
                if opcode == CLOSE:
                    return int(struct.unpack("!H", payload[:2])[0])
        except ConnectionError:
            return 1006

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionResetError("the brain closed the connection")
            data += part
        return data


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return one frame as a client sends it, masked."""
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([(0x80 if fin else 0) | opcode]) + length + mask + masked
