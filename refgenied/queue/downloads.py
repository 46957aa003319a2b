"""Counts downloads, also from the logs of other web servers. Each change and its events are one transaction."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from refgenied.model import AssetKey
from refgenied.queue.eventlog import Change, Writer, written
from refgenied.shared.pulls import Answer, Pull
from refgenied.store import downloads, weblogs


class Counted(NamedTuple):
    recorded: int
    known: int
    """Downloads that were recorded before."""
    unknown: int
    """Downloads of assets that were never archived here; they are not counted."""


class LogLine(NamedTuple):
    """A line about a request for an archive that was answered."""

    line: weblogs.Line
    who: str
    """Client and archive."""
    answer: Answer
    download: downloads.Download
    """The download, if this answer completes one."""


class Downloads(Writer):
    @written
    async def record(self, change: Change, reported: Iterable[downloads.Download], *, by: str) -> Counted:
        """Count each download once."""
        return await self._count(change, reported, by=by)

    @written
    async def begin_log(
        self, change: Change, start: weblogs.Start, lines: Sequence[str], *, half: bool
    ) -> dict[str, int]:
        """For each of these first lines: how many equal lines earlier logs had.

        `half`: the log has only equal lines, and their number is odd, so one of them has no partner.
        """
        known = await weblogs.times(change.tx, lines)
        twin = half and sum(known.values()) % 2 == 1  # the partner is at the end of another log
        before = await weblogs.lines_before(change.tx, start, copies=not twin)
        if before is None:
            # A log with new lines continues another log. A log without new lines is a copy or a part of one.
            before = known if twin or len(known) < len(lines) else {}
        await weblogs.keep_start(change.tx, start, before)
        return before

    @written
    async def take(self, change: Change, requests: Sequence[LogLine], *, by: str) -> Counted:
        """Take each line once, in order, and count the downloads that they complete."""
        tx = change.tx
        taken = await weblogs.taken(tx, [request.line for request in requests])
        new = [request for request in requests if request.line not in taken]
        old = [request.download.id for request in requests if request.line in taken]
        states = await weblogs.pulls(tx, {request.who for request in new})
        pulls = {who: Pull.load(state) for who, state in states.items()}
        complete = [request.download for request in new if pulls.setdefault(request.who, Pull()).take(request.answer)]
        await weblogs.take(tx, [request.line for request in new])
        await weblogs.keep_pulls(tx, {who: pull.state for who, pull in pulls.items()})
        counted = await self._count(change, complete, by=by)
        return counted._replace(known=counted.known + await downloads.recorded(tx, old))

    async def _count(self, change: Change, reported: Iterable[downloads.Download], *, by: str) -> Counted:
        """Count each download once. All downloads of an asset are one event."""
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
        return Counted(recorded.total(), known, unknown)
