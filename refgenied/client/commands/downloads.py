"""`refgeniectl downloads import`: the downloads that another web server has in its access log."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import sys
import zlib
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice, takewhile
from typing import BinaryIO

from refgenied.client import Client, ClientError, Json, interrupt, words
from refgenied.client.commands.archives import pages
from refgenied.client.weblogs.lines import Hit, StrangeLineError, clues_of, hit_of, is_complete
from refgenied.client.weblogs.targets import Sent, Target, Targets, sent_of
from refgenied.shared import output
from refgenied.shared.pulls import SWALLOWED, asks_twice

BATCH = 150
BATCH_BYTES = 48 * 1024
"""Of the requests in one message, whose line must not pass 64 KiB: names may be long."""
LONGEST_LINE = 64 * 1024
MOST_EQUAL = 200_000
"""Different lines of which it is known how often they came; the oldest is forgotten."""
LOOK_LINES = 20_000
"""The first lines of a log are looked at before, for what its numbers mean."""
MOST_FIRST = 400
"""Requests of a log's first second that are held back until it is known how the log goes on."""

FORMATS = "the README, under Serving, has a log format that tells"


class Reader:
    """Goes through a log and finds the requests for archives in it."""

    def __init__(self, targets: Targets, *, with_headers: bool | None = None) -> None:
        self._targets = targets
        self.with_headers = with_headers
        """Whether the numbers of bytes count headers; None as long as no line has told."""
        self.first_line = b""
        self.lines = 0
        self.strange = 0
        """Lines in another format."""
        self._dashes = self._exact = self._parts = self._lengths_only = self._no_agent = 0

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[bytes, Json]]:
        """Each with its line."""
        for raw in lines:
            line = raw.strip()
            if not raw.endswith(b"\n") and not is_complete(line):
                continue  # the server was writing it; the next import reads it whole
            self.first_line = self.first_line or line
            self.lines += 1
            try:
                hit = hit_of(line)
            except StrangeLineError:
                self.strange += 1
                continue
            if hit is None:
                clues = clues_of(line)
                self.with_headers = clues.headers or self.with_headers
                self._dashes += clues.apache_b
            elif target := self._targets.of(hit.target):
                yield line, self._request(hit, target)

    @property
    def notes(self) -> list[str]:
        """What this log could not tell."""
        notes: list[str] = []
        if self._exact and (self._dashes or not self._parts):
            who = "Apache's %b wrote this log" if self._dashes else "if Apache's %b wrote this log"
            notes.append(f"{who}: it takes a transfer that was broken off for a whole one; {FORMATS}")
        if self._lengths_only:
            ranges = words.several(self._lengths_only, "range")
            notes.append(
                f"{ranges} counted by their lengths, for this log does not tell which bytes were sent; {FORMATS}"
            )
        if self._no_agent:
            notes.append(f"this log names no user agents, so a pull of a small archive counts as two; {FORMATS}")
        return notes

    def _request(self, hit: Hit, target: Target) -> Json:
        sent = sent_of(target, hit, with_headers=bool(self.with_headers))
        self._watch(hit, sent)
        # Apache's time, told by the headers in its number, is that of the beginning
        begun = hit.at if hit.begun is None and sent.with_headers else hit.begun
        return {
            "client": hit.client,
            "agent": hit.agent,
            "genome_digest": target.row["genome_digest"],
            "asset_group": target.row["asset_group"],
            "asset": target.row["asset"],
            "digest": sent.edition.digest,
            "size": sent.edition.size,
            "at": hit.at,
            "begun": begun,
            "first": sent.first,
            "least": sent.least,
            "most": sent.most,
            "ranged": hit.ranged,
            "sure": not self._dashes or hit.broken is not None,
        }

    def _watch(self, hit: Hit, sent: Sent) -> None:
        """What this line tells of the format of all."""
        if sent.with_headers is not None:
            self.with_headers = sent.with_headers
        if hit.with_headers is None and not hit.ranged and hit.broken is None:
            self._exact += sent.with_headers is False
            self._parts += sent.with_headers is None and bool(hit.sent)
        self._lengths_only += sent.first is None
        self._no_agent += not hit.agent


