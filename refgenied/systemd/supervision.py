"""Tells systemd that the daemon is alive, what the daemon does, and that a stop needs more time."""

import time
from collections.abc import Iterator

import anyio

from refgenied.model import Job, JobState, StateError
from refgenied.queue.core import Core
from refgenied.queue.pause import Pause
from refgenied.reconciler import Reconciler
from refgenied.store.overview import at_work
from refgenied.systemd.notify import notify, watchdog_seconds
from refgenied.systemd.surroundings import Surroundings

BEAT_SECONDS = 2.0
"""Seconds between two messages to systemd; less if its watchdog waits for a shorter time."""
MORE_SECONDS_TO_STOP = 20.0
"""Each message of a stopping daemon asks for this many more seconds."""
LONGEST_STOP_SECONDS = 600.0
"""A stopping daemon asks for more time for at most this long. After that systemd ends it (TimeoutStopSec=)."""


class Supervision:
    """Each message that feeds the watchdog waits first for an answer of the database."""

    def __init__(self, core: Core, reconciler: Reconciler, pause: Pause, surroundings: Surroundings) -> None:
        self._core = core
        self._reconciler = reconciler
        self._pause = pause
        self._surroundings = surroundings
        self._drain_began: float | None = None
        watchdog = watchdog_seconds()
        self._beat = min(BEAT_SECONDS, watchdog / 3) if watchdog else BEAT_SECONDS

    async def run(self) -> None:
        """Send messages until cancelled. No message is sent while the database does not answer.

        A database that answers but takes no writes counts as alive.
        """
        while True:
            notify("WATCHDOG=1", f"STATUS={await self.status()}", *self._extension())
            await self._surroundings.look(stopping=self._drain_began is not None)
            await anyio.sleep(self._beat)

    def drain(self) -> None:
        """Note that the daemon stops: from now on each message asks for more time."""
        self._drain_began = time.monotonic()
        notify("STOPPING=1", "STATUS=draining", *self._extension())

    async def status(self) -> str:
        """The queue and the running job's progress in one line. It waits for the database."""
        counts, running = dict.fromkeys(map(str, JobState), 0), list[Job]()
        try:
            counts, running = await self._core.jobs.store.ask(at_work)
        except StateError as error:
            await self._pause.caused(error)
        return "; ".join(self._parts(counts, running))

    def _parts(self, counts: dict[str, int], running: list[Job]) -> Iterator[str]:
        if self._drain_began is not None:
            yield "draining"
        if running:
            yield ", ".join(map(self._doing, running))
        elif self._pause.active:
            yield self._pause.reason
        elif not self._reconciler.last.at:
            yield f"looking at {self._core.current.settings.refgenie.genome_folder} for the first time"
        else:
            yield "idle"
        yield f"{counts[JobState.QUEUED]} queued"
        if counts[JobState.FAILED]:
            yield f"{counts[JobState.FAILED]} failed"
        warnings = [message for _, (message, _) in sorted(self._core.health.conditions.items())]
        if warnings:
            more = f" (and {len(warnings) - 1} more: refgeniectl status)" if len(warnings) > 1 else ""
            yield f"warning: {warnings[0]}{more}"

    def _doing(self, job: Job) -> str:
        genome = self._reconciler.look.genomes.get(job.key.genome_digest)
        name = job.key.named(genome.aliases if genome else ())
        progress = self._core.jobs.progress.get(job.id)
        if progress is None:
            return f"starting with {name}"
        done = f" {100 * progress.done // progress.total} %" if progress.total else ""
        return f"{progress.phase} {name}{done}"

    def _extension(self) -> list[str]:
        began = self._drain_began
        if began is None or time.monotonic() - began > LONGEST_STOP_SECONDS:
            return []
        return [f"EXTEND_TIMEOUT_USEC={int(MORE_SECONDS_TO_STOP * 1e6)}"]
