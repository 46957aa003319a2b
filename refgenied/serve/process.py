"""The serving process: refgenieserver over one archive folder, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
import uvicorn

from refgenied import __version__, logs
from refgenied.config.settings import Settings
from refgenied.model import ConfigError, prepare_structs
from refgenied.serve.connections import Acceptor, allow_many_files, answers, listening_on
from refgenied.serve.follower import Follower
from refgenied.serve.middleware import Traffic
from refgenied.serve.partial_downloads import PartialDownloads
from refgenied.serve.spool import Spool
from refgenied.serve.wire import Wire
from refgenied.systemd.notify import notify, watchdog_seconds

log = structlog.get_logger("serve")

prepare_structs()

GIL_SECONDS = 0.0005
"""A thread that reads a large config lets the requests run after this time. An answer waits for several such turns:
with Python's 5 ms the worst answer of `/health` took 0.2 s."""
DOWNLOADS_END_SECONDS = 30
"""After SIGTERM, current downloads have this long to end. A second signal ends them at once."""


class ServingProcess:
    def __init__(self, settings: Settings, host: str, port: int) -> None:
        if not settings.refgenie.genome_archive_folder:
            raise ConfigError(
                "no genome_archive_folder is set, so there is nothing to serve",
                hint="name it with --genome-archive-folder, or set refgenie.genome_archive_folder",
            )
        self._limit = allow_many_files()
        self._folder = settings.refgenie.genome_archive_folder
        self._address = (host, port)
        state = Path(settings.serving.state_folder)
        self._spool = Spool(state, settings.control.socket)
        self._follower = Follower(Path(self._folder))
        self._traffic = Traffic(self._follower, self._spool)
        self._partial = PartialDownloads(state, self._traffic.pulls)

    async def run(self) -> None:
        """Serve until a signal. ConfigError: another program has the address, or the state folder cannot be written."""
        try:
            await anyio.to_thread.run_sync(self._spool.open)
            await anyio.to_thread.run_sync(self._partial.open)
        except OSError as error:
            raise ConfigError(f"serving.state_folder: {error.filename}: {error.strerror}") from None
        sys.setswitchinterval(GIL_SECONDS)
        with listening_on(*self._address) as listener:
            config = uvicorn.Config(
                self._traffic,
                http=Wire,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=DOWNLOADS_END_SECONDS,
            )
            server = _Server(config, listener, self._limit)
            host, port = listener.getsockname()[:2]
            log.info("serve.listening", host=host, port=port, folder=self._folder, version=__version__)
            async with anyio.create_task_group() as group:
                group.start_soon(_signals, server)
                group.start_soon(self._spool.run)
                group.start_soon(self._partial.run)
                group.start_soon(self._follower.run)
                group.start_soon(self._beat, server)
                await server.serve(sockets=[listener])
                notify("STOPPING=1")
                group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._spool.flush()
            await self._partial.keep()
        log.info("serve.stopped", waiting=self._spool.waiting)

    async def _beat(self, server: _Server) -> None:
        """Tell systemd that requests are answered. If they are not, systemd gets no message and restarts us."""
        watchdog = watchdog_seconds()
        if watchdog is None:
            return
        while True:
            full = server.accepts and server.acceptor.full  # then our own request cannot be accepted: not a fault
            if full or await answers(server.listener, watchdog / 3):
                health = self._traffic.health
                more = f"; {health['problem']}" if health["problem"] else ""
                notify("WATCHDOG=1", f"STATUS=serving {health['archives']} archives{more}")
            else:
                log.warning("serve.no_answer")
            await anyio.sleep(watchdog / 4)


class _Server(uvicorn.Server):
    """Accepts connections through `Acceptor`, and leaves signals to `_signals`."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, limit: int) -> None:
        super().__init__(config)
        self.listener = listener
        self.acceptor = Acceptor(listener, self._protocol, limit)
        self._accepting: asyncio.Task[None] | None = None

    def _protocol(self) -> Wire:
        return Wire(config=self.config, server_state=self.server_state, app_state={})

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - the listener is ours
        await super().startup(sockets=[])
        self._accepting = asyncio.create_task(self.acceptor.run())
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            with suppress(asyncio.CancelledError):
                await self._accepting
        await super().shutdown(sockets)

    @property
    def accepts(self) -> bool:
        return self._accepting is not None and not self._accepting.done()


async def _signals(server: uvicorn.Server) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("serve.signal", signal=number.name)
            server.force_exit = server.should_exit
            server.should_exit = True


def quiet_libraries() -> None:
    """Write the messages of libraries into our log, except refgenieserver's message about each request."""
    logs.take_over(log)
    warnings.filterwarnings("ignore", message="Duplicate Operation ID", category=UserWarning)
