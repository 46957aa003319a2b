"""Verbs about downloads: `download.record`, `download.editions`; for logs, `download.log` and `download.requests`."""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import After, Limit, Params
from refgenied.control.views import PAGE_ROWS, AssetNamesView, Page, View, key_after, row
from refgenied.model import AssetKey, DownloadReport
from refgenied.model.downloads import Name
from refgenied.queue.downloads import LogLine
from refgenied.shared import pulls
from refgenied.store import downloads, weblogs

ALIAS_BYTES = 100_000
MOST_EDITIONS = 1000
MOST_DOWNLOADS = 500
"""The most downloads in one request, because its line may have 64 KiB at most."""
MOST_FIRST_LINES = 500

Bytes = Annotated[int, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0)]
LineHash = Annotated[str, Meta(min_length=8, max_length=64)]


class DownloadRecordParams(Params, frozen=True):
    downloads: Annotated[tuple[DownloadReport, ...], Meta(max_length=MOST_DOWNLOADS)]


class DownloadsRecorded(View, frozen=True):
    recorded: int
    known: int
    """Downloads that were recorded before."""
    unknown: int
    """Downloads of assets that were never archived here; they are not counted."""


@Verb("download.record")
async def download_record(context: Context, call: Call, params: DownloadRecordParams) -> DownloadsRecorded:
    """Count downloads, each id once. Allowed for users in control.download_users, and for users who may give
    orders.
    """
    call.peer.require_record("download.record")
    reported = [downloads.Download(report.id, report.key, report.digest, report.at) for report in params.downloads]
    return DownloadsRecorded(*await context.jobs.downloads.record(reported, by=call.peer.name))


class DownloadEditionsParams(Params, frozen=True):
    after: After = ""
    limit: Limit = PAGE_ROWS


class EditionView(AssetNamesView, frozen=True):
    aliases: tuple[str, ...]
    """More aliases than in other rows, because a line of a log may have any of them."""
    default: bool
    """Whether this is the asset of a request that names only the group."""
    editions: dict[str, int]
    """md5 → bytes, for all archives that ever existed, at most 1,000; the newest first."""
    published: dict[str, float]
    """md5 → when the archive was published, Unix seconds."""


class DownloadEditions(View, frozen=True):
    assets: list[EditionView]
    next: str | None


@Verb("download.editions")
async def download_editions(context: Context, call: Call, params: DownloadEditionsParams) -> DownloadEditions:
    """Every archive that an asset has or had, with its size: lines of a log are compared with these."""
    after = key_after(params.after)
    page = Page[EditionView](limit=params.limit)
    step = 0
    while not page.more:
        step = page.step
        assets: dict[AssetKey, list[downloads.Edition]] = {}
        for edition in await context.store.ask(downloads.editions, after, step):
            assets.setdefault(edition.key, []).append(edition)
        for after, found in assets.items():
            if not page.take(_edition_view(context, after, found)):
                break
        if len(assets) < step:
            break
    return DownloadEditions(assets=page.packed, next=page.rows[-1].registry_path if page.more else None)


def _edition_view(context: Context, key: AssetKey, found: list[downloads.Edition]) -> EditionView:
    genome = context.reconciler.look.genomes.get(key.genome_digest)
    aliases = context.aliases(key.genome_digest)
    newest = found[:MOST_EDITIONS]
    return row(
        EditionView,
        key,
        key,
        aliases,
        aliases=tuple(Page(aliases, limit=len(aliases), room=ALIAS_BYTES).rows),
        default=key.asset == (genome.default_assets.get(key.asset_group, "default") if genome else "default"),
        editions={edition.digest: edition.size for edition in newest},
        published={edition.digest: edition.published_at for edition in newest},
    )


class LogBeginParams(Params, frozen=True):
    start: Annotated[LineHash, Meta(description="hash that tells this file from others, also when it has grown")]
    first_line: LineHash
    repeated: Annotated[int, Meta(ge=1, description="equal lines that it begins with")]
    lines: Annotated[tuple[LineHash, ...], Meta(max_length=MOST_FIRST_LINES)]
    """Its first lines about archives: all lines of one second, and the next line."""
    half: Annotated[bool, Meta(description="there are only equal lines, and one of them lacks its twin")] = False


class LogBegun(View, frozen=True):
    before: dict[str, int]
    """For each of the lines: how many equal lines earlier logs had."""


@Verb("download.log")
async def download_log(context: Context, call: Call, params: LogBeginParams) -> LogBegun:
    """Begin with a web server's log. If a rotation has cut the log between equal lines, the answer says how
    many of them came before the cut.
    """
    call.peer.require_record("download.log")
    start = weblogs.Start(params.start, params.first_line, params.repeated)
    return LogBegun(await context.jobs.downloads.begin_log(start, params.lines, half=params.half))


class LoggedRequest(Params, frozen=True):
    """A GET of an archive that was answered."""

    line: LineHash
    number: Annotated[int, Meta(ge=1, description="which of equal lines it is")]
    id: Annotated[str, Meta(min_length=8, max_length=64, description="of the download, if it completes one")]
    client: Annotated[str, Meta(max_length=200)]
    agent: Annotated[str, Meta(max_length=200)]
    genome_digest: Name
    asset_group: Name
    asset: Name
    digest: Annotated[str, Meta(max_length=64, description="md5 of the archive")]
    size: Annotated[Bytes, Meta(description="of the archive")]
    at: Annotated[Seconds, Meta(description="when it ended, or began, Unix seconds")]
    least: Annotated[Bytes, Meta(description="at least so many bytes of it were sent")]
    most: Annotated[Bytes, Meta(description="at most so many")]
    first: Annotated[Bytes | None, Meta(description="the first byte that was sent; null: a range, not known of which")]
    begun: Annotated[Seconds | None, Meta(description="when it began, if that is known")] = None
    ranged: Annotated[bool, Meta(description="it was a range request")] = False
    sure: Annotated[bool, Meta(description="false: a broken transfer would look the same")] = True


class DownloadRequestsParams(Params, frozen=True):
    requests: Annotated[tuple[LoggedRequest, ...], Meta(max_length=MOST_DOWNLOADS)]


@Verb("download.requests")
async def download_requests(context: Context, call: Call, params: DownloadRequestsParams) -> DownloadsRecorded:
    """Take requests for archives from a web server's log, each line once and in order, and count the downloads in them.
    Allowed for users who may call download.record.
    """
    call.peer.require_record("download.requests")
    requests = [_logged(request) for request in params.requests]
    return DownloadsRecorded(*await context.jobs.downloads.take(requests, by=call.peer.name))


def _logged(request: LoggedRequest) -> LogLine:
    key = AssetKey(request.genome_digest, request.asset_group, request.asset)
    download = downloads.Download(request.id, key, request.digest, request.at)
    # The database keeps only a hash of the client.
    who = msgspec.json.encode((request.client, request.agent, key.registry_path, request.digest))
    told = {name: value for name, value in msgspec.structs.asdict(request).items() if name in pulls.Answer._fields}
    answer = pulls.Answer(**told, twice=pulls.asks_twice(request.agent))
    return LogLine((request.line, request.number), hashlib.sha256(who).hexdigest()[:32], answer, download)
