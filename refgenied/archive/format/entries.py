"""The list of an archive's members. A short list is in the manifest, a long one in a file beside it."""

import base64
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Self

import msgspec
from msgspec import Meta

from refgenied.archive.format.blocks import Passing
from refgenied.archive.format.codec import Libdeflate
from refgenied.files.durable import NEW_FILE_FLAGS, write_all, writing
from refgenied.files.regular import opener, unreadable
from refgenied.genomes.member import Kind
from refgenied.model import Access, DamagedArchiveError

MAX_INLINE_ENTRIES = 1000
"""A longer list goes to the file beside the manifest, so no manifest needs much memory."""

Whole = Annotated[int, Meta(ge=0, le=1 << 62)]
"""A number of bytes or of things. A file may hold any number, but the code that uses it must not meet a number below 0
or one that is too large for a system call."""

_Base64 = Annotated[str, Meta(pattern=r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]

_ENCODER = msgspec.json.Encoder()

_LIST_CODEC = Libdeflate()

_MAX_LINE_BYTES = 1 << 20
"""Many times more than the longest path needs. The file may be hostile and unpack to lines of any length."""
_FLUSH_BYTES = 1 << 18
"""Each gzip member of the file with the list holds at least this many bytes of JSON lines."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    r"""One member of an archive.

    JSON has no bytes: a name that is not UTF-8 is given exactly in `path_b64` (base64), and `path` shows it
    to people with `\xNN` in place of the odd bytes. The same for `target`.
    """

    path: str
    """Relative to the asset's folder; "" is that folder itself."""
    type: Kind
    mode: Annotated[str, Meta(pattern=r"^[0-7]{4}$")]
    """Permission bits in octal: "0644"."""
    mtime: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
    """Whole seconds, as in the archive."""
    size: Whole = 0
    """Bytes of a file; 0 for other kinds."""
    md5: str = ""
    """The md5 of a file's content."""
    target: str = ""
    """Where a link points, relative to its own folder."""
    offset: Whole = 0
    """Where a file's content begins in the tar stream. A reader of one file needs it."""
    foreign: bool = False
    """In the asset this is a link to another part of the genome folder; the archive holds the content of its target.
    refgenie's asset digest ignores it."""
    path_b64: _Base64 = ""
    target_b64: _Base64 = ""

    @property
    def raw_path(self) -> bytes:
        return base64.b64decode(self.path_b64) if self.path_b64 else self.path.encode()

    @property
    def raw_target(self) -> bytes:
        return base64.b64decode(self.target_b64) if self.target_b64 else self.target.encode()

    @property
    def permissions(self) -> int:
        return int(self.mode, 8)


def entry_of(passing: Passing) -> Entry:
    """The entry of a member whose content was hashed completely."""
    member = passing.member
    is_file = member.kind is Kind.FILE
    return new_entry(
        member.path,
        member.kind,
        mode=member.mode,
        mtime=member.mtime_ns // 10**9,
        size=member.size,
        md5=passing.md5.hexdigest() if is_file else "",
        target=member.target,
        offset=passing.offset if is_file else 0,
        foreign=member.foreign,
    )


def new_entry(  # noqa: PLR0913 - one for each field
    raw_path: bytes,
    kind: Kind,
    *,
    mode: int,
    mtime: int,
    size: int,
    target: bytes,
    offset: int,
    md5: str = "",
    foreign: bool = False,
) -> Entry:
    """An entry from raw names; `Entry` explains the fields."""
    path, path_b64 = _text(raw_path)
    target_text, target_b64 = _text(target) if target else ("", "")
    # Arguments by position are faster, and there may be millions of entries.
    return Entry(path, kind, f"{mode:04o}", mtime, size, md5, target_text, offset, foreign, path_b64, target_b64)


def access_to_all(entries: Iterable[Entry]) -> Access:
    """Who may read all these members, as their permission bits say; a link has none of its own."""
    access = Access.EVERYONE
    for entry in entries:
        if entry.type is not Kind.LINK:
            access = access.narrowed(Access.of(entry.permissions, folder=entry.type is Kind.FOLDER))
    return access


def _text(raw: bytes) -> tuple[str, str]:
    try:
        return raw.decode(), ""
    except UnicodeDecodeError:
        return raw.decode(errors="backslashreplace"), base64.b64encode(raw).decode()


class Sidecar(msgspec.Struct, frozen=True):
    """The file beside the manifest with the list: gzipped JSON, one entry a line."""

    name: Annotated[str, Meta(pattern=r"^[^/\x00]+$")]
    entries: Whole
    size: Whole
    md5: str


class Totals(msgspec.Struct, frozen=True):
    files: Whole
    folders: Whole
    links: Whole
    source_size: Whole
    """Bytes of the files."""


class EntryList:
    """Takes entries in order, counts them, and keeps them inline, or on disk when they are many. A context manager."""

    def __init__(self, name: str, partial: Path, mode: int = 0o644) -> None:
        self._name = name
        self._partial = partial
        self._mode = mode
        self._counts = dict.fromkeys(Kind, 0)
        self._source_size = 0
        self._size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._lines = bytearray()
        self._file: BinaryIO | None = None
        self._inline: list[Entry] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def totals(self) -> Totals:
        """The totals of the entries that were added so far."""
        counts = self._counts
        return Totals(counts[Kind.FILE], counts[Kind.FOLDER], counts[Kind.LINK], self._source_size)

    def add(self, entries: list[Entry]) -> None:
        """WriteError or NoSpaceError: the disk does not take the list."""
        for entry in entries:
            self._counts[entry.type] += 1
            self._source_size += entry.size
        if self._file is None:
            self._inline += entries
            if len(self._inline) > MAX_INLINE_ENTRIES:
                self._move_to_disk()
        else:
            self._write(entries)

    def finish(self) -> tuple[tuple[Entry, ...] | None, Sidecar | None]:
        """The list itself, or the description of the file that has it. That file is synced then."""
        if self._file is None:
            return tuple(self._inline), None
        self._flush()
        with writing(self._partial):
            os.fsync(self._file.fileno())
            self._file.close()
        return None, Sidecar(self._name, sum(self._counts.values()), self._size, self._md5.hexdigest())

    def _move_to_disk(self) -> None:
        with writing(self._partial):
            self._file = open(os.open(self._partial, NEW_FILE_FLAGS, self._mode), "wb", buffering=0)  # noqa: SIM115 - closed by exit
        self._write(self._inline)
        self._inline.clear()

    def _write(self, entries: list[Entry]) -> None:
        self._lines += _ENCODER.encode_lines(entries)
        if len(self._lines) >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = _LIST_CODEC.compress(self._lines)
        self._lines.clear()
        self._md5.update(data)
        self._size += len(data)
        if self._file is not None:
            with writing(self._partial):
                write_all(self._file.fileno(), data)


def sidecar_entries(path: Path, sidecar: Sidecar) -> Iterator[Entry]:
    """The entries of a long list, in order, streaming.

    DamagedArchiveError, at the latest after the last entry, when the file is not the one that the manifest describes.
    """
    decoder = msgspec.json.Decoder(Entry)
    count = 0
    try:
        with open(path, "rb", buffering=0, opener=opener) as raw:
            hashed = _Hashed(raw)
            with gzip.GzipFile(fileobj=io.BufferedReader(hashed)) as lines:
                while line := lines.readline(_MAX_LINE_BYTES):
                    count += 1
                    yield decoder.decode(line)
    except FileNotFoundError as error:
        raise lost_list(path) from error
    except (EOFError, gzip.BadGzipFile, zlib.error, msgspec.MsgspecError) as error:
        raise DamagedArchiveError(f"{path} is damaged ({error})") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if (count, hashed.md5.hexdigest()) != (sidecar.entries, sidecar.md5):
        raise DamagedArchiveError(f"{path} is not the list of files that its manifest describes")


def lost_list(path: Path) -> DamagedArchiveError:
    return DamagedArchiveError(f"{path} is missing: it has the list of the archive's files")


class _Hashed(io.RawIOBase):
    """A file that takes the md5 of everything that is read from it."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__()
        self._raw = raw
        self.md5 = hashlib.md5(usedforsecurity=False)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        count = self._raw.readinto(buffer) or 0
        self.md5.update(buffer[:count])
        return count
