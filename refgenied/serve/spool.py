"""Sends downloads to the daemon. Each is on the disk before the client's next request, and until the daemon has it."""

import json
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import structlog

from refgenied.client import Client, ClientError, DaemonError
from refgenied.model import AssetKey
from refgenied.serve.segments import MOST_SEGMENT_BYTES, Segments, SpooledDownload, SpoolRow, TakenBack, is_reportable

log = structlog.get_logger("serve")

MOST_IN_REQUEST = 200
MOST_REQUEST_BYTES = 48 * 1024
"""Bytes of the downloads in one request. The request's line may have 64 KiB at most, and names may be long."""
LONGEST_DIGEST = 64
"""The daemon takes no longer digest, but another program's config may have any text as the digest."""
REPORT_AGAIN_SECONDS = (1.0, 30.0)
"""The first and the longest wait before another report, when the daemon does not answer."""
ANSWER_SECONDS = 10.0
"""The daemon has this long to answer."""
WRITE_AGAIN_SECONDS = 1.0
"""Seconds before another attempt, when the disk takes no writes."""
HELD_UP_SECONDS = 5.0
"""A client waits at most this long for the disk."""


@dataclass(eq=False)
class _Entry:
    """A line for the file."""

    row: SpoolRow
    tried: anyio.Event = field(default_factory=anyio.Event)
    """Set when it is on the disk, or the disk did not take it."""


