"""Each fault of the proxy does what it says, shown on plain sockets: the other tests rest on it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.delivery import proxy as faults
from tests.delivery.proxy import Fault, FaultProxy

SAID = bytes(range(256)) * 4


class Echo:
    """A server that writes down what arrives, in pieces, and sends it back."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.times: list[float] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                self.pieces.append(piece)
                self.times.append(time.monotonic())
                writer.write(piece)
                await writer.drain()
            self.ended.set_result("closed")
        except ConnectionResetError:
            self.ended.set_result("reset")
        finally:
            writer.close()

    @property
    def heard(self) -> bytes:
        return b"".join(self.pieces)


@contextlib.asynccontextmanager
async def through(up: Fault = faults.intact, down: Fault = faults.intact) -> AsyncIterator[tuple]:
    """Yield an echo server, the proxy before it, and a client's two ends."""
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        proxy.up, proxy.down = up, down
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield echo, proxy, reader, writer
        finally:
            writer.close()


async def said(echo: Echo, count: int) -> None:
    """Wait until the server has heard so many bytes."""
    async with asyncio.timeout(10):
        while len(echo.heard) < count:
            await asyncio.sleep(0.005)


async def test_without_a_fault_everything_passes_both_ways():
    async with through() as (echo, proxy, reader, writer):
        writer.write(SAID)
        assert await reader.readexactly(len(SAID)) == SAID
        assert echo.heard == SAID
        assert (proxy.struck, proxy.passed) == (0, {"up": len(SAID), "down": len(SAID)})


async def test_late_is_late_and_complete():
    async with through(up=faults.delayed(0.2)) as (echo, proxy, reader, writer):
        began = time.monotonic()
        writer.write(SAID)
        assert await reader.readexactly(len(SAID)) == SAID
        assert echo.times[0] - began >= 0.2
        assert proxy.struck == 1


async def test_a_drip_is_small_pieces_and_complete():
    async with through(up=faults.dripping(16, 0.002)) as (echo, proxy, reader, writer):
        writer.write(SAID)
        assert await reader.readexactly(len(SAID)) == SAID
        assert len(echo.pieces) > 16
        assert proxy.struck == 1


@pytest.mark.parametrize("count", [0, 1, 255, 1023])
async def test_a_cut_upwards_is_after_exactly_so_many_bytes(count):
    async with through(up=faults.cut_after(count)) as (echo, proxy, _, writer):
        writer.write(SAID)
        async with asyncio.timeout(10):
            assert await echo.ended in ("closed", "reset")
        assert echo.heard == SAID[:count]
        assert proxy.struck == 1


@pytest.mark.parametrize("count", [0, 1, 255, 1023])
async def test_a_cut_downwards_is_after_exactly_so_many_bytes(count):
    async with through(down=faults.cut_after(count)) as (echo, proxy, reader, writer):
        writer.write(SAID)
        async with asyncio.timeout(10):
            assert await reader.read() == SAID[:count]
        assert echo.heard == SAID
        assert proxy.struck == 1


async def test_a_reset_is_a_reset_on_both_sides():
    async with through(up=faults.reset_after(100)) as (echo, proxy, reader, writer):
        writer.write(SAID)
        async with asyncio.timeout(10):
            assert await echo.ended == "reset"
            with pytest.raises(ConnectionResetError):
                while await reader.read(65_536):
                    pass
        assert SAID.startswith(echo.heard)
        assert len(echo.heard) <= 100
        assert proxy.struck == 1


async def test_a_black_hole_takes_everything_and_stays_open():
    async with through(up=faults.swallowed_after(100)) as (echo, proxy, reader, writer):
        for _ in range(50):
            writer.write(SAID)
            await writer.drain()
        await said(echo, 100)
        assert await reader.readexactly(100) == SAID[:100]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        assert echo.heard == SAID[:100]
        assert not echo.ended.done()
        assert proxy.struck == 1


async def test_every_second_frame_is_sent_twice():
    heard: list[str | bytes] = []

    async def note(connection):
        async for message in connection:
            heard.append(message)
            await connection.send(f"{len(heard)}")

    said = [bytes([n]) * size for n, size in enumerate((1, 125, 126, 70_000, 3, 4))]
    async with serve(note, "127.0.0.1", 0) as server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        proxy.up = faults.repeated(2)
        async with connect(f"ws://127.0.0.1:{proxy.port}/", compression=None) as client:
            for message in said:
                await client.send(message)
            answers = [await client.recv() for _ in range(9)]
    assert heard == [one for n, message in enumerate(said) for one in [message] * (1 + n % 2)]
    assert answers[-1] == "9"
    assert proxy.struck == 1


async def test_a_proxy_that_refuses_closes_at_once():
    async with through() as (_, proxy, _, _):
        proxy.refusing = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
        assert proxy.accepted == 2
