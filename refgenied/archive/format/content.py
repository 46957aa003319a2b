"""What kind of content a block has, told from a sample of it: it decides which codec packs the block.

The sample is of files' content alone. Of the headers between them only the number of bytes counts: with their times in
the sample, an asset that was merely built again would be packed by another codec, and be larger or smaller for it.

Deflate finds repeats and then codes letters. In DNA the repeats it finds by chance cost more than they save: Huffman
codes alone are 15 times faster there, and smaller too. Soft-masked DNA has one bit more a base, and short repeats pay.
In BWTs, suffix arrays and packed bases a quick look for repeats finds all there is to find. Only text rewards a search.

The kind depends on the files alone, never on their times, and is the same on every machine: libdeflate's output is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import deflate  # its stubs want Python 3.12: hence the ignores

_PIECES = 8
_PIECE = 1 << 11
"""Eight pieces of 2 KiB spread over the block: a header or a run of N at one place does not speak for the whole."""

_BASES = b"ACGTacgt"
_GAPS = b"Nn\n"
_FOREIGN = 1 / 64
"""The share of other bytes (names of sequences, ambiguity codes) that DNA may have."""

_REPEATED = 8
"""What shrinks to less than an eighth at a quick look is full of repeats."""


class Content(StrEnum):
    """What packs such a block best."""

    BASES = "bases"  # DNA in one case: nothing but its letters' frequencies counts
    MASKED = "masked"  # DNA in both cases: short, near repeats
    TEXT = "text"  # repeats all over
    MIXED = "mixed"  # repeats that are worth a search
    DENSE = "dense"  # indexes: a quick search finds what there is
    PACKED = "packed"  # compressed already, or noise


Spans = Sequence[tuple[int, int]]
"""(begin, end) of each part of a block that is files' content, in order; the rest is headers and padding."""


def content_of(block: memoryview, spans: Spans | None = None) -> Content:
    """The kind of a block of any size. Without `spans` all of it is content."""
    spans = [(0, len(block))] if spans is None else spans
    kind = _kind(_sample(block, spans))
    framed = _framed(block, spans)
    if framed > _HEADERS_ABOVE_ALL:
        return Content.TEXT
    return _AMONG_HEADERS.get(kind, kind) if framed > _FOREIGN else kind


_HEADERS_ABOVE_ALL = 3 / 4
"""Where so much is not content, a search pays: headers are nearly the same."""
_AMONG_HEADERS = {Content.BASES: Content.MIXED, Content.MASKED: Content.MIXED, Content.PACKED: Content.DENSE}
"""What is packed well by letters alone, or not at all, is not so with headers in between."""


def _kind(sample: bytes) -> Content:
    if _is_dna(sample):
        return _dna(sample)
    quick = _deflated(sample, 1)
    if quick >= len(sample):
        return Content.PACKED
    if quick * _REPEATED < len(sample):
        return Content.TEXT
    return Content.DENSE if quick <= _deflated(sample, 6) * 1.02 else Content.MIXED


def glance(block: memoryview, spans: Spans | None = None) -> Content:
    """In a fraction of the time: TEXT and what shrinks to less than half (MIXED); DENSE for all else, DNA too."""
    spans = [(0, len(block))] if spans is None else spans
    framed = _framed(block, spans)
    if framed > _HEADERS_ABOVE_ALL:
        return Content.TEXT
    sample = _sample(block, spans)
    if _is_dna(sample):
        return Content.MIXED if framed > _FOREIGN else Content.DENSE
    quick = _deflated(sample, 1)
    if quick * _REPEATED < len(sample):
        return Content.TEXT
    return Content.MIXED if quick * 2 < len(sample) else Content.DENSE


def _is_dna(sample: bytes) -> bool:
    return len(sample.translate(None, _BASES + _GAPS)) <= len(sample) * _FOREIGN


def _dna(sample: bytes) -> Content:
    """Gaps and tandem repeats (centromeres) are where a search pays after all."""
    bases = sample.translate(None, _GAPS)
    quick = _deflated(bases, 1)
    if len(bases) * 2 < len(sample) or quick * _REPEATED < len(bases):
        return Content.TEXT
    return Content.BASES if _huffman(bases) <= quick else Content.MASKED


def _framed(block: memoryview, spans: Spans) -> float:
    """The share of a block that is not content."""
    return 1 - _total(spans) / len(block) if block else 0.0


def _total(spans: Spans) -> int:
    return sum(end - begin for begin, end in spans)


def _sample(block: memoryview, spans: Spans) -> bytes:
    """All of the content where it is short, else pieces from places spread evenly over it."""
    size = _total(spans)
    if size <= _PIECES * _PIECE:
        return b"".join([block[begin:end] for begin, end in spans])
    step = (size - _PIECE) // (_PIECES - 1)
    pieces: list[memoryview] = []
    wanted, passed = 0, 0  # both count content alone
    left = _PIECE
    for begin, end in spans:
        while wanted < passed + end - begin:
            first = begin + wanted - passed
            piece = block[first : min(end, first + left)]
            pieces.append(piece)
            wanted, left = wanted + len(piece), left - len(piece)
            if not left:
                wanted, left = wanted - _PIECE + step, _PIECE
        passed += end - begin
    return b"".join(pieces)


def _huffman(bases: bytes) -> float:
    """Bytes of DNA whose letters are coded by their frequencies alone; ideal codes, but of one bit at least."""
    size = len(bases)
    counts = [count for letter in _BASES if (count := bases.count(letter))]
    bits = sum(count * max(1.0, -math.log2(count / size)) for count in counts)
    return (bits + (size - sum(counts)) * 8) / 8


def _deflated(sample: bytes, level: int) -> int:
    return len(deflate.deflate_compress(sample, level))  # pyright: ignore[reportUnknownMemberType]