def numbered(
    requests: Iterable[tuple[bytes, Json]], begin: Callable[[list[tuple[bytes, Json]], bytes | None], dict[str, int]]
) -> Iterator[Json]:
    """Give each request the identity of its line, in bounded memory.

    An identity depends on the line's text alone, so the same line in another file is no other. Of equal lines the
    first, second, third … have numbers. Rotation may cut between equal lines: `begin` is given the requests of the
    log's first second and the line of the next one, and says how many of each were in the logs before.
    """
    rest = iter(requests)
    first: list[tuple[bytes, Json]] = []
    following: tuple[bytes, Json] | None = None
    for item in rest:
        if first and (item[1]["at"] != first[0][1]["at"] or len(first) == MOST_FIRST):
            following = item
            break
        first.append(item)
    if not first:
        return
    before = begin(first, following[0] if following else None)
    seen: OrderedDict[str, int] = OrderedDict()
    for line, request in chain(first, [following] if following else [], rest):
        name = line_hash(line)
        number = seen.pop(name, before.get(name, 0)) + 1
        seen[name] = number
        if len(seen) > MOST_EQUAL:
            seen.popitem(last=False)
        download = hashlib.sha256(b"%b #%d" % (line, number)).hexdigest()[:48]
        yield {"line": name, "number": number, "id": download, **request}


def line_hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:32]


def batches(requests: Iterable[Json]) -> Iterator[list[Json]]:
    """As many as fit into one message, at least one."""
    batch: list[Json] = []
    size = 0
    for request in requests:
        size += len(json.dumps(request))
        if batch and (len(batch) == BATCH or size > BATCH_BYTES):
            yield batch
            batch, size = [], len(json.dumps(request))
        batch.append(request)
    if batch:
        yield batch


def import_log(client: Client, arguments: Namespace) -> int:
    targets = Targets(pages(client, "download.editions", "assets", "after"))
    reader = Reader(targets, with_headers=_looked_at(arguments.log, targets))
    totals: Counter[str] = Counter(recorded=0, known=0, unknown=0)
    stopped = "nothing more is counted; what was counted stays, and the same command counts the rest"
    try:
        with interrupt.told(lambda: stopped), _opened(arguments.log) as (log, identity):

            def begin(first: list[tuple[bytes, Json]], following: bytes | None) -> dict[str, int]:
                return client.call("download.log", **beginning(reader.first_line, identity, first, following))["before"]

            for batch in batches(numbered(reader.requests(lines_of(log)), begin)):
                totals.update(client.call("download.requests", requests=batch))
    except (OSError, EOFError, zlib.error) as error:
        raise ClientError(f"{arguments.log} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if reader.lines and reader.strange == reader.lines:
        raise ClientError(
            f"{arguments.log} is neither in combined log format nor Caddy's JSON", "nginx: access_log FILE combined;"
        )
    if arguments.json:
        output.print_json({"lines": reader.lines, "other_lines": reader.strange, **totals, "notes": reader.notes})
        return 0
    known = f", {totals['known']} were counted before" if totals["known"] else ""
    output.say(f"{words.several(reader.lines, 'line')}: counted {words.several(totals['recorded'], 'download')}{known}")
    for note in reader.notes:
        output.note("refgeniectl", note)
    return 0


def beginning(first_line: bytes, identity: str, first: list[tuple[bytes, Json]], following: bytes | None) -> Json:
    """What the daemon must know to tell this log from others. `identity` is that of the file, if it has one."""
    lines = [line for line, _ in first]
    request = first[0][1]
    repeated = len(list(takewhile(lambda line: line == first_line, lines)))
    alone = repeated == len(lines) and following is None and len(lines) % 2 == 1
    may_be_first = request["least"] == request["size"] <= SWALLOWED and asks_twice(request["agent"])
    return {
        "start": line_hash(first_line + identity.encode()),
        "first_line": line_hash(first_line),
        "repeated": max(1, repeated),
        "lines": sorted({line_hash(line) for line in (*lines, *filter(None, [following]))}),
        "half": alone and may_be_first and not request["ranged"],
    }


def lines_of(log: BinaryIO) -> Iterator[bytes]:
    """No line is longer than LONGEST_LINE; the rest of a longer one is a line of its own."""
    while line := log.readline(LONGEST_LINE):
        yield line


def _looked_at(name: str, targets: Targets) -> bool | None:
    """Whether the log's numbers count headers, as its beginning tells; None if that does not."""
    reader = Reader(targets)
    # who reads all of it says what is wrong; a pipe can be read once only
    with suppress(OSError, EOFError, zlib.error), _opened(name if os.path.isfile(name) else os.devnull) as (log, _):
        for _ in reader.requests(islice(lines_of(log), LOOK_LINES)):
            if reader.with_headers is not None:
                break
    return reader.with_headers


@contextmanager
def _opened(name: str) -> Generator[tuple[BinaryIO, str]]:
    """The log, and what tells this file from others; "" if it is no file."""
    if name == "-":
        yield sys.stdin.buffer, ""
        return
    with open(name, "rb") as file:
        found = os.fstat(file.fileno())
        identity = f"{found.st_dev}:{found.st_ino}" if stat.S_ISREG(found.st_mode) else ""
        if file.peek(2)[:2] != b"\x1f\x8b":
            yield file, identity
            return
        with gzip.open(file) as log:
            yield log, identity  # type: ignore[misc]
