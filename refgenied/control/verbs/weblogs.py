"""Verbs about other web servers' logs: their lines tell of requests, and some of these make up downloads."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.verbs.downloads import MOST, DownloadsRecorded, Name, count_downloads
from refgenied.model import AssetKey
from refgenied.shared.pulls import Answer, Pull, asks_twice
from refgenied.store import downloads, weblogs

registry: Registry[Context] = Registry()

MOST_FIRST_LINES = 500

Bytes = Annotated[int, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0)]
LineHash = Annotated[str, Meta(min_length=8, max_length=64)]


class LogBeginParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    start: Annotated[LineHash, Meta(description="hash that tells this file from others, also when it has grown")]
    first_line: LineHash
    repeated: Annotated[int, Meta(ge=1, description="equal lines that it begins with")]
    lines: Annotated[tuple[LineHash, ...], Meta(max_length=MOST_FIRST_LINES)]
    """Its first lines that tell of archives: those of one second, and the one after them."""
    half: Annotated[bool, Meta(description="there are only equal lines, and one of them lacks its twin")] = False


class LogBegun(msgspec.Struct, frozen=True):
    before: dict[str, int]
    """For each of the lines: how many equal ones were in the logs before this one."""


@registry.verb(
    "download.log",
    "Begin with a web server's log. Where rotation cut between equal lines, says how many of them came before the cut.",
    params=LogBeginParams,
)
async def download_log(context: Context, call: Call, params: LogBeginParams) -> LogBegun:
    call.peer.require_record("download.log")
    start = weblogs.Start(params.start, params.first_line, params.repeated)
    async with context.store.transaction() as tx:
        known = await weblogs.times(tx, params.lines)
        twin = params.half and sum(known.values()) % 2 == 1  # the other half of the pair is at the end of another log
        before = await weblogs.lines_before(tx, start, copies=not twin)
        if before is None:
            # with lines that were never seen it goes on where another log ended; else it is a copy, or a part of one
            before = known if twin or len(known) < len(params.lines) else {}
        await weblogs.keep_start(tx, start, before)
    return LogBegun(before)


class LoggedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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

    @property
    def key(self) -> AssetKey:
        return AssetKey(self.genome_digest, self.asset_group, self.asset)

    @property
    def who(self) -> str:
        """Client and archive; of the client only a hash is kept."""
        text = msgspec.json.encode((self.client, self.agent, self.key.registry_path, self.digest))
        return hashlib.sha256(text).hexdigest()[:32]

    @property
    def answer(self) -> Answer:
        return Answer(
            at=self.at,
            begun=self.begun,
            size=self.size,
            first=self.first,
            least=self.least,
            most=self.most,
            ranged=self.ranged,
            twice=asks_twice(self.agent),
            sure=self.sure,
        )


class DownloadRequestsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    requests: Annotated[tuple[LoggedRequest, ...], Meta(max_length=MOST)]


@registry.verb(
    "download.requests",
    "Take requests for archives from a web server's log, each line once and in order, and count what they make up. "
    "For those who may call download.record.",
    params=DownloadRequestsParams,
)
async def download_requests(context: Context, call: Call, params: DownloadRequestsParams) -> DownloadsRecorded:
    call.peer.require_record("download.requests")
    async with context.jobs.change() as change:
        tx = change.tx
        taken = await weblogs.taken(tx, [(request.line, request.number) for request in params.requests])
        new = [request for request in params.requests if (request.line, request.number) not in taken]
        old = [request.id for request in params.requests if (request.line, request.number) in taken]
        states = await weblogs.pulls(tx, {request.who for request in new})
        pulls = {who: Pull.load(state) for who, state in states.items()}
        complete = [
            downloads.Download(request.id, request.key, request.digest, request.at)
            for request in new
            if pulls.setdefault(request.who, Pull()).take(request.answer)
        ]
        await weblogs.take(tx, [(request.line, request.number) for request in new])
        await weblogs.keep_pulls(tx, {who: pull.state for who, pull in pulls.items()})
        counted = await count_downloads(change, complete, by=call.peer.name)
        return DownloadsRecorded(
            recorded=counted.recorded,
            known=counted.known + await downloads.recorded(tx, old),
            unknown=counted.unknown,
        )
