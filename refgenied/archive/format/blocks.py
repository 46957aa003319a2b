"""Cuts the tar stream into blocks of 1 MiB while it is made.

Where a block ends depends on the stream alone. Each block knows which of its parts belong to which file. So one read
serves both the md5 of each file and the compression.
"""

import hashlib
import mmap
import os
from collections.abc import Callable
from functools import partial

from refgenied.genomes.member import Member

BLOCK_SIZE = 1 << 20
"""Bytes of the tar stream in each block but the last."""

SMALL_FILE_BYTES = 1 << 16
"""A file of at most this many bytes is hashed by the thread that reads it. To pass it to another takes longer."""

_ZEROS = bytes(512)
_md5 = partial(hashlib.md5, usedforsecurity=False)
_OF_NOTHING = _md5()


class Passing:
    """One member while it goes through the stream: where its content begins, and its md5 so far."""

    __slots__ = ("md5", "member", "offset")

    def __init__(self, member: Member, offset: int) -> None:
        self.member = member
        self.offset = offset
        self.md5 = _OF_NOTHING


class Block:
    """1 MiB of the stream, with notes on the files in it. It can be used again."""

    __slots__ = ("buffer", "ended", "files", "length", "source_bytes", "spans")

    def __init__(self) -> None:
        # The kernel gives memory only for the pages that are used: a small asset needs a few of them.
        self.buffer = memoryview(mmap.mmap(-1, BLOCK_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.clear()

    def clear(self) -> None:
        self.length = 0
        self.source_bytes = 0
        self.files: list[tuple[int, int]] = []
        """(begin, end) of each piece of content, in stream order. Headers and padding lie between them."""
        self.spans: list[tuple[Passing, int, int]] = []
        """(member, begin, end) of each piece of content that is still to be hashed, in stream order."""
        self.ended: list[Passing] = []
        """The members that end here, in stream order."""

    @property
    def content(self) -> memoryview:
        return self.buffer[: self.length]

    def hash(self) -> None:
        """Hash the pieces in `spans`. The blocks must come in order."""
        for passing, begin, end in self.spans:
            passing.md5.update(self.buffer[begin:end])


class BlockWriter:
    """Fills blocks and gives each full one to `push`. Blocks that came back through `recycle` are used again."""

    def __init__(self, push: Callable[[Block], None]) -> None:
        self._push = push
        self._free: list[Block] = []
        self._block = Block()
        self.length = 0
        """Bytes of the stream that were written so far."""

    def recycle(self, block: Block) -> None:
        block.clear()
        self._free.append(block)

    def write(self, data: bytes) -> None:
        """Append headers, padding or the end of the stream: anything but a file's content."""
        begin = 0
        while begin < len(data):
            block = self._open_block()
            count = min(BLOCK_SIZE - block.length, len(data) - begin)
            block.buffer[block.length : block.length + count] = data[begin : begin + count]
            block.length += count
            begin += count
        self.length += len(data)

    def take(self, header: bytes, passing: Passing, fd: int) -> int:
        """Append a whole small file at once, with header and padding, when the block has room for all of it.

        Returns how many bytes of content were read. When they are fewer than the file's size, the caller reads the
        rest and adds the padding. -1: the block has no room, and nothing was done.
        """
        block, size = self._block, passing.member.size
        begin = block.length + len(header)
        end = begin + size
        padded = end + -size % 512
        if padded > BLOCK_SIZE:
            return -1
        buffer = block.buffer
        buffer[block.length : begin] = header
        content = buffer[begin:end]
        count = os.readv(fd, (content,))
        passing.md5 = _md5(content[:count])
        block.source_bytes += count
        block.files.append((begin, begin + count))
        if count < size:
            padded = begin + count
        elif padded > end:
            buffer[end:padded] = _ZEROS[: padded - end]
        self.length += padded - block.length
        block.length = padded
        return count

    def read(self, passing: Passing, fd: int, limit: int) -> int:
        """Append up to `limit` bytes (> 0) of a file's content with one read. Returns how many; 0 at the file's end."""
        block = self._open_block()
        begin = block.length
        count = os.readv(fd, (block.buffer[begin : begin + limit],))
        block.length += count
        block.source_bytes += count
        block.files.append((begin, begin + count))
        if passing.md5 is _OF_NOTHING:
            passing.md5 = _md5()
        if passing.member.size <= SMALL_FILE_BYTES:
            passing.md5.update(block.buffer[begin : begin + count])
        else:
            block.spans.append((passing, begin, begin + count))
        self.length += count
        return count

    def end(self, passing: Passing) -> None:
        """Note that the member is complete."""
        self._block.ended.append(passing)

    def flush(self) -> None:
        """Push the last block. Nothing may be written after it."""
        if self._block.length:
            self._push(self._block)

    def _open_block(self) -> Block:
        if self._block.length == BLOCK_SIZE:
            self._push_block()
        return self._block

    def _push_block(self) -> None:
        full = self._block
        self._push(full)
        self._block = self._free.pop() if self._free else Block()
