"""Two digests that identify an asset's content: refgenie's `asset_digest`, and a content digest of our own."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from refgenied.archive.format.entries import Entry
from refgenied.archive.format.sorting import C, Line, locales, sorted_as, sorted_tokens
from refgenied.archive.run import Check, no_check
from refgenied.genomes.member import Kind

_ESCAPED = re.compile(rb"[\\\n\r]")

SAMPLE_LINES = 1000
"""Two locales are compared by a sample of this many names: a machine may have hundreds, and most sort alike."""

IGNORED = b"_refgenie_build"
"""refgenie leaves out every name at the top level that begins with this (`find . -not -path './_refgenie_build*'`)."""


class AssetDigest:
    r"""refgenie's `asset_digest`, computed while the files come in the order of their names' bytes.

    refgenie runs `find . -type f … -exec md5sum {} \; | sort -k 2 | awk '{print $1}' | md5sum`: the md5 over the md5s
    of the regular files, one in each line, ordered by path. Two details of these tools matter: md5sum writes `\\`,
    newline and carriage return in a name as two characters, and then puts a backslash before the sum; sort follows
    the builder's locale (`matching_order` finds it).
    """

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.in_order = True
        """False: md5sum writes some name with a backslash, which may change the order: see `asset_digest`."""

    def add(self, entries: Iterable[Entry]) -> None:
        tokens = [_md5sum_line(entry)[0] for entry in entries if in_asset_digest(entry)]
        if tokens:
            text = b"\n".join([*tokens, b""])
            self.in_order = self.in_order and b"\\" not in text
            self._md5.update(text)

    def hexdigest(self) -> str:
        return self._md5.hexdigest()


def in_asset_digest(entry: Entry) -> bool:
    """Whether refgenie's digest includes this member."""
    return entry.type is Kind.FILE and not entry.foreign and not entry.raw_path.startswith(IGNORED)


def asset_digest(entries: Iterable[Entry], check: Check = no_check) -> str:
    """The asset digest of these members, as a builder with the C locale computes it. Memory is bounded."""
    return digest_of(sorted_tokens(md5sum_lines(entries, check)))


def matching_order(entries: Callable[[], Iterable[Entry]], digest: str, check: Check = no_check) -> str | None:
    """The first installed locale whose order of names gives this asset digest; None: there is none.

    STAR's `Genome`, `SA`, `chrLength.txt` are the usual case: en_US.UTF-8 and C sort them differently. `entries` is
    called once for each order that is tried. UnreadableError, ShortageError: `sort` cannot give an order.
    """
    for name, tokens in other_orders(lambda: md5sum_lines(entries(), check), check):
        if digest_of(tokens) == digest:
            return name
    return None


def order_lacking_one(entries: Iterable[Entry], digest: str, check: Check = no_check) -> str | None:
    """The name of the first order in which all files except one have this asset digest; None: there is none.

    The builder's folder may have a link to the FASTA file (`bwa_index`, `bismark_*`), and refgenie's digest leaves out
    links. The archive holds the file itself. When `refgenie pull` or `archive restore` has extracted such an archive,
    the link is a regular file, but refgenie's config still has the digest without it.
    `entries` must be few: each file is left out once. Errors as for `matching_order`.
    """
    listed = list(md5sum_lines(entries, check))
    by_bytes = (C, sorted_tokens(listed))
    for name, tokens in chain([by_bytes], other_orders(lambda: listed, check)):
        if _matches_lacking_one([token + b"\n" for token in tokens], digest, check):
            return name
    return None


def other_orders(lines: Callable[[], Iterable[Line]], check: Check) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The orders that the locales of this machine give these lines, each order once, without the order of bytes."""
    some, are_all = _sample(lines())
    seen = {b"\n".join(sorted_tokens(some))}
    for locale in locales():
        tokens = list(sorted_as(locale, some, check))
        known = b"\n".join(tokens)
        if known not in seen:
            seen.add(known)
            yield locale, iter(tokens) if are_all else sorted_as(locale, lines(), check)


def _sample(lines: Iterable[Line]) -> tuple[list[Line], bool]:
    """Lines at even distances, between SAMPLE_LINES and twice as many; and whether these are all lines."""
    taken: list[Line] = []
    distance = 1
    for number, line in enumerate(lines):
        if number % distance == 0:
            taken.append(line)
            if len(taken) > 2 * SAMPLE_LINES:
                del taken[1::2]
                distance *= 2
    return taken, distance == 1


def digest_of(tokens: Iterable[bytes]) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    for token in tokens:
        md5.update(token + b"\n")
    return md5.hexdigest()


def _matches_lacking_one(lines: list[bytes], digest: str, check: Check) -> bool:
    before = hashlib.md5(usedforsecurity=False)
    for number, line in enumerate(lines):
        check()
        md5 = before.copy()
        md5.update(b"".join(lines[number + 1 :]))
        if md5.hexdigest() == digest:
            return True
        before.update(line)
    return False


class ContentDigest:
    """Identifies the content of an archive: a sha256 over the members in the order of their names in the tar.

    For each member: type, mode (octal), size, md5 of a file or target of a link, path. A NUL follows each of these,
    because none of them can hold a NUL. Times are left out: an asset that is built again with the same content has the
    same digest.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256(b"refgenied content 1\0")

    def add(self, entries: Iterable[Entry]) -> None:
        self._sha256.update(b"".join(map(_content_of, entries)))

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


_KIND = {kind: kind.encode() for kind in Kind}


def _content_of(entry: Entry) -> bytes:
    kind = entry.type
    what = entry.raw_target if kind is Kind.LINK else entry.md5.encode()
    return b"%b\0%o\0%d\0%b\0%b\0" % (_KIND[kind], entry.permissions, entry.size, what, entry.raw_path)


def md5sum_lines(entries: Iterable[Entry], check: Check) -> Iterator[Line]:
    for number, entry in enumerate(entries):
        if number % 1000 == 0:
            check()
        if in_asset_digest(entry):
            yield _md5sum_line(entry)


def _md5sum_line(entry: Entry) -> Line:
    """A line as md5sum prints it: the sum and the name (coreutils 9; older ones do not escape carriage returns)."""
    path = entry.raw_path
    if not _ESCAPED.search(path):
        return entry.md5.encode(), path
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return b"\\" + entry.md5.encode(), escaped
