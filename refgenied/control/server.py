"""The server of the control socket: accepts, limits, and drains."""

import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import structlog

from refgenied.config.settings import Control
from refgenied.control import protocol
from refgenied.control.connection import Connection
from refgenied.control.context import Context
from refgenied.control.dispatch import Verbs
from refgenied.control.listener import listening
from refgenied.control.peer import credentials, identify
from refgenied.control.verbs.table import VERBS
from refgenied.model import BusyError

log = structlog.get_logger("control")

DRAIN_SECONDS = 5.0
"""When the daemon drains, running requests have this long to end."""
ACCEPT_RETRY_SECONDS = 0.2
"""Seconds to wait when the process has no file descriptor left for another connection."""
ACCEPT_LOG_SECONDS = 60.0
"""Seconds between two log lines while descriptors are missing."""


class Server:
    """Serves `verbs` on a listening socket (see `listener.listening`). It reads the settings at each accept."""

    def __init__(self, listener: socket.socket, verbs: Verbs, context: Any, settings: Callable[[], Control]) -> None:
        self._listener = listener
        self.path = str(listener.getsockname())
        self._verbs = verbs
        self._context = context
        self._settings = settings
        self._accepting = anyio.CancelScope()
        self._connections: set[Connection] = set()
        self._users: Counter[int] = Counter()
        self._one_gone = anyio.Event()
        self._ended = anyio.Event()
        self._said = -ACCEPT_LOG_SECONDS

    async def run(self) -> None:
        """Serve until `drain` was called and the running requests have ended, or until cancellation."""
        try:
            async with anyio.create_task_group() as group:
                with self._accepting:
                    while True:
                        raw = await self._accept()
                        group.start_soon(self._serve, raw)
                self._listener.close()  # now new clients are refused at once, and do not wait for an answer
                for connection in self._connections:
                    connection.drain()
                with anyio.move_on_after(DRAIN_SECONDS):
                    while self.connections:
                        self._one_gone = anyio.Event()
                        await self._one_gone.wait()
                for connection in self._connections:
                    connection.cut()
        finally:
            self._ended.set()

    async def drain(self) -> None:
        """Stop accepting, end watches with `shutting_down`, let short requests end. Return when `run` has ended."""
        self._accepting.cancel()
        await self._ended.wait()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._users.total()

    async def _accept(self) -> socket.socket:
        while True:
            await anyio.wait_readable(self._listener)
            try:
                raw, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                self._say(str(error))
                await anyio.sleep(ACCEPT_RETRY_SECONDS)
                continue
            raw.setblocking(False)
            return raw

    def _say(self, why: str) -> None:
        """Log that no connection could be accepted, at most once a minute."""
        now = time.monotonic()
        if now - self._said >= ACCEPT_LOG_SECONDS:
            self._said = now
            log.warning("control.accept_failed", error=why)

    async def _serve(self, raw: socket.socket) -> None:
        with raw:
            settings = self._settings()
            _, uid, _ = credentials(raw)
            refusal = self._refusal(uid, settings)
            if refusal is not None:
                log.warning("control.busy", uid=uid, connections=self.connections)
                with suppress(OSError):  # the client gets the reason only if its socket takes the line at once
                    raw.send(protocol.error_reply(None, refusal))
                return
            self._users[uid] += 1
            connection: Connection | None = None
            try:
                peer = await anyio.to_thread.run_sync(identify, raw, settings.group, settings.download_users)
                connection = Connection(raw, peer, self._verbs, self._context, first_line=settings.first_line_seconds)
                self._connections.add(connection)
                if self._accepting.cancel_called:
                    connection.drain()
                await connection.run()
            except OSError as error:
                log.warning("control.connection_failed", uid=uid, error=str(error))
            except Exception:  # an error of one connection must not end the daemon
                log.exception("control.connection_crashed", uid=uid)
            finally:
                self._users[uid] -= 1
                self._one_gone.set()
                if connection is not None:
                    self._connections.discard(connection)

    def _refusal(self, uid: int, settings: Control) -> BusyError | None:
        if uid == 0:  # the other users together must not lock out the administrator
            return None
        if self.connections >= settings.max_connections:
            return BusyError(
                f"{settings.max_connections} connections are open, the most that control.max_connections allows",
                hint="try again when one was closed",
            )
        if self._users[uid] >= settings.max_connections_per_user:
            return BusyError(
                f"uid {uid} has {self._users[uid]} connections open, the most that "
                "control.max_connections_per_user allows",
                hint="close one",
            )
        return None


@asynccontextmanager
async def serving(context: Context) -> AsyncGenerator[Server]:
    """A context with the daemon's control socket, as the settings say. `Server.run` serves it.

    `listener.listening` makes and removes the socket. ConfigError and ConflictError as there.
    """
    current = context.current
    with listening(current.settings.control) as listener:
        yield Server(listener, VERBS, context, lambda: current.settings.control)
