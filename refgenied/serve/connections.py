"""Accepts connections one by one, as many as there are descriptors for. The others wait in the kernel's queue.

When no descriptors are left, asyncio's own server fails 2,048 times a second and logs each failure.
"""

import asyncio
import os
import resource
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from refgenied.model import ConfigError

log = structlog.get_logger("serve")

MOST_WAITING = 2048
"""Connections that the kernel may hold for us (it takes no more than net.core.somaxconn)."""
OTHER_DESCRIPTORS = 20
"""Descriptors that are kept free for other things than connections and their archives."""
ROOM_LOOK_SECONDS = 0.05
"""Seconds between two checks whether a connection has ended, while all descriptors are used."""
SHORTAGE_SECONDS = 0.5
"""Seconds to wait after the system could not give us a connection (it may be short of memory or descriptors)."""
LOG_AGAIN_SECONDS = 60.0
"""Seconds between two log lines while connections wait."""
SILENT_SECONDS = 30.0
"""A connection that has sent no request for this long is closed."""
SILENT_WHILE_FULL_SECONDS = 3.0
"""The same limit while others wait: 100 silent connections in a row would make a client wait for minutes."""


def allow_many_files() -> int:
    """Raise the soft limit of descriptors to the hard limit. Returns the new limit.

    The usual 1,024 are too few for many clients at once: each needs a connection and an open archive.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


class Acceptor:
    def __init__(self, listener: socket.socket, protocol: Callable[[], Any], limit: int) -> None:
        """`protocol` makes uvicorn's protocol for a connection. `limit`: of descriptors, see `allow_many_files`."""
        self._listener = listener
        self._protocol = protocol
        self._since: dict[Any, float] = {}
        """Open connections, and when each was accepted."""
        self._said = -LOG_AGAIN_SECONDS
        self.most = max(2, (limit - len(os.listdir("/proc/self/fd")) - OTHER_DESCRIPTORS) // 2)
        """The most connections at the same time."""

    @property
    def full(self) -> bool:
        return len(self._since) >= self.most

    async def run(self) -> None:
        """Ends only by cancellation."""
        loop = asyncio.get_running_loop()
        swept = loop.time()
        while True:
            if self.full or loop.time() - swept > SILENT_SECONDS / 6:
                swept = loop.time()
                self._sweep()
            if self.full:
                self._say(f"{self.most} connections are open, which is as many as there are descriptors for")
                await asyncio.sleep(ROOM_LOOK_SECONDS)
                continue
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # this connection or the system has a fault, never the listener
                self._say(error.strerror or str(error))
                await asyncio.sleep(SHORTAGE_SECONDS)
            else:
                await self._take(loop, connection)

    async def _take(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        try:
            _, protocol = await loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client has left already
            connection.close()
        else:
            self._since[protocol] = time.monotonic()

    def _sweep(self) -> None:
        """Forget connections that are closed, and close those that send no request."""
        now = time.monotonic()
        patience = SILENT_WHILE_FULL_SECONDS if self.full else SILENT_SECONDS
        for protocol, since in list(self._since.items()):
            if protocol.transport.is_closing():
                del self._since[protocol]
            elif protocol.cycle is None and now - since > patience:
                protocol.transport.close()

    def _say(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._said >= LOG_AGAIN_SECONDS:
            self._said = now
            log.warning("serve.connections_wait", reason=reason, hint="raise the limit (a service: LimitNOFILE=)")


_QUESTION = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def answers(listener: socket.socket, seconds: float) -> bool:
    """Whether a request to our own address is answered in this time. If it cannot be sent, this is True too."""
    loop = asyncio.get_running_loop()
    try:
        address: tuple[Any, ...] = listener.getsockname()
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 - only compared
        with socket.socket(listener.family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            async with asyncio.timeout(seconds):
                await loop.sock_connect(connection, (host, *address[1:]))
                await loop.sock_sendall(connection, _QUESTION)
                return (await loop.sock_recv(connection, 9)).startswith(b"HTTP/1.1 ")
    except (TimeoutError, ConnectionError):
        return False
    except OSError:  # no descriptor is free, the server stops, or the address is gone: a restart would not help
        return True


@contextmanager
def listening_on(host: str, port: int) -> Generator[socket.socket]:
    """A socket that listens on this address. ConfigError: it cannot listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"{host} is no address of this machine: {error.strerror}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(MOST_WAITING)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error.strerror}",
                hint="name another with --host and --port, or serving.host and serving.port",
            ) from None
        listener.setblocking(False)
        yield listener
