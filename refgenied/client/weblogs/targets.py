"""Finds the archive of a line in an access log, and the bytes of it that were sent."""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from refgenied.client import Json
from refgenied.client.weblogs.lines import Hit
from refgenied.shared.pulls import remembered

API = re.compile(
    r"(?:.*/)?assets/archive/(?P<genome>[^/]+)/(?P<group>[^/]+)"
    r"|(?:.*/)?v[12]/asset/(?P<genome2>[^/]+)/(?P<group2>[^/]+)/archive"
)
HEADERS = (200, 450)
"""The least and the most bytes that the headers of a range have. Apache's headers have about 310 bytes."""
MOST_HEADERS = 8192
TLS_SHARE = 50
"""Apache's %O counts the bytes of encryption too: at most one byte for each 50 bytes."""


class KnownArchive(NamedTuple):
    digest: str
    size: int
    published_at: float


class Target:
    """One asset, with its present and its earlier archives."""

    def __init__(self, row: Json) -> None:
        self.row = row
        published = row.get("published", {})
        self._editions = [
            KnownArchive(digest, size, published.get(digest, 0)) for digest, size in row["editions"].items()
        ]
        self._sizes = {edition.size: edition for edition in reversed(self._editions)}
        """The newest archive of each size."""

    def of_size(self, size: int | None) -> KnownArchive | None:
        return self._sizes.get(size) if size is not None else None

    def at(self, moment: float) -> KnownArchive:
        """The archive that existed at this moment; for a moment before all archives, the first archive."""
        return next((edition for edition in self._editions if edition.published_at <= moment), self._editions[-1])

    def around(self, hit: Hit) -> list[KnownArchive]:
        """The possible archives of a line, newest first. The line's time may be the end or the beginning."""
        newest = self.at(hit.at)
        oldest = self.at(hit.at - remembered(newest.size))
        return [newest] if oldest == newest else [newest, oldest]


class Targets:
    """Finds the asset of a request. If a genome digest and an alias are the same text, the digest wins."""

    def __init__(self, rows: Iterable[Json]) -> None:
        self._by_names: dict[tuple[str, str, str], Target] = {}
        """By genome, asset group and asset. An empty asset means the default asset of its group."""
        self._by_file: dict[tuple[str, str], Target] = {}
        """By genome and file name. If two assets have the same (`a__b:c` and `a:b__c`), the first one is served."""
        named = [(Target(row), row["genome_digest"], row["aliases"]) for row in rows]
        for target, genome, _ in named:
            self._add(target, genome)
        for target, _, aliases in named:
            for alias in aliases:
                self._add(target, alias)

    def _add(self, target: Target, genome: str) -> None:
        group, asset = target.row["asset_group"], target.row["asset"]
        self._by_names.setdefault((genome, group, asset), target)
        self._by_file.setdefault((genome, f"{group}__{asset}.tgz"), target)
        if target.row["default"]:
            self._by_names.setdefault((genome, group, ""), target)

    def of(self, request: str) -> Target | None:
        try:
            url = urlsplit(request)
        except ValueError:  # a request may be any text, for example `//[`
            return None
        path = unquote(url.path)
        if api := API.fullmatch(path):
            genome, group = api["genome"] or api["genome2"], api["group"] or api["group2"]
            tag = next(iter(parse_qs(url.query).get("tag", [])), "")
            return self._by_names.get((genome, group, tag))
        *folders, name = path.split("/")
        nested = self._by_names.get((folders[-3], folders[-2], folders[-1])) if len(folders) >= 3 else None
        if nested is not None and name == f"{folders[-2]}__{folders[-1]}.tgz":
            return nested
        return self._by_file.get((folders[-1], name)) if folders else None


class Sent(NamedTuple):
    """The bytes of an archive that were sent. `first` is None when the line does not show the first byte."""

    edition: KnownArchive
    first: int | None
    least: int
    most: int
    with_headers: bool | None
    """Whether the number of bytes counts headers; None: not known."""


def sent_of(target: Target, hit: Hit, *, with_headers: bool) -> Sent:
    """`with_headers`: whether numbers of bytes count headers, as earlier lines of this log have shown."""
    number = hit.sent or 0
    if hit.with_headers is not None:
        with_headers = hit.with_headers
    return _ranged(target, hit, number, with_headers=with_headers) if hit.ranged else _whole(target, hit, number)


def _whole(target: Target, hit: Hit, number: int) -> Sent:
    found, told = target.of_size(number), None
    if found is not None:
        told = False
    elif hit.with_headers is not False:
        found = next((one for one in target.around(hit) if _is_with_headers(number, one.size)), None)
        told = True if found else None
    edition = found or target.at(hit.at)
    most = edition.size if found else min(number, edition.size - 1)
    if hit.broken:
        most = min(most, edition.size - 1)
    return Sent(edition, 0, most, most, told)


def _is_with_headers(number: int, size: int) -> bool:
    return size + HEADERS[0] // 2 <= number <= size + MOST_HEADERS + size // TLS_SHARE


def _ranged(target: Target, hit: Hit, number: int, *, with_headers: bool) -> Sent:
    edition = target.of_size(hit.span.total if hit.span else None) or target.at(hit.at)
    least, most = number, number
    if with_headers:
        least, most = max(0, number - HEADERS[1]), max(0, number - HEADERS[0])
    if hit.span is None:
        return Sent(edition, None, least, most, None)
    size = edition.size
    first, end = hit.span.first, min(size if hit.span.end is None else hit.span.end, size)
    if first is None:  # the range is the last `end` bytes
        first, end = size - end, size
    length = max(0, end - first)
    come = length if number >= length and not hit.broken else min(least, max(0, length - 1))
    return Sent(edition, first, come, come, None)
