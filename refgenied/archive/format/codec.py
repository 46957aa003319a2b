"""How one block becomes one gzip member, and back.

A codec may look at nothing but the block. So the same asset always gives the same bytes, for any number of threads.
"""

import platform
import re
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from importlib import metadata
from typing import Protocol

import deflate  # its stubs need Python 3.12, so its calls have ignores
import msgspec
from isal import igzip_lib
from zlib_ng import zlib_ng

from refgenied.archive.format.arguments import count_of
from refgenied.archive.format.content import Content, Spans, content_of, glance
from refgenied.model import BadArgumentError

Buffer = bytes | bytearray | memoryview

GZIP = 16
"""Added to zlib's window bits: zlib then makes a gzip member, with no time and no name in its header."""


version = cache(metadata.version)
"""A package's version. To find it, files are read and parsed."""


class CodecRecord(msgspec.Struct, frozen=True):
    """Which codec made an archive's bytes; the manifest keeps it."""

    name: str
    """A preset (`balanced`), or the method of one library (`libdeflate`)."""
    level: int
    """The level of the method. For a preset: the edition of its rules, a number that rises when the rules change."""
    library: str
    """Every method that may be in the archive: `zlib-ng huffman, libdeflate 6`."""
    version: str
    """The packages that made it: `deflate 0.9.0, zlib-ng 1.1.0`."""
    machine: str
    """ISA-L's bytes differ between kinds of machine (x86_64, aarch64)."""


class Codec(Protocol):
    """Makes whole gzip members. Several threads call it at once."""

    @property
    def record(self) -> CodecRecord: ...

    def compress(self, block: Buffer, spans: Spans | None = None) -> Buffer:
        """One gzip member with no time and no name in its header.

        `spans`: the parts of the block that are files' content, for a codec that looks at it; None: the whole block.
        """
        ...


class Method(msgspec.Struct, frozen=True):
    """One library's way to compress."""

    package: str
    name: str
    compress: Callable[[Buffer], Buffer]


def libdeflate(level: int) -> Method:
    """Level 0 (stored) to 12 (small). Versions 0.7 to 0.9 give the same bytes, on every machine."""

    def compress(block: Buffer) -> Buffer:
        return deflate.gzip_compress(block, level)  # pyright: ignore[reportUnknownMemberType]

    return Method("deflate", f"libdeflate {level}", compress)


def isal(level: int) -> Method:
    """Level 0 (fast) to 2. Every x86 gives the same bytes, arm64 others. Never use level 3: it differs between x86s."""

    def compress(block: Buffer) -> Buffer:
        return igzip_lib.compress(block, level, igzip_lib.COMP_GZIP)  # pyright: ignore[reportUnknownMemberType]

    return Method("isal", f"ISA-L {level}", compress)


def zlibng(level: int, window: int = 15) -> Method:
    """Level 1 to 9. It looks for repeats in the last 2**window bytes. Since 2.2 every machine gives the same bytes."""
    return _zlibng(f"zlib-ng {level} in {1 << (window - 10)} KiB", level, window, zlib_ng.Z_DEFAULT_STRATEGY)


def huffman() -> Method:
    """Codes letters by their frequencies and looks for no repeats.

    Each 16,384 letters have a table of codes. With twice as many letters per table it is slower, and no smaller.
    """
    return _zlibng("zlib-ng huffman", 1, 15, zlib_ng.Z_HUFFMAN_ONLY, memory=8)


def _zlibng(name: str, level: int, window: int, strategy: int, *, memory: int = 9) -> Method:
    def compress(block: Buffer) -> Buffer:
        stream = zlib_ng.compressobj(level, zlib_ng.DEFLATED, GZIP + window, memory, strategy)  # pyright: ignore[reportUnknownMemberType]
        return stream.compress(block) + stream.flush()  # pyright: ignore[reportUnknownMemberType]

    return Method("zlib-ng", name, compress)


_LONG_RUN = re.compile(rb"[^A-Z]{40,}|[^a-z]{40,}")
"""A run of bases in one case (a blank line or a name does not end it). For a shorter run separate codes do not pay."""


def huffman_by_case() -> Method:
    """For soft-masked DNA: each run of one case gets a deflate block with its own Huffman codes.

    So no base needs a bit for its case. Python finds the runs, and only one thread at a time can do this. Therefore a
    large number of cores helps less here.
    """

    def compress(block: Buffer) -> Buffer:
        view = memoryview(block)
        stream = zlib_ng.compressobj(1, zlib_ng.DEFLATED, GZIP + 15, 9, zlib_ng.Z_HUFFMAN_ONLY)  # pyright: ignore[reportUnknownMemberType]
        parts: list[bytes] = []
        begin = 0
        for run in _LONG_RUN.finditer(view):
            parts.append(stream.compress(view[begin : run.start()]))  # pyright: ignore[reportUnknownMemberType]
            parts.append(stream.flush(zlib_ng.Z_BLOCK))
            begin = run.start()
        parts.append(stream.compress(view[begin:]))  # pyright: ignore[reportUnknownMemberType]
        parts.append(stream.flush())
        return b"".join(parts)

    return Method("zlib-ng", "zlib-ng huffman by case", compress)


