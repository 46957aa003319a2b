"""Two identities of an asset's content: refgenie's `asset_digest`, and our own content digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from refgenied.archive.format.entries import Entry
from refgenied.archive.format.sorting import C, locales, sorted_as, sorted_tokens
from refgenied.archive.run import Check, no_check
from refgenied.genomes.member import Kind

_ESCAPED = re.compile(rb"[\\\n\r]")

_SAMPLE = 1000
"""Names by which two locales are told apart: a machine may have hundreds, and most of them sort alike."""

IGNORED = b"_refgenie_build"
"""refgenie leaves out whatever begins so at the top level (`find . -not -path './_refgenie_build*'`)."""


class AssetDigest:
    r"""refgenie's `asset_digest`, taken while the files go by in the order of their bytes.

    refgenie runs `find . -type f … -exec md5sum {} \; | sort -k 2 | awk '{print $1}' | md5sum`: the md5
    over the md5s of the regular files, a line each, ordered by path. Two turns of those tools count: md5sum
    writes `\\`, newline and carriage return in a name as two characters and then puts a backslash before
    the sum; and sort follows the builder's locale (`matching_order` finds that one).
    """

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.in_order = True
        """False: a name was written in another way, so its place may be another: see `asset_digest`."""

    def add(self, entries: Iterable[Entry]) -> None:
        tokens = [_md5sum_line(entry)[0] for entry in entries if counts(entry)]
        if tokens:
            text = b"\n".join([*tokens, b""])
            self.in_order = self.in_order and b"\\" not in text
            self._md5.update(text)

    def hexdigest(self) -> str:
        return self._md5.hexdigest()


def counts(entry: Entry) -> bool:
    """Whether refgenie takes this member into its digest."""
    return entry.type is Kind.FILE and not entry.foreign and not entry.raw_path.startswith(IGNORED)


def asset_digest(entries: Iterable[Entry], check: Check = no_check) -> str:
    """The asset digest of these members, as a builder with the C locale computes it. Memory is bounded."""
    return _digest_of(sorted_tokens(_md5sum_lines(entries, check)))


def matching_order(entries: Callable[[], Iterable[Entry]], digest: str, check: Check = no_check) -> str | None:
    """The name of the first installed locale in whose order the files have this asset digest; None: there is none.

    STAR's `Genome`, `SA`, `chrLength.txt` are the everyday case: a builder with en_US.UTF-8 sorts them in another way
    than one with C. `entries` is called once for each order that is tried. UnreadableError, ShortageError: the order
    cannot be asked.
    """
    for name, tokens in _orders(lambda: _md5sum_lines(entries(), check), check):
        if _digest_of(tokens) == digest:
            return name
    return None


def order_lacking_one(entries: Iterable[Entry], digest: str, check: Check = no_check) -> str | None:
    """The name of the first order in which the files without one of them have this asset digest; None: there is none.

    refgenie's digest leaves links out, and an archive holds the file that a link led to (`bwa_index`, `bismark_*`:
    one link to the FASTA file). Where such an archive was extracted, by `refgenie pull` or `archive restore`, that
    file is one like the others, while refgenie's config has the digest of the builder, who had the link.
    `entries` are few: each file takes its turn. Errors as for `matching_order`.
    """
    listed = list(_md5sum_lines(entries, check))
    by_bytes = (C, sorted_tokens(listed))
    for name, tokens in chain([by_bytes], _orders(lambda: listed, check)):
        if _matches_lacking_one([token + b"\n" for token in tokens], digest, check):
            return name
    return None


def _orders(lines: Callable[[], Iterable[tuple[bytes, bytes]]], check: Check) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The orders of the locales of this machine that put these lines in other ways than that of bytes, and than one
    another.
    """
    some, are_all = _sample(lines())
    seen = {b"\n".join(sorted_tokens(some))}
    for locale in locales():
        tokens = list(sorted_as(locale, some, check))
        known = b"\n".join(tokens)
        if known not in seen:
            seen.add(known)
            yield locale, iter(tokens) if are_all else sorted_as(locale, lines(), check)


def _sample(lines: Iterable[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Lines at even distances, between _SAMPLE and twice as many; whether they are all."""
    taken: list[tuple[bytes, bytes]] = []
    distance = 1
    for number, line in enumerate(lines):
        if number % distance == 0:
            taken.append(line)
            if len(taken) > 2 * _SAMPLE:
                del taken[1::2]
                distance *= 2
    return taken, distance == 1


def _digest_of(tokens: Iterable[bytes]) -> str:
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
    """What an archive holds, whatever its bytes: sha256 over the members in the order of their names in the
    tar.

    For each member: type, mode (octal), size, md5 of a file or target of a link, path; each followed by a
    NUL, which none of them can hold. Times are left out: a rebuild with the same content has the same digest.
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


def _md5sum_lines(entries: Iterable[Entry], check: Check) -> Iterator[tuple[bytes, bytes]]:
    for number, entry in enumerate(entries):
        if number % 1000 == 0:
            check()
        if counts(entry):
            yield _md5sum_line(entry)


def _md5sum_line(entry: Entry) -> tuple[bytes, bytes]:
    """What md5sum prints for a file: the sum and the name (coreutils 9; older ones leave carriage returns
    alone).
    """
    path = entry.raw_path
    if not _ESCAPED.search(path):
        return entry.md5.encode(), path
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return b"\\" + entry.md5.encode(), escaped
