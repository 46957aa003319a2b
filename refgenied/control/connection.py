"""One connection: lines in, lines out, several requests at a time."""

import socket
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import structlog

from refgenied.control import protocol
from refgenied.control.dispatch import Call, PeerGoneError, Verbs, answer
from refgenied.control.peer import Peer
from refgenied.control.protocol import MAX_REQUEST, InvalidRequestError
from refgenied.model import BusyError, RefgeniedError, ShuttingDownError

log = structlog.get_logger("control")

MAX_REQUESTS = 16
"""The most requests that may run at one time on one connection, with watches."""
SEND_SECONDS = 10.0
"""A peer that takes nothing for this long, while there are bytes to send, is cut off."""
RECEIVE_BYTES = 64 * 1024
"""The most bytes that are received at one time."""


class Connection:
    """Serves one peer until it hangs up or breaks the rules, or until the daemon drains."""

    def __init__(self, raw: socket.socket, peer: Peer, verbs: Verbs, context: Any, *, first_line: float) -> None:
        self._raw = raw
        self._peer = peer
        self._verbs = verbs
        self._context = context
        self._first_line = first_line
        self._unread = bytearray()
        self._sending = anyio.Lock()
        self._reading = anyio.CancelScope()
        self._all = anyio.CancelScope()
        self._send_time = anyio.CancelScope()
        self._lasting: set[anyio.CancelScope] = set()
        self._running = 0
        self._draining = False
        self._gone = False

    async def run(self) -> None:
        """Return when the peer has hung up and its requests are answered. Watches and waits end when it hangs up."""
        with self._all:
            async with anyio.create_task_group() as group:
                try:
                    with self._reading:
                        await self._read_requests(group)
                except PeerGoneError:
                    group.cancel_scope.cancel()
                except RefgeniedError as error:  # after this, the next lines cannot be read
                    with suppress(PeerGoneError):
                        await self.send(protocol.error_reply(None, error))
                self._end_lasting()

    def drain(self) -> None:
        """Take no more requests. Watches and waits end; short requests are still answered."""
        self._draining = True
        self._reading.cancel()
        self._end_lasting()

    def cut(self) -> None:
        """End now, even if requests run."""
        self._gone = True
        self._all.cancel()
        self._send_time.cancel()

    def _end_lasting(self) -> None:
        for scope in self._lasting:
            scope.cancel()

    # ----------------------------------------------------------------- requests

    async def _read_requests(self, group: anyio.abc.TaskGroup) -> None:
        line: bytes | None = None
        with anyio.move_on_after(self._first_line) as first_line:
            line = await self._line()
        if first_line.cancelled_caught:
            raise InvalidRequestError(f"no request came within {self._first_line:g} s", hint="the connection is closed")
        while line is not None:
            await self._take(group, line)
            await anyio.lowlevel.checkpoint()  # other tasks have their turn, even if a peer never stops sending
            line = await self._line()

    async def _take(self, group: anyio.abc.TaskGroup, line: bytes) -> None:
        try:
            request = protocol.decode_request(line)
            if self._running >= MAX_REQUESTS:
                raise BusyError(
                    f"{MAX_REQUESTS} requests run on this connection already",
                    hint="wait for one to end, or open another connection",
                )
        except RefgeniedError as error:
            await self.send(protocol.error_reply(protocol.id_of(line), error))
            return
        self._running += 1
        group.start_soon(self._answer, request)

    async def _answer(self, request: protocol.Request) -> None:
        call = Call(request.id, self._peer, self.send)
        verb = self._verbs.get(request.method)
        scope = anyio.CancelScope()
        if verb is not None and verb.lasts:
            self._lasting.add(scope)
        try:
            with scope:
                await answer(self._verbs, self._context, request, call)
            if scope.cancelled_caught and self._draining:
                await call.fail(ShuttingDownError("the daemon is shutting down", hint="ask again when it is back"))
        except PeerGoneError:
            self.cut()
        finally:
            self._lasting.discard(scope)
            self._running -= 1

    # ----------------------------------------------------------------- lines

    async def _line(self) -> bytes | None:
        """The next line that is not empty; None: the peer has hung up. The last line may lack its newline."""
        while True:
            end = self._unread.find(b"\n", 0, MAX_REQUEST)
            if end >= 0:
                line = bytes(self._unread[:end])
                del self._unread[: end + 1]
                if line.strip():
                    return line
            elif len(self._unread) >= MAX_REQUEST:
                message = f"the line is longer than {MAX_REQUEST} bytes"
                raise InvalidRequestError(message, hint="the connection is closed")
            elif chunk := await self._receive():
                self._unread += chunk
            else:
                line = bytes(self._unread)
                self._unread.clear()
                return line if line.strip() else None

    async def _receive(self) -> bytes:
        while True:
            try:
                return self._raw.recv(RECEIVE_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._raw)
            except OSError:
                return b""

    async def send(self, line: bytes) -> None:
        """Send one whole line. PeerGoneError: the peer has hung up or does not read."""
        # A line that was begun is sent to its end, because half a line would garble the next one.
        with anyio.CancelScope(shield=True):
            async with self._sending:
                await self._send(memoryview(line))

    async def _send(self, rest: memoryview) -> None:
        while rest and not self._gone:
            try:
                rest = rest[self._raw.send(rest) :]
                continue
            except BlockingIOError:
                pass
            except OSError:
                break
            with anyio.move_on_after(SEND_SECONDS) as self._send_time:
                await anyio.wait_writable(self._raw)
            if self._send_time.cancelled_caught:
                log.info("control.stuck", user=self._peer.name, uid=self._peer.uid, pid=self._peer.pid)
                break
        if rest:
            self._gone = True
            raise PeerGoneError
