"""Connections of `refgenied serve`: how many are taken, what becomes of silent ones, and when systemd hears of us."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from refgenied.serve import connections
from refgenied.serve.connections import Acceptor, answers, listening_on

pytestmark = pytest.mark.anyio


class Protocol(asyncio.Protocol):
    """As much of uvicorn's as the acceptor looks at. It answers everything with one line."""

    transport: asyncio.Transport
    cycle: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.cycle = data
        self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listening_on("127.0.0.1", 0) as listener:
        yield listener


@asynccontextmanager
async def taking(listener: socket.socket, most: int = 2) -> AsyncGenerator[Acceptor]:
    acceptor = Acceptor(listener, Protocol, limit=10_000)
    acceptor.most = most
    task = asyncio.create_task(acceptor.run())
    try:
        yield acceptor
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for protocol in acceptor._since:
            protocol.transport.close()


async def asked(listener: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"hello")
    return reader, writer


async def test_those_beyond_the_limit_wait_and_are_taken_when_others_leave(listener: socket.socket) -> None:
    async with taking(listener) as acceptor, asyncio.timeout(20):
        first, second, third = [await asked(listener) for _ in range(3)]
        assert (await first[0].readline(), await second[0].readline()) == (b"HTTP/1.1 204 No Content\r\n",) * 2
        assert acceptor.full
        waiting = asyncio.create_task(third[0].readline())
        done, _ = await asyncio.wait([waiting], timeout=connections.ROOM_LOOK_SECONDS * 2)
        assert not done
        first[1].close()
        assert await waiting == b"HTTP/1.1 204 No Content\r\n"
        second[1].close()
        third[1].close()


async def test_a_silent_connection_makes_room(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT_WHILE_FULL_SECONDS", 0.3)
    async with taking(listener, most=1), asyncio.timeout(20):
        silent, mute = await asyncio.open_connection(*listener.getsockname())
        reader, writer = await asked(listener)
        assert await reader.readline() == b"HTTP/1.1 204 No Content\r\n"
        assert await silent.read() == b""
        mute.close()
        writer.close()


async def test_a_shortage_is_waited_for_and_said_once(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connections, "SHORTAGE_SECONDS", 0.0)
    loop = asyncio.get_running_loop()
    real, left = loop.sock_accept, [24] * 50

    async def accept(sock: socket.socket) -> tuple[socket.socket, object]:
        if left:
            raise OSError(left.pop(), "Too many open files")
        return await real(sock)

    monkeypatch.setattr(loop, "sock_accept", accept)
    async with taking(listener), asyncio.timeout(20):
        reader, writer = await asked(listener)
        assert await reader.readline() == b"HTTP/1.1 204 No Content\r\n"
        writer.close()
    assert capsys.readouterr().out.count("Too many open files") == 1


async def test_who_answers_nobody_is_found_out(listener: socket.socket) -> None:
    assert not await answers(listener, 0.1), "the kernel takes the connection, and that proves nothing"
    async with taking(listener):
        assert await answers(listener, 10)


async def test_a_loop_that_stands_still_does_not_answer(listener: socket.socket) -> None:
    """The question comes from the loop itself: it is late as soon as the loop is."""
    stuck = threading.Event()
    async with taking(listener):
        asyncio.get_running_loop().call_soon(stuck.wait, 0.3)
        assert not await answers(listener, 0.1)


async def test_a_listener_that_is_closed_is_no_reason_to_start_again(listener: socket.socket) -> None:
    other = socket.socket()
    other.close()
    assert await answers(other, 1)
