"""HTTP/1.1 over one connection. Unlike uvicorn's protocol it finds out whether the client got the whole answer.

A socket takes megabytes before the client reads the first byte. A client that leaves in the middle resets the
connection. A client that has read everything closes the connection, sends its next request, or stays connected after
it has acknowledged every byte.
"""

import asyncio
import fcntl
import math
import struct
import termios
from collections.abc import Callable

import anyio
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

QUIET_SECONDS = 1.0
"""A client that has acknowledged everything and stays connected for this long has read the answer."""
SEEMS_READ_SECONDS = 0.02
"""After this long the client has likely read the answer: nearly all clients that drop an answer leave sooner."""
ACKNOWLEDGED_LOOK_SECONDS = 0.05
"""Seconds between two looks at the bytes that are not acknowledged."""
CLOSE_LOOK_SECONDS = 0.01
"""The same seconds near the end of the answer."""
CLOSE_LOOK_BYTES = 1 << 17
"""The end is near when fewer bytes than this are not acknowledged."""
STALLED_SECONDS = 600.0
"""If a client takes no byte for this long, the server gives it up."""

SCOPE_KEY = "refgenied.wire"


class Wire(H11Protocol):
    """The protocol of one connection. It puts itself into the scope of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._moved = asyncio.Event()
        self._lost = False
        self._reset = False
        self._heard = 0
        app = self.app

        async def with_wire(scope: Scope, receive: Receive, send: Send) -> None:
            scope[SCOPE_KEY] = self
            await app(scope, receive, send)

        self.app = with_wire

    def data_received(self, data: bytes) -> None:
        self._heard += 1
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
        """After the last byte was given to `send`: wait until the client has all bytes (True) or has left (False).

        `seems` is called once when the client has acknowledged all bytes and stays: most likely the result is True.
        """
        heard = self._heard
        quiet = stalled = 0.0
        least = math.inf
        said = False
        while not self._lost and not self._reset:
            close = self._unacknowledged() < CLOSE_LOOK_BYTES and not said
            pause = CLOSE_LOOK_SECONDS if close else ACKNOWLEDGED_LOOK_SECONDS
            self._moved.clear()
            with anyio.move_on_after(pause):
                await self._moved.wait()
            if self._heard != heard:
                return True
            if self._lost or self._reset:
                break
            left = self._unacknowledged()
            quiet = quiet + pause if left == 0 else 0.0
            if quiet >= QUIET_SECONDS:
                return True
            if quiet >= SEEMS_READ_SECONDS and not said:
                said = True
                seems()
            least, stalled = (left, 0.0) if left < least else (least, stalled + pause)
            if stalled >= STALLED_SECONDS:
                return False
        return not self._reset

    def _unacknowledged(self) -> int:
        """Bytes that have not reached the client's kernel."""
        waiting = self.transport.get_write_buffer_size()
        connection = self.transport.get_extra_info("socket")
        try:
            raw = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return waiting
        return waiting + int(struct.unpack("i", raw)[0])
