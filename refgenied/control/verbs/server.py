"""Verbs about the daemon itself."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import anyio.to_thread
import msgspec
from msgspec import Meta

from refgenied import __version__
from refgenied.config import effective
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.views import JobView, Page, job_view, text
from refgenied.control.waiting import moment
from refgenied.model import AssetState, BusyError, ConfigError, Job, JobState, Problem
from refgenied.policy import ArchiveState
from refgenied.store import archives
from refgenied.store import jobs as rows

registry: Registry[Context] = Registry()

AGAIN = 5
"""How many jobs that wait to be tried again a status names."""
PROBLEMS = 20
"""How many problems of the genome folder a status shows."""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No params."""


class GenomeFolderInfo(msgspec.Struct, frozen=True):
    path: str
    layout: str
    ok: bool


class ArchiveFolderInfo(msgspec.Struct, frozen=True):
    path: str
    """Empty: none is set."""
    free: int


class AssetCounts(msgspec.Struct, frozen=True):
    total: int
    states: dict[str, int]
    archive: dict[str, int]


class ArchiveTotals(msgspec.Struct, frozen=True):
    count: int
    bytes: int


class QueueInfo(msgspec.Struct, frozen=True):
    queued: int
    running: int
    failed: int
    """Failed ones that are remembered (30 days, and each asset's newest)."""
    paused: str
    """Why nothing is claimed; empty when jobs run."""


class LookInfo(msgspec.Struct, frozen=True):
    at: float
    """0 before the first one."""
    took: float


class ServingInfo(msgspec.Struct, frozen=True):
    config: str
    """refgenieserver's genome_config.yaml; empty: none is kept."""
    archives: int
    """How many it names."""
    left_out: tuple[str, ...]
    """What it does not name, and why: one plain line each."""


class Condition(msgspec.Struct, frozen=True):
    name: str
    message: str
    since: float


class ServerInfo(msgspec.Struct, frozen=True):
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
    health: list[Condition]
    problems: list[Problem]
    problems_total: int


@registry.verb("server.info", "How the daemon is: folders, counts, queue, last look, health.", params=Nothing)
async def server_info(context: Context, call: Call, params: Nothing) -> ServerInfo:  # noqa: ARG001
    reconciler = context.reconciler
    look = reconciler.look
    standings = await reconciler.standings.all()
    async with context.store.transaction() as tx:
        jobs = await rows.counts(tx)
        totals = await archives.totals(tx)
        running = [job for job in await rows.unfinished(tx) if job.state is JobState.RUNNING]
        again, again_total = await rows.again(tx, AGAIN)
    states = Counter(asset.state for asset, _ in standings.values())
    archive = Counter(stands.archive for _, stands in standings.values())
    free = await anyio.to_thread.run_sync(context.archive_folder.free) if context.archive_folder.path else 0
    conditions = context.health.conditions
    return ServerInfo(
        version=__version__,
        pid=os.getpid(),
        started_at=context.started_at,
        uptime=time.monotonic() - context.began,
        genome_folder=GenomeFolderInfo(
            path=context.current.settings.refgenie.genome_folder,
            layout=look.layout,
            ok=look.ok and "genome_folder" not in conditions,
        ),
        archive_folder=ArchiveFolderInfo(path=context.archive_folder.path, free=free),
        assets=AssetCounts(
            total=len(standings),
            states={state.value: states[state] for state in AssetState if states[state]},
            archive={state.value: archive[state] for state in ArchiveState},
        ),
        archives=ArchiveTotals(*totals),
        serving=ServingInfo(
            config=context.keeper.config,
            archives=context.keeper.served.archives,
            left_out=tuple(map(text, context.keeper.served.left_out[:PROBLEMS])),
        ),
        queue=QueueInfo(
            queued=jobs[JobState.QUEUED],
            running=jobs[JobState.RUNNING],
            failed=jobs[JobState.FAILED],
            paused=context.pause.reason,
        ),
        running=[job_view(context, job) for job in running],
        last_look=LookInfo(at=reconciler.last.at, took=reconciler.last.took),
        next_sweep_at=reconciler.next_sweep_at,
        watching=tuple(Page(context.watcher.watching, limit=200, room=100_000).rows),
        health=[
            *(Condition(name, message, since) for name, (message, since) in sorted(conditions.items())),
            *_tried_again(context, again, again_total),
        ],
        problems=[Problem(text(found.path), text(found.message)) for found in look.problems[:PROBLEMS]],
        problems_total=len(look.problems),
    )


def _tried_again(context: Context, jobs: list[Job], total: int) -> Iterator[Condition]:
    """What is wrong with single assets, so that their jobs wait while others go on."""
    now = context.clock()
    for job in jobs:
        aliases = context.aliases(job.key.genome_digest)
        name = job.key.aliased(aliases[0]) if aliases else job.key.registry_path
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


class ScanResult(msgspec.Struct, frozen=True):
    took: float
    assets: int
    states: dict[str, int]
    queued: list[str]
    """Registry paths of the assets that were queued meanwhile; at most 1,000 of them."""
    queued_total: int


@registry.verb(
    "server.scan",
    "Look at the genome folder now, and queue what is due.",
    params=Nothing,
    writes=True,
    errors=(BusyError,),
)
async def server_scan(context: Context, call: Call, params: Nothing) -> ScanResult:  # noqa: ARG001
    async with context.store.transaction() as tx:
        before = {job.id for job in await rows.unfinished(tx)}
    await context.reconciler.look_again()
    async with context.store.transaction() as tx:
        queued = [job.key.registry_path for job in await rows.unfinished(tx) if job.id not in before]
    assets = context.reconciler.look.assets.values()
    return ScanResult(
        took=context.reconciler.last.took,
        assets=len(assets),
        states=dict(Counter(asset.state.value for asset in assets)),
        queued=Page(queued).rows,
        queued_total=len(queued),
    )


class Reloaded(msgspec.Struct, frozen=True):
    restart_needed: list[str]
    """Settings that changed and that only a restart brings into force."""


@registry.verb(
    "server.reload", "Read the configuration again, as SIGHUP does.", params=Nothing, writes=True, errors=(ConfigError,)
)
async def server_reload(context: Context, call: Call, params: Nothing) -> Reloaded:  # noqa: ARG001
    return Reloaded(restart_needed=await context.reload())


class ShuttingDown(msgspec.Struct, frozen=True):
    shutting_down: bool = True


@registry.verb("server.shutdown", "Drain and stop, as SIGTERM does.", params=Nothing, writes=True)
async def server_shutdown(context: Context, call: Call, params: Nothing) -> ShuttingDown:  # noqa: ARG001
    context.shutdown()
    return ShuttingDown()


class RefgenieConfig(msgspec.Struct, frozen=True):
    """What refgenie 1's `config get` prints."""

    genome_folder: str
    version: str
    genome_archive_folder: str
    servers: tuple[str, ...]


class Setting(msgspec.Struct, frozen=True):
    name: str
    value: str | float | bool | tuple[str, ...] | dict[str, str]
    origin: str


class Configuration(msgspec.Struct, frozen=True):
    path: Annotated[str, Meta(description="the configuration file; empty when there is none")]
    refgenie: RefgenieConfig
    settings: list[Setting]


@registry.verb(
    "config.get", "refgenie's own settings, and every setting in force with where it came from.", params=Nothing
)
async def config_get(context: Context, call: Call, params: Nothing) -> Configuration:  # noqa: ARG001
    settings = context.current.settings
    look = context.reconciler.look
    return Configuration(
        path=settings.path,
        refgenie=RefgenieConfig(
            genome_folder=settings.refgenie.genome_folder,
            version=text(look.config_version),
            genome_archive_folder=settings.refgenie.genome_archive_folder,
            servers=tuple(Page(look.servers or settings.servers, room=50_000).rows),
        ),
        settings=[Setting(name, value, origin) for name, value, origin in effective(settings)],
    )
