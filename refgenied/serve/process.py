"""The serving process: refgenieserver over one archive folder, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import structlog
import uvicorn
from anyio.from_thread import check_cancelled

from refgenied import __version__, logs
from refgenied.catalog.server_config import CONFIG_NAME
from refgenied.config import Settings
from refgenied.model import ConfigError, ShortageError
from refgenied.serve import refgenieserver
from refgenied.serve.connections import Acceptor, allow_many_files, answers, listening
from refgenied.serve.editions import Edition, NotReadyError, load
from refgenied.serve.served_archive import Identity
from refgenied.serve.wire import Wire
from refgenied.serve.middleware import Traffic
from refgenied.serve.follower import Notices
from refgenied.serve.partial_downloads import Unfinished
from refgenied.serve.shelf import Shelf
from refgenied.serve.spool import Spool
from refgenied.systemd.notify import notify, watchdog_seconds

log = structlog.get_logger("serve")

POLL_SECONDS = 1.0
"""How often the config's identity is looked at; the kernel's notices are quicker, and may be lost."""
PATIENCE_SECONDS = 3.0
"""How long a config may name an older archive than the one that is there."""
GRACE_SECONDS = 30
"""Downloads under way get so long to end after SIGTERM; a second one ends now."""


class Serving:
    def __init__(self, settings: Settings, host: str, port: int) -> None:
        if not settings.refgenie.genome_archive_folder:
            raise ConfigError(
                "no genome_archive_folder is set, so there is nothing to serve",
                hint="name it with --genome-archive-folder, or set refgenie.genome_archive_folder",
            )
        self._limit = allow_many_files()
        self._folder = Path(settings.refgenie.genome_archive_folder)
        self._config = self._folder / CONFIG_NAME
        self._address = (host, port)
        self._spool = Spool(Path(settings.serving.state_folder), settings.control.socket)
        self._shelf = Shelf(self._first())
        self._problem = ""
        self._loaded_at = time.time()
        self._traffic = Traffic(
            refgenieserver.build(self._folder, self._shelf), self._shelf, self._spool, lambda: self._health
        )
        self._unfinished = Unfinished(Path(settings.serving.state_folder), self._traffic.pulls)

    async def run(self) -> None:
        """Serve until a signal. ConfigError when the address cannot be had, or the state folder cannot be written."""
        try:
            await anyio.to_thread.run_sync(self._spool.open)
            await anyio.to_thread.run_sync(self._unfinished.open)
        except OSError as error:
            raise ConfigError(f"serving.state_folder: {error.filename}: {error.strerror}") from None
        with listening(*self._address) as listener:
            config = uvicorn.Config(
                self._traffic,
                http=Wire,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
            server = _Server(config, listener, self._limit)
            host, port = listener.getsockname()[:2]
            log.info("serve.listening", host=host, port=port, folder=str(self._folder), version=__version__)
            async with anyio.create_task_group() as group:
                group.start_soon(_signals, server)
                group.start_soon(self._spool.run)
                group.start_soon(self._unfinished.run)
                group.start_soon(self._follow)
                group.start_soon(self._prove_again)
                group.start_soon(self._beat, server)
                await server.serve(sockets=[listener])
                notify("STOPPING=1")
                group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._spool.flush()
            await self._unfinished.keep()
        log.info("serve.stopped", waiting=self._spool.waiting)

    # ----------------------------------------------------------------- editions

    def _first(self) -> Edition:
        """What there is at start; a config that cannot be read is waited for, with nothing served meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return load(self._folder, self._config, None, patient=time.monotonic() < deadline)
            except NotReadyError:
                time.sleep(0.05)
            except ShortageError:
                raise
            except Exception as error:  # noqa: BLE001 - refgenconf has many
                log.warning("serve.config_unreadable", path=str(self._config), error=str(error))
                return load(self._folder, self._folder / ".none", None)

    async def _follow(self) -> None:
        """Swap in each new config. The kernel says when; the poll makes sure."""
        refused: Identity | None = None
        since: float | None = None
        async with anyio.create_task_group() as group:
            changed = Notices()
            group.start_soon(changed.watch, self._folder)
            while True:
                with anyio.move_on_after(POLL_SECONDS if since is None else 0.05):
                    await changed.wait()
                self._shelf.tidy()
                identity = Identity.at(self._config)
                if identity in (self._shelf.current.identity, refused) or identity is None:
                    continue
                since = since or time.monotonic()
                patient = time.monotonic() - since < PATIENCE_SECONDS
                try:
                    edition = await anyio.to_thread.run_sync(self._load, patient)
                except NotReadyError:
                    continue
                except ShortageError as error:
                    since = None  # not 20 times a second: each try reads the whole config
                    self._refuse(error.message)
                    continue
                except Exception as error:  # noqa: BLE001 - refgenconf has many
                    refused, since = identity, None
                    self._refuse(f"{self._config}: {' '.join(str(error).split())}")
                    continue
                refused, since, self._problem = None, None, ""
                self._swap(edition)

    def _refuse(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("serve.config_refused", error=problem)
        self._problem = problem

    async def _prove_again(self) -> None:
        """Archives that were not what they were when the config was read."""
        while True:
            await anyio.sleep(POLL_SECONDS)
            for held in [held for held in self._shelf.current.archives.values() if held.in_doubt]:
                await anyio.to_thread.run_sync(held.prove_again, check_cancelled)

    def _load(self, patient: bool) -> Edition:  # noqa: FBT001 - called by position in a thread
        return load(self._folder, self._config, self._shelf.current, patient=patient)

    def _swap(self, edition: Edition) -> None:
        remotes_changed = edition.remotes != self._shelf.current.remotes
        self._shelf.put(edition)
        self._loaded_at = time.time()
        if remotes_changed:
            self._traffic.app = refgenieserver.build(self._folder, self._shelf)
        log.info("serve.config_loaded", archives=len(edition.archives))

    async def _beat(self, server: _Server) -> None:
        """Tell systemd that requests are answered, and nothing when they are not: it then starts us again."""
        watchdog = watchdog_seconds()
        if watchdog is None:
            return
        while True:
            full = server.accepts and server.acceptor.full  # it waits for clients, and they for their archives
            if full or await answers(server.listener, watchdog / 3):
                health = self._health
                more = f"; {health['problem']}" if health["problem"] else ""
                notify("WATCHDOG=1", f"STATUS=serving {health['archives']} archives{more}")
            else:
                log.warning("serve.no_answer")
            await anyio.sleep(watchdog / 4)

    # ----------------------------------------------------------------- counting, health

    @property
    def _health(self) -> dict[str, Any]:
        edition = self._shelf.current
        problem = self._problem or ("" if edition.identity else f"{self._config} is not there (yet)")
        return {
            "status": "problem" if problem else "ok",
            "problem": problem,
            "version": __version__,
            "archives": len(edition.archives),
            "mended": edition.mended,
            "config": str(self._config),
            "config_loaded_at": self._loaded_at,
            "downloads_waiting": self._spool.waiting,
            "downloads_problem": self._spool.problem,
        }


class _Server(uvicorn.Server):
    """Takes connections by itself, ends in order when told, and leaves signals to us."""

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
    """What the libraries say comes through our log; refgenieserver's chatter about each request does not."""
    logs.take_over(log)
    warnings.filterwarnings("ignore", message="Duplicate Operation ID", category=UserWarning)
