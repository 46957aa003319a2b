"""What the verbs answer with: the model's things as JSON objects, and pages of them.

Times are Unix seconds, sizes are bytes, paths are absolute.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from refgenied.control.context import Context
from refgenied.control.protocol import MAX_REPLY, encode
from refgenied.model import ArchiveRecord, Asset, AssetKey, Event, Job
from refgenied.policy import Standing
from refgenied.shared.progress import Progress

PAGE_BYTES = MAX_REPLY * 3 // 4
"""The rows of one reply; the rest is left for what stands beside them."""
PAGE_ROWS = 1000
MOST_ALIASES = 20
"""Of a genome, in each row about something of it; `aliases_total` tells how many there are."""
LONGEST_TEXT = 4096
"""Characters of one text in a row."""

T = TypeVar("T")


def text(value: str) -> str:
    """As much of it as a row may hold."""
    return value if len(value) <= LONGEST_TEXT else f"{value[: LONGEST_TEXT - 1]}…"


class Names(NamedTuple):
    """A genome's aliases, as a row shows them."""

    aliases: tuple[str, ...]
    total: int


def names_of(aliases: Sequence[str]) -> Names:
    return Names(tuple(aliases[:MOST_ALIASES]), len(aliases))


class JobView(msgspec.Struct, frozen=True):
    job: int
    registry_path: str
    aliases: tuple[str, ...]
    aliases_total: int
    state: str
    priority: int
    force: bool
    attempts: int
    crashes: int
    """How many of them took the daemon down, in a row."""
    crashed_at: tuple[float, ...]
    """When; the last three times at most."""
    requested_by: str
    created_at: float
    not_before: float
    started_at: float | None
    ended_at: float | None
    outcome: str | None
    error_kind: str | None
    error: str | None
    progress: Progress | None


class AssetView(msgspec.Struct, frozen=True):
    registry_path: str
    genome_digest: str
    aliases: tuple[str, ...]
    aliases_total: int
    asset_group: str
    asset: str
    state: str
    reason: str
    archive: str
    """archived, stale or none."""
    job: str | None
    """queued, running or null."""
    wanted: bool
    why_not: str
    """Why it is not archived by itself; with a job: what that waits for besides its turn. Empty: nothing."""
    built_at: float | None
    folder: str
    access: str
    """Who may read all its files, by their permission bits: everyone, group or owner (it is private then)."""


class ArchiveView(msgspec.Struct, frozen=True):
    digest: str
    registry_path: str
    genome_digest: str
    aliases: tuple[str, ...]
    aliases_total: int
    asset_group: str
    asset: str
    path: str
    size: int
    asset_digest: str
    content_digest: str
    files: int
    source_size: int
    download_count: int
    created_at: float
    proved_at: float | None
    requested_by: str
    state: str
    """archived; stale: the asset has changed since, or the file is not as recorded; or removed, when asked for."""
    problem: str
    """What is wrong with the file; empty when it is as recorded."""
    damaged: bool
    """The last verify found it damaged; `problem` says where."""
    access: str | None
    """Who may read the asset's files: everyone, group or owner (private: not served); null: not known yet."""


class EventView(msgspec.Struct, frozen=True):
    seq: int
    at: float
    kind: str
    registry_path: str | None
    aliases: tuple[str, ...]
    aliases_total: int
    job: int | None
    data: dict[str, object]


def job_view(context: Context, job: Job) -> JobView:
    names = names_of(context.aliases(job.key.genome_digest))
    return JobView(
        job=job.id,
        registry_path=job.key.registry_path,
        aliases=names.aliases,
        aliases_total=names.total,
        state=job.state,
        priority=job.priority,
        force=job.force,
        attempts=job.attempts,
        crashes=job.crashes,
        crashed_at=job.crashed_at,
        requested_by=job.requested_by,
        created_at=job.created_at,
        not_before=job.not_before,
        started_at=job.started_at,
        ended_at=job.ended_at,
        outcome=job.outcome,
        error_kind=job.error_kind,
        error=text(job.error) if job.error else job.error,
        progress=context.jobs.progress.get(job.id),
    )


def asset_view(asset: Asset, stands: Standing) -> AssetView:
    names = names_of(asset.aliases)
    return AssetView(
        registry_path=asset.key.registry_path,
        genome_digest=asset.key.genome_digest,
        aliases=names.aliases,
        aliases_total=names.total,
        asset_group=asset.key.asset_group,
        asset=asset.key.asset,
        state=asset.state,
        reason=text(asset.reason),
        archive=stands.archive,
        job=stands.job.state if stands.job else None,
        wanted=stands.wanted,
        why_not=text(stands.waits_for if stands.job else stands.why_not),
        built_at=asset.built_at,
        folder=asset.folder,
        access=asset.access,
    )


def archive_view(context: Context, record: ArchiveRecord, state: str, problem: str) -> ArchiveView:
    key = record.key
    names = names_of(context.aliases(key.genome_digest) or record.aliases)
    return ArchiveView(
        digest=record.digest,
        registry_path=key.registry_path,
        genome_digest=key.genome_digest,
        aliases=names.aliases,
        aliases_total=names.total,
        asset_group=key.asset_group,
        asset=key.asset,
        path=f"{context.archive_folder.path}/{record.path}",
        size=record.size,
        asset_digest=record.asset_digest,
        content_digest=record.content_digest,
        files=record.files,
        source_size=record.source_size,
        download_count=record.download_count,
        created_at=record.created_at,
        proved_at=record.proved_at,
        requested_by=record.requested_by,
        state=state,
        problem=text(problem or record.damaged or ""),
        damaged=record.damaged is not None,
        access=record.access,
    )


def event_view(context: Context, event: Event) -> EventView:
    key = event.key
    names = names_of(context.aliases(key.genome_digest) if key else ())
    return EventView(
        seq=event.seq,
        at=event.at,
        kind=event.kind,
        registry_path=key.registry_path if key else None,
        aliases=names.aliases,
        aliases_total=names.total,
        job=event.job,
        data={name: text(value) if isinstance(value, str) else value for name, value in event.data.items()},
    )


class Page(Generic[T]):
    """As many rows as one reply holds."""

    def __init__(self, rows: Iterable[T], limit: int = PAGE_ROWS, room: int = PAGE_BYTES) -> None:
        self.rows: list[T] = []
        self.more = False
        """Whether there are rows that did not fit."""
        for row in itertools.islice(rows, limit + 1):
            room -= len(encode(row)) + 1
            if len(self.rows) == limit or (room < 0 and self.rows):
                self.more = True
                return
            self.rows.append(row)


def key_after(text: str) -> AssetKey | None:
    """Where a page begins: behind the row with this registry path (that row need not exist any more)."""
    genome, slash, rest = text.partition("/")
    group, _, asset = rest.partition(":")
    return AssetKey(genome, group, asset) if slash else None
