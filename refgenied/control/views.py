"""The answers of the verbs: objects of the model as JSON objects, and pages of them.

Times are Unix seconds, sizes are bytes, paths are absolute.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Generic, TypeVar, cast

import msgspec

from refgenied.control.context import Context
from refgenied.control.protocol import MAX_REPLY, encode
from refgenied.model import ArchiveRecord, Asset, AssetKey, Event, Job
from refgenied.policy import Standing
from refgenied.shared.progress import Progress

PAGE_BYTES = MAX_REPLY * 3 // 4
"""The most bytes of the rows in one reply. The rest of the reply is for its other fields."""
PAGE_ROWS = 1000
STEP = 256
"""The most rows that are made at once. Between two steps the daemon does other things."""
MOST_ALIASES = 20
"""The most aliases of a genome in one row; `aliases_total` has their number."""
LONGEST_TEXT = 4096
"""The most characters of one text in a row."""

T = TypeVar("T")
V = TypeVar("V", bound=msgspec.Struct)


class View(msgspec.Struct, frozen=True):
    """The answer of a verb, or a part of it."""


class NamedView(View, frozen=True):
    """An answer about one asset, with the asset's names."""

    registry_path: str
    aliases: tuple[str, ...]
    aliases_total: int


class AssetNamesView(NamedView, frozen=True):
    """The same, with the three names that identify the asset."""

    genome_digest: str
    asset_group: str
    asset: str


class OriginView(View, frozen=True):
    """The description of an asset and its origin."""

    description: str
    seek_keys_total: int
    parents: tuple[str, ...]
    """The first parents. The children are limited in the same way."""
    children: tuple[str, ...]


def text(value: str) -> str:
    """The text, cut to the length that a row may hold."""
    return value if len(value) <= LONGEST_TEXT else f"{value[: LONGEST_TEXT - 1]}…"


class JobView(NamedView, frozen=True):
    job: int
    state: str
    priority: int
    force: bool
    attempts: int
    crashes: int
    """How many attempts in a row have ended because the daemon died."""
    crashed_at: tuple[float, ...]
    """When the daemon died; at most the last three times."""
    requested_by: str
    created_at: float
    not_before: float
    started_at: float | None
    ended_at: float | None
    outcome: str | None
    error_kind: str | None
    error: str | None
    progress: Progress | None


class AssetView(AssetNamesView, frozen=True):
    state: str
    reason: str
    archive: str
    """archived, stale or none."""
    job: str | None
    """queued, running or null."""
    wanted: bool
    why_not: str
    """Why it is not archived automatically. With a job: what the job waits for besides its turn. Empty: no reason."""
    built_at: float | None
    folder: str
    access: str
    """Who may read all its files, by their permission bits: everyone, group or owner (then it is private)."""


class ArchiveView(AssetNamesView, frozen=True):
    digest: str
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
    """archived; stale (the asset has changed since, or the file is not as recorded); removed (only on request)."""
    problem: str
    """What is wrong with the file; empty when it is as recorded."""
    damaged: bool
    """Whether the last verify found it damaged; `problem` says where."""
    access: str | None
    """Who may read the asset's files: everyone, group or owner (private, not served); null: not known yet."""


class EventView(View, frozen=True):
    seq: int
    at: float
    kind: str
    registry_path: str | None
    aliases: tuple[str, ...]
    aliases_total: int
    job: int | None
    data: dict[str, object]


@cache
def _own(shape: type[msgspec.Struct], source: type[msgspec.Struct]) -> Callable[[msgspec.Struct], dict[str, object]]:
    """A function that gives the values of the fields that both have. A list calls it for each row."""
    names = [name for name in source.__struct_fields__ if name in shape.__struct_fields__]
    if len(names) < 2:  # attrgetter gives no tuple for them
        return lambda thing: {name: getattr(thing, name) for name in names}
    get = attrgetter(*names)
    return lambda thing: dict(zip(names, get(thing), strict=True))


def shaped(shape: type[V], thing: msgspec.Struct, **more: object) -> V:
    """An object of the model in this shape: its own fields, and `more`. Texts are cut to LONGEST_TEXT."""
    values = _own(shape, type(thing))(thing) | more
    for name, value in values.items():
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            values[name] = text(value)
    return shape(**values)


def row(shape: type[V], thing: msgspec.Struct, key: AssetKey | None, aliases: Sequence[str], /, **more: object) -> V:
    """`shaped`, with the names of the object's asset."""
    names: dict[str, object] = {"registry_path": key.registry_path if key else None}
    if "aliases_total" in shape.__struct_fields__:
        names |= {"aliases": tuple(aliases[:MOST_ALIASES]), "aliases_total": len(aliases)}
    if key is not None and issubclass(shape, AssetNamesView):
        names |= {"genome_digest": key.genome_digest, "asset_group": key.asset_group, "asset": key.asset}
    return shaped(shape, thing, **names | more)


def job_view(context: Context, job: Job) -> JobView:
    aliases = context.aliases(job.key.genome_digest)
    return row(JobView, job, job.key, aliases, job=job.id, progress=context.jobs.progress.get(job.id))


def asset_view(asset: Asset, stands: Standing) -> AssetView:
    return row(
        AssetView,
        asset,
        asset.key,
        asset.aliases,
        archive=stands.archive,
        job=stands.job.state if stands.job else None,
        wanted=stands.wanted,
        why_not=stands.waits_for if stands.job else stands.why_not,
    )


def archive_view(context: Context, record: ArchiveRecord, state: str, problem: str) -> ArchiveView:
    return row(
        ArchiveView,
        record,
        record.key,
        context.aliases(record.key.genome_digest) or record.aliases,
        path=f"{context.archive_folder.path}/{record.path}",
        state=state,
        problem=problem or record.damaged or "",
        damaged=record.damaged is not None,
    )


def event_view(context: Context, event: Event) -> EventView:
    aliases = context.aliases(event.key.genome_digest) if event.key else ()
    data = {name: text(value) if isinstance(value, str) else value for name, value in event.data.items()}
    return row(EventView, event, event.key, aliases, data=data)


class Page(Generic[T]):
    """The rows of one reply, as many as fit."""

    def __init__(self, rows: Iterable[T] = (), limit: int = PAGE_ROWS, room: int = PAGE_BYTES) -> None:
        self.rows: list[T] = []
        self.more = False
        """Whether there are rows that did not fit."""
        self._lines: list[msgspec.Raw] = []
        self._limit = limit
        self._room = room
        for row in itertools.islice(rows, limit + 1):
            if not self.take(row):
                return

    def take(self, row: T) -> bool:
        """Take one more row, if it fits."""
        line = encode(row)
        self._room -= len(line) + 1
        self.more = len(self.rows) == self._limit or (self._room < 0 and bool(self.rows))
        if not self.more:
            self.rows.append(row)
            self._lines.append(msgspec.Raw(line))
        return not self.more

    @property
    def step(self) -> int:
        """How many rows to make at once for the rest of the page."""
        return min(self._limit + 1 - len(self.rows), STEP)

    @property
    def packed(self) -> list[T]:
        """The rows, as they were written to learn their length: a reply does not write them a second time."""
        return cast("list[T]", self._lines)

    def next_after(self, skip: int) -> int | None:
        """How many rows the next page skips, if this page skipped `skip`; None: this is the last page."""
        return skip + len(self.rows) if self.more else None


def key_after(text: str) -> AssetKey | None:
    """The key after which a page begins, from its registry path. The row with this path need not exist any more."""
    genome, slash, rest = text.partition("/")
    group, _, asset = rest.partition(":")
    return AssetKey(genome, group, asset) if slash else None
