"""Finds the kind of content of a block from a sample. The kind decides which codec packs the block.

The sample is taken from files' content only. Of the headers between the files only the number of bytes counts, because
headers hold times: if they counted, an asset that was only built again could get another codec and another size.

Deflate finds repeats and then codes letters. In DNA the repeats that it finds by chance cost more than they save:
Huffman codes alone are 15 times faster there, and the result is smaller. Soft-masked DNA has one bit more for each
base, and short repeats save something. In BWTs, suffix arrays and packed bases a quick search finds all repeats. A long
search pays only in text.

The kind depends on the files alone, never on their times. It is the same on every machine, because libdeflate's output
is.
"""

import math
from collections.abc import Sequence
from enum import StrEnum

import deflate  # its stubs need Python 3.12, so its calls have ignores

_PIECES = 8
_PIECE = 1 << 11
"""Bytes of each of eight pieces, spread over the block: so one header or one run of N does not decide the kind."""

_BASES = b"ACGTacgt"
_GAPS = b"Nn\n"
_FOREIGN = 1 / 64
"""The share of other bytes (names of sequences, ambiguity codes) that DNA may have."""

_REPEATED = 8
"""A sample is full of repeats when a quick search shrinks it to less than an eighth."""


class Content(StrEnum):
    """The kinds of blocks: each kind has a codec that packs it best."""

    BASES = "bases"  # DNA in one case: only the frequencies of its letters count
    MASKED = "masked"  # DNA in both cases: short, near repeats
    TEXT = "text"  # repeats everywhere
    MIXED = "mixed"  # repeats that are worth a search
    DENSE = "dense"  # indexes: a quick search finds all repeats
    PACKED = "packed"  # compressed already, or noise


Spans = Sequence[tuple[int, int]]
"""(begin, end) of each part of a block that is files' content, in order; the rest is headers and padding."""


def content_of(block: memoryview, spans: Spans | None = None) -> Content:
    """The kind of a block of any size. Without `spans` the whole block is content."""
    sample, framed = _looked_at(block, spans)
    if framed > _HEADERS_ABOVE_ALL:
        return Content.TEXT
    kind = _kind(sample)
    return _AMONG_HEADERS.get(kind, kind) if framed > _FOREIGN else kind


_HEADERS_ABOVE_ALL = 3 / 4
"""When more than this share of a block is headers, a search pays: headers are nearly the same."""
_AMONG_HEADERS = {Content.BASES: Content.MIXED, Content.MASKED: Content.MIXED, Content.PACKED: Content.DENSE}
"""For some kinds of content (best packed without repeats, or not at all) another method is better between headers."""


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
    """A guess in a fraction of the time: TEXT, MIXED (it shrinks to less than half), or DENSE for the rest and DNA."""
    sample, framed = _looked_at(block, spans)
    if framed > _HEADERS_ABOVE_ALL:
        return Content.TEXT
    if _is_dna(sample):
        return Content.MIXED if framed > _FOREIGN else Content.DENSE
    quick = _deflated(sample, 1)
    if quick * _REPEATED < len(sample):
        return Content.TEXT
    return Content.MIXED if quick * 2 < len(sample) else Content.DENSE


def _is_dna(sample: bytes) -> bool:
    return len(sample.translate(None, _BASES + _GAPS)) <= len(sample) * _FOREIGN


def _dna(sample: bytes) -> Content:
    """The kind of DNA. In gaps and tandem repeats (centromeres) a search pays."""
    bases = sample.translate(None, _GAPS)
    quick = _deflated(bases, 1)
    if len(bases) * 2 < len(sample) or quick * _REPEATED < len(bases):
        return Content.TEXT
    return Content.BASES if _huffman(bases) <= quick else Content.MASKED


def _looked_at(block: memoryview, spans: Spans | None) -> tuple[bytes, float]:
    """A sample of the content of a block, and the share of the block that is not content."""
    spans = [(0, len(block))] if spans is None else spans
    size = sum(end - begin for begin, end in spans)
    return _sample(block, spans, size), 1 - size / len(block) if block else 0.0


def _sample(block: memoryview, spans: Spans, size: int) -> bytes:
    """All of the content when it is short, else pieces from places that are spread evenly over it."""
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
    """The bytes that DNA needs when its letters are coded by their frequencies: ideal codes of at least one bit."""
    size = len(bases)
    counts = [count for letter in _BASES if (count := bases.count(letter))]
    bits = sum(count * max(1.0, -math.log2(count / size)) for count in counts)
    return (bits + (size - sum(counts)) * 8) / 8


def _deflated(sample: bytes, level: int) -> int:
    return len(deflate.deflate_compress(sample, level))  # pyright: ignore[reportUnknownMemberType]