class Spool:
    """Counts and reports. Nothing is counted twice: each download has an id.

    All that arrives while the disk is busy is written and synced together. When the disk takes nothing, downloads are
    kept in memory and reported from there.
    """

    def __init__(self, folder: Path, socket: str) -> None:
        self._segments = Segments(folder / "downloads")
        self._socket = socket
        self._new: list[_Entry] = []
        self._written: dict[str, SpooledDownload] = {}
        """Downloads in the current file, until the daemon has recorded them."""
        self._likely: set[str] = set()
        """Ids of downloads that may be taken back."""
        self._carried: set[str] = set()
        """Ids of likely downloads that are in an earlier file too."""
        self._tells_of_others = False
        """Whether the current file takes back a download in an earlier file."""
        self._left = 0
        """How many downloads other files have."""
        self._arrived = anyio.Event()
        self._reportable = anyio.Event()
        self._one_writer = anyio.CapacityLimiter(1)  # a separate thread: the threads that read archives may be busy
        self._one_reporter = anyio.CapacityLimiter(1)
        self._disk = self._daemon = ""
        """What is wrong with the disk, and with the daemon; empty when nothing is wrong."""

    def open(self) -> None:
        """Make the folder, and count the downloads that earlier processes have left there. OSError."""
        self._left = self._segments.open()

    @property
    def waiting(self) -> int:
        """Downloads that the daemon has not recorded yet."""
        return len((self._in_memory.keys() | self._written.keys()) - self._likely) + self._left

    @property
    def _in_memory(self) -> dict[str, SpooledDownload]:
        return {entry.row.id: entry.row for entry in self._new if isinstance(entry.row, SpooledDownload)}

    @property
    def problem(self) -> str:
        """Why downloads wait, or are in memory only; empty when the last ones got through."""
        if not self._disk:
            return self._daemon
        disk = f"{self._disk}; {len(self._in_memory)} downloads are in memory only"
        return f"{disk}; {self._daemon}" if self._daemon else disk

    def likely(self, key: AssetKey, digest: str, at: float) -> str:
        """Note a likely download: the client seems to have all bytes. If this process is killed now, it counts.

        Returns the download's id; "" for a download that the daemon does not take.
        """
        digest = digest if len(digest) <= LONGEST_DIGEST else ""
        download = SpooledDownload(uuid.uuid4().hex, key.genome_digest, key.asset_group, key.asset, at, digest)
        if not is_reportable(download):  # a name from another program's config, which the daemon cannot record
            return ""
        self._likely.add(download.id)
        self._add(download)
        return download.id

    def not_so(self, number: str) -> None:
        """Take a likely download back: it was not a download."""
        self._likely.discard(number)
        self._written.pop(number, None)
        if number in self._carried:
            self._segments.taken_back.add(number)
            self._tells_of_others = True
        self._new = [entry for entry in self._new if entry.row.id != number]
        self._add(TakenBack(number))  # always, because the line may be on its way to the disk

    async def count(self, key: AssetKey, digest: str, at: float, number: str = "") -> str:
        """Count a download: a new one, or the likely download with this id (`number`). Returns its id, as `likely`.

        The download is on the disk when this returns, if the disk takes writes.
        """
        number = number or self.likely(key, digest, at)
        self._likely.discard(number)
        entry = next((entry for entry in self._new if entry.row.id == number), None)
        if entry is not None:
            with anyio.move_on_after(HELD_UP_SECONDS):
                await entry.tried.wait()
        self._reportable.set()
        return number

    def _add(self, row: SpoolRow) -> None:
        self._new.append(_Entry(row))
        self._arrived.set()

    async def run(self) -> None:
        """Ends only by cancellation. Call `flush` after that."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_writing)
            group.start_soon(self._keep_reporting)

    async def flush(self) -> None:
        """Before the end: write everything that is only in memory."""
        await self._write()
        await self._report()
        self._clear()
        self._segments.close()

    # ----------------------------------------------------------------- to the disk

    async def _keep_writing(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived = anyio.Event()
            if not await self._write():
                with anyio.move_on_after(WRITE_AGAIN_SECONDS):
                    await self._arrived.wait()
                self._arrived.set()

    async def _write(self) -> bool:
        """Whether the disk took all that is new."""
        batch = list(self._new)
        if self._segments.size > MOST_SEGMENT_BYTES:
            batch = self._another(batch)
        elif not batch:
            self._clear()
        if not batch:
            self._say(disk="")
            return True
        try:
            await anyio.to_thread.run_sync(
                self._segments.append, [entry.row for entry in batch], limiter=self._one_writer
            )
        except OSError as error:
            self._say(disk=f"{self._segments.folder}: {error.strerror or error}")
            return False
        else:
            self._say(disk="")
            wanted = self._in_memory  # now without the downloads that were taken back meanwhile
            done = set(batch)
            self._new = [entry for entry in self._new if entry not in done]
            written = {entry.row.id for entry in batch}
            self._written |= {number: row for number, row in wanted.items() if number in written}
            return True
        finally:
            for entry in batch:
                entry.tried.set()
            self._reportable.set()

    def _clear(self) -> None:
        """Empty the file when all its lines are done with."""
        if self._segments.size and not self._written and not self._tells_of_others:
            self._segments.clear()

    def _another(self, batch: list[_Entry]) -> list[_Entry]:
        """Begin another file. Likely downloads are written to it again; the others will be read from the old file."""
        self._segments.begin_another()
        along = [_Entry(row) for number, row in self._written.items() if number in self._likely]
        self._carried = {entry.row.id for entry in along}
        self._left += len(self._written) - len(along)
        self._written.clear()
        self._new = [*along, *self._new]
        return [*along, *batch]

    # ----------------------------------------------------------------- to the daemon

    async def _keep_reporting(self) -> None:
        wait = REPORT_AGAIN_SECONDS[0]
        while True:
            self._reportable = anyio.Event()
            reported = await self._report()
            wait = REPORT_AGAIN_SECONDS[0] if reported else min(wait * 2, REPORT_AGAIN_SECONDS[1])
            if not reported:
                await anyio.sleep(REPORT_AGAIN_SECONDS[0])  # downloads that arrive meanwhile go into one report
            with anyio.move_on_after(None if reported else wait):
                await self._reportable.wait()

    async def _report(self) -> bool:
        """Whether nothing is left to report."""
        now = {number: row for number, row in self._written.items() if number not in self._likely}
        if self._disk:
            now |= self._in_memory
        problem, recorded, left = await anyio.to_thread.run_sync(self._tell, now.values(), limiter=self._one_reporter)
        for number in recorded:
            self._written.pop(number, None)
        self._new = [entry for entry in self._new if entry.row.id not in recorded or isinstance(entry.row, TakenBack)]
        self._left = max(0, self._left - left)
        if not problem:
            self._tells_of_others = False
        if not self._written and self._segments.size:
            self._arrived.set()  # the file can be cleared
        self._say(daemon=problem)
        return not problem

    def _tell(self, now: Collection[SpooledDownload]) -> tuple[str, set[str], int]:
        """Report the downloads in other files, and these downloads.

        Returns why this failed ("" if it did not), which of these are recorded, and how many of other files.
        """
        recorded: set[str] = set()
        left = 0
        problem = ""
        try:
            paths = self._segments.left()
            if not paths and not now:
                return "", recorded, left
            with Client.connect(self._socket, timeout=ANSWER_SECONDS) as client:
                for path in paths:
                    rows = [row for row in self._segments.read(path) if row.id not in self._likely]
                    for batch in _batches(rows):
                        client.request("download.record", {"downloads": batch})
                    self._segments.remove(path)
                    left += len(rows)
                for batch in _batches(now):
                    client.request("download.record", {"downloads": batch})
                    recorded.update(row["id"] for row in batch)
        except DaemonError as error:
            problem = f"the daemon does not take them: {error.message}"
        except ClientError as error:
            problem = error.message
        except OSError as error:
            problem = f"{self._segments.folder}: {error.strerror or error}"
        return problem, recorded, left

    def _say(self, *, disk: str | None = None, daemon: str | None = None) -> None:
        before = self.problem
        self._disk = self._disk if disk is None else disk
        self._daemon = self._daemon if daemon is None else daemon
        if self.problem and not before:
            log.warning("serve.downloads_wait", waiting=self.waiting, reason=self.problem)
        elif before and not self.problem:
            log.info("serve.downloads_reported")


def _batches(downloads: Iterable[SpooledDownload]) -> Iterable[list[dict[str, Any]]]:
    """The downloads in lists: each list fits into one request, and has at least one download."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in map(msgspec.to_builtins, downloads):
        length = len(json.dumps(row))
        if batch and (len(batch) == MOST_IN_REQUEST or size + length > MOST_REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch
