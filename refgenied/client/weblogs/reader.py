"""Reads an access log and makes the requests for archives that are reported to the daemon."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, takewhile
from typing import BinaryIO

from refgenied.client import Json, words
from refgenied.client.weblogs.lines import Hit, StrangeLineError, clues_of, hit_of, is_complete
from refgenied.client.weblogs.targets import Sent, Target, Targets, sent_of
from refgenied.shared.pulls import BUFFERED_BYTES, asks_twice

BATCH = 150
BATCH_BYTES = 48 * 1024
"""The most bytes of the requests in one message. Its line may have 64 KiB, and names may be long."""
LONGEST_LINE = 64 * 1024
MOST_EQUAL = 200_000
"""The most different lines that are counted. If there are more, the oldest is forgotten."""
MOST_FIRST = 400
"""Requests of a log's first second are held back until the next second comes; at most this many."""

FORMATS = "the README, under Serving, shows a log format that says it"


class Reader:
    """Reads a log and finds the requests for archives in it."""

    def __init__(self, targets: Targets, *, with_headers: bool | None = None) -> None:
        self._targets = targets
        self.with_headers = with_headers
        """Whether the numbers of bytes count headers; None: no line has shown it yet."""
        self.first_line = b""
        self.lines = 0
        self.strange = 0
        """The number of lines in another format."""
        self._dashes = self._exact = self._parts = self._lengths_only = self._no_agent = 0

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[bytes, Json]]:
        """The requests, each with its line."""
        for raw in lines:
            line = raw.strip()
            if not raw.endswith(b"\n") and not is_complete(line):
                continue  # the server was still writing this line; the next import reads it completely
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
        """For a person: the facts that are missing in this log."""
        notes: list[str] = []
        if self._exact and (self._dashes or not self._parts):
            who = "Apache's %b wrote this log" if self._dashes else "if Apache's %b wrote this log"
            notes.append(f"{who}: it counts a transfer that was broken off as a whole one; {FORMATS}")
        if self._lengths_only:
            ranges = words.several(self._lengths_only, "range")
            notes.append(
                f"{ranges} counted by their lengths, because this log does not say which bytes were sent; {FORMATS}"
            )
        if self._no_agent:
            notes.append(f"this log names no user agents, so a pull of a small archive counts as two; {FORMATS}")
        return notes

    def _request(self, hit: Hit, target: Target) -> Json:
        sent = sent_of(target, hit, with_headers=bool(self.with_headers))
        self._watch(hit, sent)
        # Only Apache's numbers count headers, and Apache writes the time of the beginning.
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
        """Learn from this line the meaning of the numbers in the whole log."""
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

    An identity depends on the line's text alone, so the same line in another file has the same identity. Equal lines
    are numbered. A rotation may cut a log between equal lines. So `begin` gets the requests of the log's first second
    and the next line, and returns how many equal lines earlier logs had.
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
    """Lists of requests, each for one message."""
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


def beginning(first_line: bytes, identity: str, first: list[tuple[bytes, Json]], following: bytes | None) -> Json:
    """The facts with which the daemon recognizes this log. `identity`: of the file; empty when it is not a file."""
    lines = [line for line, _ in first]
    request = first[0][1]
    repeated = len(list(takewhile(lambda line: line == first_line, lines)))
    alone = repeated == len(lines) and following is None and len(lines) % 2 == 1
    may_be_first = request["least"] == request["size"] <= BUFFERED_BYTES and asks_twice(request["agent"])
    return {
        "start": line_hash(first_line + identity.encode()),
        "first_line": line_hash(first_line),
        "repeated": max(1, repeated),
        "lines": sorted({line_hash(line) for line in (*lines, *filter(None, [following]))}),
        "half": alone and may_be_first and not request["ranged"],
    }


def lines_of(log: BinaryIO) -> Iterator[bytes]:
    """The lines of a log. A line has at most LONGEST_LINE bytes; the rest of a longer line becomes another line."""
    while line := log.readline(LONGEST_LINE):
        yield line
