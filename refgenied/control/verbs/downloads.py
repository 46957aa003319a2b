"""Verbs about downloads: who serves the archives tells how often each was got whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.verbs.assets import After, Limit
from refgenied.control.views import PAGE_ROWS, Page, key_after
from refgenied.model import AssetKey
from refgenied.queue.jobs import Change
from refgenied.store import downloads

registry: Registry[Context] = Registry()

ALIAS_BYTES = 100_000
MOST_EDITIONS = 1000
MOST = 500
"""Downloads in one request: its line must not pass 64 KiB."""

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class DownloadReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, Meta(min_length=8, max_length=64, description="the same id again is the same download")]
    genome_digest: Name
    asset_group: Name
    asset: Name
    at: Annotated[float, Meta(ge=0, description="when it was complete, Unix seconds")]
    digest: Annotated[str, Meta(max_length=64, description="md5 of the archive, if it is known")] = ""


class DownloadRecordParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    downloads: Annotated[tuple[DownloadReport, ...], Meta(max_length=MOST)]


class DownloadsRecorded(msgspec.Struct, frozen=True):
    recorded: int
    known: int
    """Were recorded before."""
    unknown: int
    """Of assets that were never archived here; they are not counted."""


@registry.verb(
    "download.record",
    "Count downloads, each id once. A right of its own: for control.download_users, and for those who may give orders.",
    params=DownloadRecordParams,
)
async def download_record(context: Context, call: Call, params: DownloadRecordParams) -> DownloadsRecorded:
    call.peer.require_record("download.record")
    reported = [
        downloads.Download(
            report.id, AssetKey(report.genome_digest, report.asset_group, report.asset), report.digest, report.at
        )
        for report in params.downloads
    ]
    async with context.jobs.change() as change:
        return await count_downloads(change, reported, by=call.peer.name)


async def count_downloads(change: Change, reported: Iterable[downloads.Download], *, by: str) -> DownloadsRecorded:
    """Count each once, and say so in one event for each asset."""
    recorded: Counter[AssetKey] = Counter()
    known = unknown = 0
    for download in reported:
        if not await downloads.is_known(change.tx, download.key):
            unknown += 1
        elif await downloads.record(change.tx, download, reported_by=by):
            recorded[download.key] += 1
        else:
            known += 1
    for key, number in recorded.items():
        total = await downloads.count(change.tx, key)
        await change.log("download.recorded", key, number=number, total=total, by=by)
    return DownloadsRecorded(recorded=recorded.total(), known=known, unknown=unknown)


class DownloadEditionsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after: After = ""
    limit: Limit = PAGE_ROWS


class EditionView(msgspec.Struct, frozen=True):
    registry_path: str
    genome_digest: str
    aliases: tuple[str, ...]
    """More of them than in other rows: a line of a log may have any."""
    aliases_total: int
    asset_group: str
    asset: str
    default: bool
    """Whether a request that names no asset means this one."""
    editions: dict[str, int]
    """md5 → bytes of the archives that there ever were, at most 1,000; the newest first."""
    published: dict[str, float]
    """md5 → since when, Unix seconds."""


class DownloadEditions(msgspec.Struct, frozen=True):
    assets: list[EditionView]
    next: str | None


@registry.verb(
    "download.editions",
    "Every archive that is or was under an asset's name, with its size: what a line of a log can be held against.",
    params=DownloadEditionsParams,
)
async def download_editions(context: Context, call: Call, params: DownloadEditionsParams) -> DownloadEditions:  # noqa: ARG001
    after = key_after(params.after)
    async with context.store.transaction() as tx:
        found = await downloads.editions(tx)
    assets: dict[AssetKey, list[downloads.Edition]] = {}
    for edition in found:
        if after is None or edition.key > after:
            assets.setdefault(edition.key, []).append(edition)
    genomes = context.reconciler.look.genomes

    def view(key: AssetKey) -> EditionView:
        genome = genomes.get(key.genome_digest)
        aliases = context.aliases(key.genome_digest)
        editions = assets[key][:MOST_EDITIONS]
        default = genome.default_assets.get(key.asset_group, "default") if genome else "default"
        return EditionView(
            registry_path=key.registry_path,
            genome_digest=key.genome_digest,
            aliases=tuple(Page(aliases, limit=len(aliases), room=ALIAS_BYTES).rows),
            aliases_total=len(aliases),
            asset_group=key.asset_group,
            asset=key.asset,
            default=key.asset == default,
            editions={edition.digest: edition.size for edition in editions},
            published={edition.digest: edition.published_at for edition in editions},
        )

    page = Page((view(key) for key in assets), limit=params.limit)
    return DownloadEditions(assets=page.rows, next=page.rows[-1].registry_path if page.more else None)
