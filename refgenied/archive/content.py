"""What kind of content a block has, told from a sample: it decides which codec packs the block.

Deflate finds repeats and then codes letters. In DNA the repeats it finds by chance cost more than they save: Huffman
codes alone are 15 times faster there, and smaller too. Soft-masked DNA has one bit more a base, and short repeats pay.
In BWTs, suffix arrays and packed bases a quick look for repeats finds all there is to find. Only text rewards a search.

The kind depends on the block's bytes alone, and is the same on every machine: libdeflate's output is.
"""

from __future__ import annotations

import math
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


def content_of(block: memoryview) -> Content:
    """The kind of the bytes in a block of any size."""
    sample = _sample(block)
    if _is_dna(sample):
        return _dna(sample)
    quick = _deflated(sample, 1)
    if quick >= len(sample):
        return Content.PACKED
    if quick * _REPEATED < len(sample):
        return Content.TEXT
    return Content.DENSE if quick <= _deflated(sample, 6) * 1.02 else Content.MIXED


def is_text(block: memoryview) -> bool:
    """Whether its kind is TEXT, DNA apart: told faster than the kind itself."""
    sample = _sample(block)
    return not _is_dna(sample) and _deflated(sample, 1) * _REPEATED < len(sample)


def _is_dna(sample: bytes) -> bool:
    return len(sample.translate(None, _BASES + _GAPS)) <= len(sample) * _FOREIGN


def _dna(sample: bytes) -> Content:
    """Gaps and tandem repeats (centromeres) are where a search pays after all."""
    bases = sample.translate(None, _GAPS)
    quick = _deflated(bases, 1)
    if len(bases) * 2 < len(sample) or quick * _REPEATED < len(bases):
        return Content.TEXT
    return Content.BASES if _huffman(bases) <= quick else Content.MASKED


def _sample(block: memoryview) -> bytes:
    size = len(block)
    if size <= _PIECES * _PIECE:
        return bytes(block)
    step = (size - _PIECE) // (_PIECES - 1)
    return b"".join([block[begin : begin + _PIECE] for begin in range(0, step * _PIECES, step)])


def _huffman(bases: bytes) -> float:
    """Bytes of DNA whose letters are coded by their frequencies alone; ideal codes, but of one bit at least."""
    size = len(bases)
    counts = [count for letter in _BASES if (count := bases.count(letter))]
    bits = sum(count * max(1.0, -math.log2(count / size)) for count in counts)
    return (bits + (size - sum(counts)) * 8) / 8


def _deflated(sample: bytes, level: int) -> int:
    return len(deflate.deflate_compress(sample, level))  # pyright: ignore[reportUnknownMemberType]
