"""HTTP/1.1 on the wire, with one thing more than uvicorn tells: whether the client got all of an answer.

A socket takes megabytes before the client reads the first byte. A client that leaves in the middle resets the
connection, one that has read everything closes it, asks the next thing, or stays with nothing left to acknowledge.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import struct
import termios
from typing import TYPE_CHECKING, Any

import anyio
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

QUIET_SECONDS = 1.0
"""A client that has acknowledged everything and stays connected has read it, unless it leaves within so long."""
SEEMS_SECONDS = 0.02
"""And after so long it seems so: nearly all that drop an answer have left by then."""
LOOK_SECONDS = 0.05
CLOSE_LOOK_SECONDS = 0.01
CLOSE_BYTES = 1 << 17
"""As soon as fewer are not acknowledged, the looks are close."""
STALLED_SECONDS = 600.0
"""A client that takes nothing for so long is not waited for any more."""

SCOPE_KEY = "refgenied.wire"


class Wire(H11Protocol):
    """Puts itself into the scope of each of its requests."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._moved = asyncio.Event()
        self._lost = False
        self._reset = False
        self._asked_on = 0
        app: Any = self.app

        async def with_wire(scope: Scope, receive: Receive, send: Send) -> None:
            scope[SCOPE_KEY] = self
            await app(scope, receive, send)

        self.app = with_wire

    def data_received(self, data: bytes) -> None:
        self._asked_on += 1
        self._moved.set()
        super().data_received(data)

    def eof_received(self) -> None:
        self._reset = self._reset or self._unacknowledged() > 0
        self._moved.set()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._reset = self._reset or exc is not None
        self._moved.set()
        super().connection_lost(exc)

    @property
    def is_open(self) -> bool:
        return not self._lost and not self.transport.is_closing()

    async def delivered(self, seems: Callable[[], None]) -> bool:
        """After the last byte was given to `send`: wait until the client has it all (True) or has left (False).

        `seems` is called once when the client has acknowledged all and is still there: it is most likely True then.
        """
        asked = self._asked_on
        quiet = stalled = 0.0
        least = math.inf
        said = False
        while not self._lost and not self._reset:
            left = self._unacknowledged()
            close = left < CLOSE_BYTES and not said
            pause = CLOSE_LOOK_SECONDS if close else LOOK_SECONDS
            self._moved.clear()
            with anyio.move_on_after(pause):
                await self._moved.wait()
            if self._asked_on != asked:
                return True
            if self._lost or self._reset:
                break
            left = self._unacknowledged()
            quiet = quiet + pause if left == 0 else 0.0
            if quiet >= QUIET_SECONDS:
                return True
            if quiet >= SEEMS_SECONDS and not said:
                said = True
                seems()
            least, stalled = (left, 0.0) if left < least else (least, stalled + pause)
            if stalled >= STALLED_SECONDS:
                return False
        return not self._reset

    def _unacknowledged(self) -> int:
        """Bytes on this side of the client's kernel."""
        waiting = self.transport.get_write_buffer_size()
        connection = self.transport.get_extra_info("socket")
        try:
            raw = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return waiting
        return waiting + int(struct.unpack("i", raw)[0])
