"""Verbs about the daemon itself: `server.info`, `server.scan`, `server.reload`, `server.shutdown`."""

import os
import time
from collections import Counter
from collections.abc import Iterator

import anyio.to_thread

from refgenied import __version__
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import Nothing
from refgenied.control.views import PAGE_ROWS, JobView, Page, View, job_view, text
from refgenied.model import AssetState, BusyError, ConfigError, Job, Problem
from refgenied.policy import ArchiveState
from refgenied.shared.output import moment
from refgenied.store import jobs as rows
from refgenied.store.overview import overview

MOST_TRIED_AGAIN = 5
"""The most jobs in one status that wait for another attempt."""
MOST_PROBLEMS = 20
"""The most problems of the genome folder in one status."""


class GenomeFolderInfo(View, frozen=True):
    path: str
    layout: str
    ok: bool


class ArchiveFolderInfo(View, frozen=True):
    path: str
    """Empty: no archive folder is set."""
    free: int


class AssetCounts(View, frozen=True):
    total: int
    states: dict[str, int]
    archive: dict[str, int]


class ArchiveTotals(View, frozen=True):
    count: int
    bytes: int


class QueueInfo(View, frozen=True):
    queued: int
    running: int
    failed: int
    """Failed jobs that are remembered (for 30 days, and each asset's newest job)."""
    paused: str
    """Why nothing is claimed; empty when jobs run."""


class LookInfo(View, frozen=True):
    at: float
    """0 before the first look."""
    took: float


class ServingInfo(View, frozen=True):
    config: str
    """The path of refgenieserver's genome_config.yaml; empty: the daemon does not keep one."""
    archives: int
    """The number of archives in it."""
    left_out: tuple[str, ...]
    """The archives that are not in it, and why, in plain lines."""


class Condition(View, frozen=True):
    name: str
    message: str
    since: float


class ServerInfo(View, frozen=True):
    version: str
    pid: int
    started_at: float
    uptime: float
    genome_folder: GenomeFolderInfo
    archive_folder: ArchiveFolderInfo
    assets: AssetCounts
    archives: ArchiveTotals
    serving: ServingInfo
    queue: QueueInfo
    running: list[JobView]
    last_look: LookInfo
    next_sweep_at: float
    watching: tuple[str, ...]
    """The first watched folders."""
    watching_total: int
    health: list[Condition]
    problems: list[Problem]
    problems_total: int


@Verb("server.info")
async def server_info(context: Context, call: Call, params: Nothing) -> ServerInfo:
    """The state of the daemon: folders, counts, queue, last look, health."""
    reconciler = context.reconciler
    look = reconciler.look
    counts = await reconciler.standings.counts()
    recorded = await context.store.ask(overview, MOST_TRIED_AGAIN)
    jobs = recorded.jobs
    free = await anyio.to_thread.run_sync(context.archive_folder.free) if context.archive_folder.path else 0
    conditions = context.health.conditions
    genome_folder = context.current.settings.refgenie.genome_folder
    return ServerInfo(
        version=__version__,
        pid=os.getpid(),
        started_at=context.started_at,
        uptime=time.monotonic() - context.began,
        genome_folder=GenomeFolderInfo(genome_folder, look.layout, look.ok and "genome_folder" not in conditions),
        archive_folder=ArchiveFolderInfo(path=context.archive_folder.path, free=free),
        assets=AssetCounts(
            total=counts.total,
            states={state.value: counts.states[state] for state in AssetState if counts.states[state]},
            archive={state.value: counts.archive[state] for state in ArchiveState},
        ),
        archives=ArchiveTotals(recorded.archives, recorded.archive_bytes),
        serving=ServingInfo(
            config=context.catalog.config,
            archives=context.catalog.served.archives,
            left_out=tuple(map(text, context.catalog.served.left_out[:MOST_PROBLEMS])),
        ),
        queue=QueueInfo(jobs["queued"], jobs["running"], jobs["failed"], paused=context.pause.reason),
        running=[job_view(context, job) for job in recorded.running],
        last_look=LookInfo(at=reconciler.last.at, took=reconciler.last.took),
        next_sweep_at=reconciler.next_sweep_at,
        watching=tuple(Page(context.watcher.watching, limit=200, room=100_000).rows),
        watching_total=len(context.watcher.watching),
        health=[
            *(Condition(name, message, since) for name, (message, since) in sorted(conditions.items())),
            *_tried_again(context, recorded.tried_again, recorded.tried_again_total),
        ],
        problems=[Problem(text(found.path), text(found.message)) for found in look.problems[:MOST_PROBLEMS]],
        problems_total=len(look.problems),
    )


def _tried_again(context: Context, jobs: list[Job], total: int) -> Iterator[Condition]:
    """Faults of single assets. Their jobs wait, and other jobs continue."""
    now = context.clock()
    for job in jobs:
        name = job.key.named(context.aliases(job.key.genome_digest))
        times = f" ({', '.join(moment(at, now) for at in job.crashed_at)})" if job.crashed_at else ""
        attempts = f"tried {job.attempts} time{'s' if job.attempts > 1 else ''}, "
        yield Condition(
            f"job {job.id}",
            f"{name}: {job.error}{times}; {'' if job.crashed_at else attempts}again at {moment(job.not_before, now)}, "
            f"or at once with: refgeniectl queue retry {job.id}",
            job.started_at or job.created_at,
        )
    if total > len(jobs):
        yield Condition("jobs", f"{total - len(jobs)} more wait to be tried again: refgeniectl queue list", 0.0)


class ScanResult(View, frozen=True):
    took: float
    assets: int
    states: dict[str, int]
    queued: list[str]
    """Registry paths of the assets that were queued meanwhile; at most 1,000."""
    queued_total: int


@Verb("server.scan", writes=True, errors=(BusyError,))
async def server_scan(context: Context, call: Call, params: Nothing) -> ScanResult:
    """Look at the genome folder now, and queue the assets that are due."""
    before = await context.store.ask(rows.newest)
    await context.reconciler.look_again()
    queued, total = await context.store.ask(rows.since, before, PAGE_ROWS)
    assets = context.reconciler.look.assets.values()
    return ScanResult(
        took=context.reconciler.last.took,
        assets=len(assets),
        states=dict(Counter(asset.state.value for asset in assets)),
        queued=Page(key.registry_path for key in queued).rows,
        queued_total=total,
    )


class Reloaded(View, frozen=True):
    restart_needed: list[str]
    """Settings that have changed, but need a restart."""


@Verb("server.reload", writes=True, errors=(ConfigError,))
async def server_reload(context: Context, call: Call, params: Nothing) -> Reloaded:
    """Read the configuration again, as SIGHUP does."""
    return Reloaded(restart_needed=await context.reload())


class ShuttingDown(View, frozen=True):
    shutting_down: bool = True


@Verb("server.shutdown", writes=True)
async def server_shutdown(context: Context, call: Call, params: Nothing) -> ShuttingDown:
    """Drain and stop, as SIGTERM does."""
    context.shutdown()
    return ShuttingDown()
