"""Makes and connects all parts of the daemon: lock, open, recover, run all parts, signals, drain."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import structlog

from refgenied import __version__, logs
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.catalog.updater import Updater
from refgenied.config.settings import Current, Settings
from refgenied.control.context import Context
from refgenied.control.readers import Readers
from refgenied.control.server import serving
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Health
from refgenied.maintenance.damage import Damage
from refgenied.maintenance.importer import Importer
from refgenied.maintenance.recovery import recover
from refgenied.maintenance.rights import Rights
from refgenied.maintenance.scrubber import Scrubber
from refgenied.maintenance.tidier import Tidier
from refgenied.maintenance.verifier import Verifier
from refgenied.model import RefgeniedError, StateError, prepare_structs
from refgenied.queue.core import Core
from refgenied.queue.feed import Feed
from refgenied.queue.jobs import Jobs
from refgenied.queue.pause import Pause
from refgenied.queue.worker import Worker
from refgenied.reconciler import Reconciler
from refgenied.store import Store, archives
from refgenied.store.state_folder import held
from refgenied.systemd.notify import notify
from refgenied.systemd.reload import Reload
from refgenied.systemd.supervision import Supervision
from refgenied.systemd.surroundings import Surroundings
from refgenied.watcher import Watcher

log = structlog.get_logger("daemon")

prepare_structs()

SECOND_SIGNAL_GRACE_SECONDS = 5.0
"""This long after the second signal the process ends, as in a crash."""
EXIT_AFTER_SECOND_SIGNAL = 128 + signal.SIGTERM
FIRST_LOOK_SECONDS = 3.0
"""systemd waits at most this long for the first look. A longer look continues while the daemon is ready."""


def _end_in(seconds: float) -> None:
    """End the process after this long, because a thread that hangs on a dead disk cannot be cancelled."""

    def end() -> None:
        logs.flush()
        os._exit(EXIT_AFTER_SECOND_SIGNAL)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


class StartAgainError(RefgeniedError):
    """The daemon has ended in an orderly way and must be started again: exit status 75 (EX_TEMPFAIL)."""

    kind = "start_again"


class Daemon:
    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self._current = Current(settings)
        self._load = load
        self._start_again = ""
        """Why the daemon must be started again; empty when it need not be."""

    async def run(self) -> None:
        """Run until a signal or `server.shutdown`. Raises RefgeniedError when it cannot start."""
        settings = self._current.settings
        state = Path(settings.state.folder)
        with held(state):
            async with Store.opened(state) as store:
                archive_folder = await ArchiveFolder.opened(settings.refgenie.genome_archive_folder, store)
                with archive_folder.held():
                    await self._run(store, archive_folder)
        if self._start_again:
            raise StartAgainError(self._start_again)

    async def _run(self, store: Store, archive_folder: ArchiveFolder) -> None:
        settings, clock = self._current.settings, time.time
        jobs = Jobs(store, Feed(), self._current, clock)
        folder = GenomeFolder(
            settings.refgenie.genome_folder,
            config=settings.refgenie.genome_config or None,
            interrupted_after=settings.watch.interrupted_seconds,
        )
        core = Core(folder, archive_folder, jobs, self._current, Health(clock), clock)
        await recover(core)
        pause = Pause(core)
        await pause.load()
        first_started_at = await store.ask(archives.first_started_at, clock())
        reconciler = Reconciler(core, pause, first_started_at=first_started_at)
        pause.on_end(reconciler.judge_again)  # queue the assets that could not be queued before
        logs.set_up(settings.log, reconciler.last.names)
        watcher = Watcher(reconciler, self._current, core.health)
        verifier = Verifier(core)
        scrubber = Scrubber(core, verifier)
        damage = Damage(core, verifier)
        catalog = Updater(core, reconciler, damage.doubt)
        worker = Worker(core, pause)
        importer = Importer(core)
        tidier = Tidier(core, importer)
        rights = Rights(core, reconciler, catalog.note)
        reload = Reload(self._current, self._load, reconciler.last.names)
        reload.then(reconciler.judge_again)  # other assets may be wanted now
        reload.then(rights.look_again)
        stop = anyio.Event()
        surroundings = Surroundings(core, restart=lambda why: self._start_anew(why, stop))
        supervision = Supervision(core, reconciler, pause, surroundings)
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
            reload=reload.run,
        )
        # The socket is outside the task group: the group would wrap its error, and it is closed after the last answer.
        async with serving(context) as control, anyio.create_task_group() as group:
            log.info(
                "daemon.started",
                version=__version__,
                genome_folder=settings.refgenie.genome_folder,
                archive_folder=settings.refgenie.genome_archive_folder,
                socket=control.path,
                config=settings.path,
            )
            for part in (reconciler, watcher, pause, catalog, damage, scrubber, rights, tidier, control):
                group.start_soon(part.run)
            group.start_soon(jobs.keep_pruned)
            group.start_soon(self._signals, stop, reload, group.cancel_scope)
            with anyio.move_on_after(FIRST_LOOK_SECONDS):
                await reconciler.first_look.wait()  # the socket answers meanwhile
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

    def _start_anew(self, why: str, stop: anyio.Event) -> None:
        log.warning("daemon.starts_again", reason=why)
        self._start_again = why
        stop.set()

    async def _signals(self, stop: anyio.Event, reload: Reload, everything: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            asked = False
            async for number in signals:
                if number is signal.SIGHUP:
                    await reload.run_and_log()
                elif asked:
                    log.warning("daemon.stopping_now", signal=number.name)
                    _end_in(SECOND_SIGNAL_GRACE_SECONDS)
                    everything.cancel()
                else:
                    log.info("daemon.signal", signal=number.name)
                    asked = True
                    stop.set()


async def _work_until(stop: anyio.Event, worker: Worker, supervision: Supervision) -> None:
    """Run the worker. When `stop` is set, the worker gives its job back, or finishes a publish."""
    async with anyio.create_task_group() as group:

        async def drain_on_stop() -> None:
            await stop.wait()
            supervision.drain()
            worker.drain()

        group.start_soon(drain_on_stop)
        await worker.run()
        group.cancel_scope.cancel()
