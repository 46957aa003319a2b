"""The composition root: the only place that builds objects. Lock, open, recover, task group, signals, drain."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from refgenied import __version__, config, logs
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.catalog.updater import Updater
from refgenied.control.context import Context
from refgenied.control.readers import Readers
from refgenied.control.server import serving
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Health
from refgenied.maintenance.importer import Importer
from refgenied.maintenance.recovery import recover
from refgenied.maintenance.rights import Rights
from refgenied.maintenance.scrubber import Scrubber
from refgenied.maintenance.tidier import Tidier
from refgenied.maintenance.verifier import Verifier
from refgenied.model import ConfigError, RefgeniedError, StateError
from refgenied.queue.core import Core
from refgenied.queue.feed import Feed
from refgenied.queue.jobs import Jobs
from refgenied.queue.pause import Pause
from refgenied.queue.worker import Worker
from refgenied.reconciler import Reconciler
from refgenied.store import Store, archives
from refgenied.store.lock import held
from refgenied.systemd.notify import notify, reloading, unit
from refgenied.systemd.supervision import Supervision
from refgenied.watcher import Watcher

log = structlog.get_logger("daemon")

GRACE_SECONDS = 5.0
"""After the second signal; what is left undone then is what a crash leaves."""
EXIT_NOW = 128 + signal.SIGTERM
FIRST_LOOK_SECONDS = 5.0
"""A first look that takes longer goes on after systemd was told that the daemon is ready."""


def _end_in(seconds: float) -> None:
    """End the process then, whatever it does: a thread that hangs on a dead disk cannot be cancelled."""

    def end() -> None:
        logs.flush()
        os._exit(EXIT_NOW)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


class StartAgainError(RefgeniedError):
    """The daemon ended in order and wants to be started again: exit 75 (EX_TEMPFAIL)."""

    kind = "start_again"


def _made(state: Path) -> Path:
    try:
        state.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the state folder {state} cannot be made: {error.strerror}") from None
    return state


class Daemon:
    def __init__(self, settings: config.Settings, load: Callable[[], config.Settings]) -> None:
        self.current = config.Current(settings)
        self._load = load
        self._reloaded: Callable[[], None] = lambda: None
        """Told after the settings have changed."""
        self._reconciler: Reconciler | None = None
        self._start_again = ""

    async def run(self) -> None:
        """Run until a signal or `server.shutdown`. Raises RefgeniedError when it cannot start."""
        settings = self.current.settings
        state = _made(Path(settings.state.folder))
        with held(state):
            async with Store.opened(state) as store:
                first_started_at, archive_folder = await self._first_facts(store, time.time())
                with archive_folder.held():
                    await self._run(store, archive_folder, first_started_at)
        if self._start_again:
            raise StartAgainError(self._start_again)

    async def _run(self, store: Store, archive_folder: ArchiveFolder, first_started_at: float) -> None:
        settings = self.current.settings
        clock = time.time
        health = Health(clock)
        jobs = Jobs(store, Feed(), self.current, clock)
        folder = GenomeFolder(
            settings.refgenie.genome_folder,
            config=settings.refgenie.genome_config or None,
            interrupted_after=settings.watch.interrupted_seconds,
        )
        core = Core(folder, archive_folder, jobs, self.current, health, clock)
        await recover(core)
        pause = Pause(core)
        await pause.load()
        reconciler = Reconciler(core, pause, first_started_at=first_started_at)
        pause.on_end(reconciler.hint)  # what was not queued meanwhile
        self._reconciler = reconciler
        logs.set_up(settings.log, self._names)
        watcher = Watcher(reconciler, self.current, health)
        verifier = Verifier(core)
        scrubber = Scrubber(core, verifier)
        catalog = Updater(core, reconciler, scrubber.doubt)
        worker = Worker(core, pause)
        importer = Importer(core)
        tidier = Tidier(core, importer)
        rights = Rights(core, reconciler)

        def reloaded() -> None:  # what is wanted now may be something else
            reconciler.hint()
            rights.look_again()

        self._reloaded = reloaded
        stop = anyio.Event()
        supervision = Supervision(core, reconciler, pause, restart=lambda why: self._start_anew(why, stop))
        context = Context(
            **vars(core),
            pause=pause,
            reconciler=reconciler,
            catalog=catalog,
            started_at=clock(),
            began=time.monotonic(),
            watcher=watcher,
            verifier=verifier,
            rights=rights,
            importer=importer,
            readers=Readers(),
            shutdown=stop.set,
            reload=self.reload,
        )
        # The socket outside: an error in making it is not to be wrapped, and it goes when nobody serves it any more.
        async with serving(context) as control, anyio.create_task_group() as group:
            log.info(
                "daemon.started",
                version=__version__,
                genome_folder=settings.refgenie.genome_folder,
                archive_folder=settings.refgenie.genome_archive_folder,
                socket=control.path,
                config=settings.path,
            )
            for part in (reconciler, watcher, pause, catalog, scrubber, rights, tidier, control):
                group.start_soon(part.run)
            group.start_soon(jobs.keep_pruned)
            group.start_soon(self._signals, stop, group.cancel_scope)
            with anyio.move_on_after(FIRST_LOOK_SECONDS):
                await reconciler.first_look.wait()  # meanwhile the socket answers
            notify("READY=1", f"STATUS={await supervision.status()}")
            group.start_soon(supervision.run)
            await _work_until(stop, worker, supervision)
            await catalog.catch_up()
            log.info("daemon.draining")
            await control.drain()
            group.cancel_scope.cancel()
        with suppress(StateError):
            await archive_folder.settle(store)
        log.info("daemon.stopped")

    async def _first_facts(self, store: Store, now: float) -> tuple[float, ArchiveFolder]:
        """When the daemon first started on this state, and the archive folder that belongs to it."""
        path = self.current.settings.refgenie.genome_archive_folder
        known = await store.ask(archives.fact, f"archive_folder_id:{path}")
        folder = ArchiveFolder(path, known)
        found = await anyio.to_thread.run_sync(folder.open)
        if found and found != known:
            await store.ask(archives.put_fact, f"archive_folder_id:{path}", found)
        return await store.ask(archives.first_started_at, now), folder

    def _start_anew(self, why: str, stop: anyio.Event) -> None:
        log.warning("daemon.starts_again", reason=why)
        self._start_again = why
        stop.set()

    def _names(self, path: str) -> list[str]:
        """All registry paths of an asset: with the digest first, then with each alias, as the last look found them."""
        genome, _, name = path.partition("/")
        look = self._reconciler.look if self._reconciler else None
        if look is None or not name:
            return [path]
        known = [look.genomes[genome]] if genome in look.genomes else []
        known = known or [one for one in look.genomes.values() if genome in one.aliases]
        if len(known) != 1:  # an alias of two genomes says of neither that it is meant
            return [path]
        return [f"{called}/{name}" for called in (known[0].digest, *known[0].aliases)]

    # ----------------------------------------------------------------- signals

    async def _signals(self, stop: anyio.Event, everything: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            asked = False
            async for number in signals:
                if number is signal.SIGHUP:
                    await self._reload_and_log()
                elif asked:
                    log.warning("daemon.stopping_now", signal=number.name)
                    _end_in(GRACE_SECONDS)
                    everything.cancel()
                else:
                    log.info("daemon.signal", signal=number.name)
                    asked = True
                    stop.set()

    async def _reload_and_log(self) -> None:
        try:
            await self.reload()
        except ConfigError as error:
            log.warning("config.refused", error=error.message, hint=error.hint)
        except Exception:  # whatever is odd in the file: the old settings hold, and nothing ends
            log.exception("config.refused")

    async def reload(self) -> list[str]:
        """Read the configuration again; the settings that differ and need a restart. ConfigError: the old ones hold."""
        reloading()
        try:
            return await self._reload()
        finally:
            notify("READY=1")

    async def _reload(self) -> list[str]:
        new = await anyio.to_thread.run_sync(self._load)
        fixed = config.changed_fixed(self.current.settings, new)
        outside = [name for name in fixed if name in config.FOLDERS]
        if outside and unit():
            raise ConfigError(
                f"{', '.join(outside)} changed, and the sandbox of {unit()} is fixed at start: nothing was reloaded",
                hint=f"run `refgenied install-units` and `systemctl restart {unit()}`",
            )
        if fixed:
            log.warning("config.needs_restart", settings=fixed)
        self.current.settings = config.keeping_fixed(self.current.settings, new)
        logs.set_up(self.current.settings.log, self._names)
        log.info("config.reloaded", config=new.path)
        self._reloaded()
        return fixed


async def _work_until(stop: anyio.Event, worker: Worker, supervision: Supervision) -> None:
    """Run the worker; when `stop` is set, let it hand its job back, or finish a publish."""
    async with anyio.create_task_group() as group:

        async def drain_on_stop() -> None:
            await stop.wait()
            supervision.drain()
            worker.drain()

        group.start_soon(drain_on_stop)
        await worker.run()
        group.cancel_scope.cancel()