MAX_LEVEL = 12
"""libdeflate's highest level."""


class Libdeflate:
    """libdeflate at one level for everything: 0 (stored), 1 (fast) to 12 (small)."""

    def __init__(self, level: int = 6) -> None:
        if count_of(level, "level") > MAX_LEVEL:
            raise BadArgumentError(f"level is {level}, and {MAX_LEVEL} is the highest")
        self._method = libdeflate(level)
        self.record = CodecRecord("libdeflate", level, "deflate", version("deflate"), platform.machine())

    def compress(self, block: Buffer, spans: Spans | None = None) -> Buffer:  # noqa: ARG002 - all is packed alike
        return self._method.compress(block)


class Compression(StrEnum):
    """How much time a smaller archive may cost."""

    FAST = "fast"
    BALANCED = "balanced"
    SMALL = "small"


EDITION = 2
"""The edition of the rules below and in `content`. A new edition does not make existing archives out of date.

1: version 0.1.0. 2: only files' content decides the kind of a block, not the headers between them.
"""

_RULES: dict[Compression, dict[Content, Method]] = {
    Compression.FAST: dict.fromkeys(Content, isal(1)) | {Content.TEXT: zlibng(3), Content.MIXED: libdeflate(1)},
    Compression.BALANCED: {
        Content.BASES: huffman(),
        Content.MASKED: zlibng(5, window=13),  # in DNA a far repeat saves nothing, and takes time to find
        Content.TEXT: zlibng(5),
        Content.MIXED: libdeflate(5),
        Content.DENSE: libdeflate(1),  # not ISA-L, whose bytes differ between kinds of machine
        Content.PACKED: libdeflate(0),
    },
    Compression.SMALL: {
        Content.BASES: libdeflate(5),
        Content.MASKED: huffman_by_case(),
        Content.TEXT: libdeflate(7),
        Content.MIXED: libdeflate(7),
        Content.DENSE: libdeflate(7),
        Content.PACKED: libdeflate(0),
    },
}


class ContentAware:
    """Looks at each block and packs it with the method that is best for its content."""

    def __init__(self, compression: Compression = Compression.BALANCED) -> None:
        if compression not in tuple(Compression):
            raise BadArgumentError(f"compression is {compression!r}, and must be {', '.join(Compression)}")
        compression = Compression(compression)
        rules = _RULES[compression]
        self._rules = rules
        self._content = glance if compression is Compression.FAST else content_of
        methods = list(dict.fromkeys(rules.values()))
        packages = dict.fromkeys(method.package for method in methods)
        self.record = CodecRecord(
            name=compression,
            level=EDITION,
            library=", ".join(method.name for method in methods),
            version=", ".join(f"{package} {version(package)}" for package in packages),
            machine=platform.machine(),
        )

    def compress(self, block: Buffer, spans: Spans | None = None) -> Buffer:
        return self._rules[self._content(memoryview(block), spans)].compress(block)


_HUFFMAN_ONLY = b"\4\3"
"""How zlib-ng's header ends when it looked for no repeats: the bytes for "fastest" and "Unix"."""


def decompress(member: Buffer, limit: int) -> Buffer | None:
    """The content of one gzip member, after its checksum was compared; None when the member is damaged.

    `limit`: the most bytes that it may hold. A member that claims more is damaged, and gets no memory.
    """
    view = memoryview(member)
    size = int.from_bytes(view[-4:], "little")
    if len(view) < 18 or size > limit:
        return None
    try:
        if bytes(view[8:10]) == _HUFFMAN_ONLY:
            return _igunzip(member, limit)
        return deflate.gzip_decompress(member, size)  # pyright: ignore[reportUnknownMemberType]
    except (deflate.DeflateError, igzip_lib.IsalError):  # pyright: ignore[reportGeneralTypeIssues] (a stub)
        return None


def _igunzip(member: Buffer, limit: int) -> Buffer | None:
    """ISA-L reads single letters twice as fast as libdeflate. With repeats libdeflate is faster."""
    stream = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
    content = stream.decompress(member, limit)  # pyright: ignore[reportUnknownMemberType]
    return content if stream.eof and not stream.unused_data else None
