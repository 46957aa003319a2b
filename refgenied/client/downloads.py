"""`refgeniectl downloads import`: the downloads that another web server has in its access log."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
import zlib
from argparse import Namespace
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from refgenied import output
from refgenied.client import Client, ClientError, Json, words
from refgenied.client.lists import pages
from refgenied.client.pulls import Pulls, asks_twice

BATCH = 150
BATCH_BYTES = 48 * 1024
"""Of the downloads in one request, whose line must not pass 64 KiB: names may be long."""

LINE = re.compile(
    rb'(?P<host>\S+) \S+ [^\[]*\[(?P<at>[^\]]+)\] "(?P<method>[A-Z]+) (?P<target>\S+)[^"]*" (?P<status>\d{3}) '
    rb'(?P<bytes>\d+|-)(?: "[^"]*" "(?P<agent>(?:[^"\\]|\\.)*)")?'
)
"""Combined log format; the common one, without referer and agent, is taken too."""
API = re.compile(
    r"(?:.*/)?assets/archive/(?P<genome>[^/]+)/(?P<group>[^/]+)"
    r"|(?:.*/)?v[12]/asset/(?P<genome2>[^/]+)/(?P<group2>[^/]+)/archive"
)


class Target:
    """One asset, and how long its archives are and were."""

    def __init__(self, row: Json) -> None:
        self.row = row
        self.sizes: dict[int, str] = {}
        for digest, size in row["editions"].items():
            self.sizes.setdefault(size, digest)
        self.newest = next(iter(row["editions"].values()))


class Targets:
    """Finds the asset that a request was for."""

    def __init__(self, rows: Iterable[Json]) -> None:
        self._by_name: dict[tuple[str, str], Target] = {}
        self._defaults: dict[tuple[str, str], Target] = {}
        for row in rows:
            target = Target(row)
            for genome in (row["genome_digest"], *row["aliases"]):
                self._by_name[genome, f"{row['asset_group']}__{row['asset']}"] = target
                if row["default"]:
                    self._defaults[genome, row["asset_group"]] = target

    def of(self, request: str) -> Target | None:
        try:
            url = urlsplit(request)
        except ValueError:  # anybody may ask for anything: `//[`, say
            return None
        path = unquote(url.path)
        if api := API.fullmatch(path):
            genome, group = api["genome"] or api["genome2"], api["group"] or api["group2"]
            tag = next(iter(parse_qs(url.query).get("tag", [])), "")
            return self._by_name.get((genome, f"{group}__{tag}")) if tag else self._defaults.get((genome, group))
        *folders, name = path.split("/")
        genomes = (folders[-1:], folders[-3:-2])  # beside the flat name, above the nested one
        found = (self._by_name.get((genome[0], name.removesuffix(".tgz"))) for genome in genomes if genome)
        return next(filter(None, found), None) if name.endswith(".tgz") else None


class Reader:
    """Goes through a log and finds the downloads in it. An id depends on the line alone, so a second time is no other.

    Of equal lines the first, second, third … have ids of their own.
    """

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._pulls = Pulls()
        self._seen: Counter[bytes] = Counter()
        self.lines = 0
        self.strange = 0
        """Lines in another format."""

    def downloads(self, lines: Iterable[bytes]) -> Iterator[Json]:
        for line in lines:
            self.lines += 1
            found = LINE.match(line)
            if found is None:
                self.strange += 1
                continue
            if found["method"] == b"GET" and found["status"] in (b"200", b"206"):
                yield from self._download(line.strip(), found)

    def _download(self, line: bytes, found: re.Match[bytes]) -> Iterator[Json]:
        target = self._targets.of(found["target"].decode("utf-8", "replace"))
        if target is None:
            return
        try:
            at = datetime.strptime(found["at"].decode(), "%d/%b/%Y:%H:%M:%S %z").timestamp()
        except ValueError:
            self.strange += 1
            return
        self._seen[line] += 1
        sent = 0 if found["bytes"] == b"-" else int(found["bytes"])
        agent = (found["agent"] or b"").decode("utf-8", "replace")
        who = (found["host"], agent, target.row["registry_path"])
        size = sent if sent in target.sizes else target.newest
        self._pulls.begin(who, at)
        if found["status"] == b"206":
            first = self._pulls.covered_to(who)  # the log has no offsets: ranges are taken to follow each other
            size = target.newest
            span = (first, min(first + sent, size))
        else:
            span = (0, sent)
        if self._pulls.end(who, at, span, size, delivered=True, twice=asks_twice(agent)):
            yield {
                "id": hashlib.sha256(b"%b #%d" % (line, self._seen[line])).hexdigest()[:48],
                "genome_digest": target.row["genome_digest"],
                "asset_group": target.row["asset_group"],
                "asset": target.row["asset"],
                "digest": target.sizes.get(size, ""),
                "at": at,
            }


def batches(downloads: Iterable[Json]) -> Iterator[list[Json]]:
    """As many as fit into one request, at least one."""
    batch: list[Json] = []
    size = 0
    for download in downloads:
        size += len(json.dumps(download))
        if batch and (len(batch) == BATCH or size > BATCH_BYTES):
            yield batch
            batch, size = [], len(json.dumps(download))
        batch.append(download)
    if batch:
        yield batch


def import_log(client: Client, arguments: Namespace) -> int:
    reader = Reader(Targets(pages(client, "download.editions", "assets", "after")))
    totals: Counter[str] = Counter(recorded=0, known=0, unknown=0)
    try:
        with _opened(arguments.log) as log:
            for batch in batches(reader.downloads(log)):
                totals.update(client.call("download.record", downloads=batch))
    except (OSError, EOFError, zlib.error) as error:
        raise ClientError(f"{arguments.log} cannot be read: {error}") from None
    if reader.lines and reader.strange == reader.lines:
        raise ClientError(f"{arguments.log} is not in combined log format", "nginx: access_log FILE combined;")
    if arguments.json:
        output.print_json({"lines": reader.lines, "other_lines": reader.strange, **totals})
    else:
        known = f", {totals['known']} were counted before" if totals["known"] else ""
        output.say(
            f"{words.several(reader.lines, 'line')}: counted {words.several(totals['recorded'], 'download')}{known}"
        )
    return 0


@contextmanager
def _opened(name: str) -> Generator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with open(name, "rb") as file:
        if file.peek(2)[:2] != b"\x1f\x8b":
            yield file
            return
        with gzip.open(file) as log:
            yield log  # type: ignore[misc]
