"""The tar stream of an archive, taken out of its gzip members: any part of it, or all of it in order.

With a block table only the blocks that are needed are read, and several threads decompress ahead of the reader. Without
one (another program made the archive) the stream is read from its beginning.
"""

import os
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Self

from refgenied.archive.format.codec import Buffer, decompress
from refgenied.archive.format.manifest import BlockTable, Manifest, is_seekable
from refgenied.files.regular import is_shortage, open_regular, unreadable
from refgenied.model import ArchiveNotFoundError, DamagedArchiveError, ShortageError

ALL = 1 << 62
"""A length that means: to the end of the stream."""
_READ_BYTES = 1 << 18
"""Without a block table: compressed bytes in each read."""
_PIECE_BYTES = 1 << 20
"""Without a block table: bytes of the stream in each piece."""

Observe = Callable[[bytes], None]


class Source(ABC):
    """The tar stream of one open archive, for one reader. A context manager.

    ArchiveNotFoundError, UnreadableError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = open_archive(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @abstractmethod
    def pieces(self, begin: int = 0, length: int = ALL) -> Generator[memoryview]:
        """`length` bytes of the stream from `begin` on, in pieces of 1 MiB at most.

        DamagedArchiveError names the file and where it is damaged; UnreadableError. A stream that ends before
        `length` bytes have come ends without an error: the reader knows how many it expects.
        """


def open_source(path: Path, manifest: Manifest | None, *, threads: int = 1, observe: Observe | None = None) -> Source:
    """The stream of the archive at `path`. `manifest`: the archive's manifest, if it has one.

    If there is no block table, `observe` gets the compressed bytes as they are read. Errors as `Source`.
    """
    return BlockSource(path, manifest.blocks, threads) if is_seekable(manifest) else GzipSource(path, observe)


def open_archive(path: Path) -> int:
    """A descriptor of the file. ArchiveNotFoundError, UnreadableError."""
    try:
        return open_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveNotFoundError(f"{path} is missing ({error.strerror})") from error
    except OSError as error:
        raise unreadable(path, error) from error


def read_block(fd: int, path: Path, begin: int, size: int) -> bytes:
    """`size` bytes of an open archive from `begin` on; fewer at the archive's end.

    DamagedArchiveError: the disk has lost these bytes. ShortageError.
    """
    try:
        return os.pread(fd, size, begin)
    except OSError as error:
        message = f"{path} cannot be read at byte {begin}: {error.strerror or error}"
        if is_shortage(error):
            raise ShortageError(message) from error
        raise DamagedArchiveError(message) from error


class BlockSource(Source):
    """An archive whose block table is known."""

    def __init__(self, path: Path, table: BlockTable, threads: int) -> None:
        super().__init__(path)
        self._size = table.size
        self._begins = [0, *accumulate(table.compressed)]
        self._threads = threads
        size = os.fstat(self._fd).st_size
        if size != self._begins[-1]:  # another archive has replaced it since the manifest was read
            os.close(self._fd)
            raise DamagedArchiveError(f"{path} has {size} bytes, not {self._begins[-1]}")

    def pieces(self, begin: int = 0, length: int = ALL) -> Generator[memoryview]:
        first, last = begin // self._size, (begin + length - 1) // self._size
        skip = begin - first * self._size
        for block in self._contents(first, min(last, len(self._begins) - 2)):
            piece = memoryview(block)[skip : skip + length]
            skip = 0
            length -= len(piece)
            if piece:
                yield piece

    def _contents(self, first: int, last: int) -> Iterator[Buffer]:
        """Whole blocks in order; other threads decompress ahead of the reader."""
        if self._threads == 1 or first == last:
            yield from map(self._content, range(first, last + 1))
            return
        pool = ThreadPoolExecutor(self._threads, "archive-read")
        ahead: deque[Future[Buffer]] = deque()
        try:
            for number in range(first, last + 1):
                ahead.append(pool.submit(self._content, number))
                if len(ahead) > self._threads + 2:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _content(self, number: int) -> Buffer:
        begin, end = self._begins[number], self._begins[number + 1]
        block = decompress(read_block(self._fd, self._path, begin, end - begin), self._size)
        if block is None or (len(block) != self._size and number < len(self._begins) - 2):
            raise DamagedArchiveError(f"{self._path}: block {number + 1} of {len(self._begins) - 1} is damaged")
        return block


class GzipSource(Source):
    """An archive without a block table. Parts in order are read once; to go back, it reads again from the start."""

    def __init__(self, path: Path, observe: Observe | None = None) -> None:
        super().__init__(path)
        self._observe = observe
        self._stream: Iterator[memoryview] = iter(())
        self._at = -1
        """Bytes of the stream that were given so far; -1: the reading has not begun."""
        self._rest = memoryview(b"")

    def pieces(self, begin: int = 0, length: int = ALL) -> Generator[memoryview]:
        if self._at < 0 or begin < self._at:
            self._stream, self._at, self._rest = self._inflated(), 0, memoryview(b"")
        while self._at < begin and self._take(begin - self._at):
            pass
        while length and (piece := self._take(length)):
            length -= len(piece)
            yield piece

    def _take(self, most: int) -> memoryview:
        """The next bytes of the stream, at most `most`; no bytes at its end."""
        if not self._rest:
            self._rest = next(self._stream, memoryview(b""))
        piece, self._rest = self._rest[:most], self._rest[most:]
        self._at += len(piece)
        return piece

    def _inflated(self) -> Iterator[memoryview]:
        at = 0
        member = zlib.decompressobj(31)
        begun = False
        while chunk := self._read(at):
            at += len(chunk)
            while chunk:
                if not begun and not chunk.strip(b"\0"):  # zeros after the last member are padding (gzip -d)
                    break
                begun = True
                try:
                    data = member.decompress(chunk, _PIECE_BYTES)
                except zlib.error as error:
                    raise DamagedArchiveError(f"{self._path} is damaged before byte {at}: {error}") from error
                if data:
                    yield memoryview(data)
                if member.eof:
                    chunk, member, begun = member.unused_data, zlib.decompressobj(31), False
                else:
                    chunk = member.unconsumed_tail
        if begun:
            data = member.flush()
            if data:
                yield memoryview(data)
        if (begun and not member.eof) or not at:
            raise DamagedArchiveError(f"{self._path} ends too early: it was cut at byte {at}")

    def _read(self, at: int) -> bytes:
        try:
            data = os.pread(self._fd, _READ_BYTES, at)
        except OSError as error:
            raise unreadable(f"{self._path}, from byte {at},", error) from error
        if self._observe is not None:
            self._observe(data)
        return data
