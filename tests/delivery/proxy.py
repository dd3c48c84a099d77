"""A TCP proxy between agents and the brain that does what networks do: late, slow, cut, reset, silent, twice."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable

Chunks = AsyncIterator[bytes]
#: What befalls one direction of a connection: bytes in, bytes out.
Fault = Callable[["Link", Chunks], Chunks]
_LINGER_RESET = struct.pack("ii", 1, 0)
_END_OF_HEAD = b"\r\n\r\n"


@dataclasses.dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    proxy: FaultProxy
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    struck: bool = False

    def strike(self) -> None:
        """Note that the fault took effect on this connection."""
        if not self.struck:
            self.struck = True
            self.proxy.struck += 1

    def cut(self) -> None:
        """End both sides in order: what was passed on still arrives."""
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        """End both sides with RST."""
        for writer in (self.client, self.server):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            writer.transport.abort()


async def intact(link: Link, chunks: Chunks) -> Chunks:
    """Pass everything on."""
    async for chunk in chunks:
        yield chunk


def delayed(seconds: float) -> Fault:
    """Pass everything on, late."""

    async def carry(link: Link, chunks: Chunks) -> Chunks:
        async for chunk in chunks:
            link.strike()
            await asyncio.sleep(seconds)
            yield chunk

    return carry


def dripping(size: int, pause: float) -> Fault:
    """Pass on ``size`` bytes at a time, with pauses."""

    async def carry(link: Link, chunks: Chunks) -> Chunks:
        async for chunk in chunks:
            link.strike()
            for start in range(0, len(chunk), size):
                yield chunk[start : start + size]
                await asyncio.sleep(pause)

    return carry


def cut_after(count: int) -> Fault:
    """Pass on exactly ``count`` bytes, then end both directions in order."""
    return _ending(count, Link.cut)


def reset_after(count: int) -> Fault:
    """Pass on ``count`` bytes, then end both directions with RST."""
    return _ending(count, Link.reset)


def _ending(count: int, end: Callable[[Link], None]) -> Fault:
    async def carry(link: Link, chunks: Chunks) -> Chunks:
        left = count
        async for chunk in chunks:
            if chunk[:left]:
                yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                link.strike()
                end(link)
                return

    return carry


def swallowed_after(count: int) -> Fault:
    """Pass on ``count`` bytes, then take everything and pass on nothing, without closing."""

    async def carry(link: Link, chunks: Chunks) -> Chunks:
        left = count
        async for chunk in chunks:
            if chunk[:left]:
                yield chunk[:left]
            if len(chunk) > left:
                link.strike()
            left = max(0, left - len(chunk))

    return carry


def repeated(every: int) -> Fault:
    """Send each ``every``-th WebSocket data frame a second time, byte for byte."""

    async def carry(link: Link, chunks: Chunks) -> Chunks:
        buffer, upgraded, number = b"", False, 0
        async for chunk in chunks:
            buffer += chunk
            if not upgraded:
                head, mark, rest = buffer.partition(_END_OF_HEAD)
                if not mark:
                    continue
                upgraded, buffer = True, rest
                yield head + mark
            while (length := frame_length(buffer)) is not None and len(buffer) >= length:
                frame, buffer = buffer[:length], buffer[length:]
                yield frame
                if frame[0] & 0x0F in (1, 2):
                    number += 1
                    if number % every == 0:
                        link.strike()
                        yield frame

    return carry


def frame_length(data: bytes) -> int | None:
    """Return how many bytes the WebSocket frame at the start of ``data`` has; None when too few are there to tell."""
    if len(data) < 2:
        return None
    short, masked = data[1] & 0x7F, data[1] >> 7
    extra = {126: 2, 127: 8}.get(short, 0)
    if len(data) < 2 + extra:
        return None
    length = int.from_bytes(data[2 : 2 + extra], "big") if extra else short
    return 2 + extra + 4 * masked + length


class FaultProxy:
    """Listens on a port of the loopback address and spreads connections over ``ports`` there, one after the other; use
    as an async context manager.

    ``up`` (agent to brain) and ``down`` are what befalls connections accepted from now on; ``refusing`` closes them at
    once. ``struck`` counts the connections on which a fault took effect, ``passed`` the bytes of each direction of
    the latest connection.
    """

    def __init__(self, *ports: int) -> None:
        self._targets = itertools.cycle(ports)
        self.up: Fault = intact
        self.down: Fault = intact
        self.refusing = False
        self.accepted = 0
        self.struck = 0
        self.passed = {"up": 0, "down": 0}
        self.port = 0
        self._server: asyncio.Server
        self._links: set[Link] = set()
        self._work: set[asyncio.Task[None]] = set()

    @property
    def ws_url(self) -> str:
        """Where agents reach the brain through the proxy."""
        return f"ws://127.0.0.1:{self.port}/ws/agent"

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *details: object) -> None:
        self._server.close()
        while self._work:
            self.cut_all()
            await asyncio.wait(self._work, timeout=0.2)

    def cut_all(self) -> None:
        """End every connection there is."""
        for link in list(self._links):
            link.cut()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._accept(reader, writer))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            writer.close()
            return
        up, down = self.up, self.down
        try:
            brain, server = await asyncio.open_connection("127.0.0.1", next(self._targets))
        except OSError:
            writer.close()
            return
        link = Link(self, writer, server)
        self._links.add(link)
        self.passed = {"up": 0, "down": 0}
        try:
            await asyncio.gather(
                self._carry(link, "up", up(link, _read(reader)), server, self.passed),
                self._carry(link, "down", down(link, _read(brain)), writer, self.passed),
            )
        finally:
            link.cut()
            self._links.discard(link)

    async def _carry(
        self, link: Link, direction: str, chunks: Chunks, to: asyncio.StreamWriter, passed: dict[str, int]
    ) -> None:
        try:
            async for chunk in chunks:
                to.write(chunk)
                passed[direction] += len(chunk)
                await to.drain()
        except ConnectionError:
            return
        finally:
            # The end of one direction is the end of the other: neither side of a WebSocket speaks on alone.
            link.cut()


async def _read(reader: asyncio.StreamReader) -> Chunks:
    while True:
        try:
            chunk = await reader.read(65_536)
        except ConnectionError:
            return
        if not chunk:
            return
        yield chunk
