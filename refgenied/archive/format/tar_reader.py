"""A strict reader of tar streams in the forms of ustar, GNU and PAX that refgenie's tools and ours write.

Python's `tarfile` is not used: it trusts the sizes in headers (it reads a long name of 10 GB into memory), ignores
damage, and its extraction filters were bypassed more than once. This reader raises an error for everything that it does
not understand.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refgenied.archive.format.tar import HEADER
from refgenied.genomes.enclosure import shown
from refgenied.genomes.member import Kind
from refgenied.model import DamagedArchiveError, UnsafeTreeError

_ZEROS = bytes(HEADER)
_MAX_EXTRA_BYTES = 1 << 20
"""Bytes that the long names and PAX headers before one member may have. More bytes are an attack."""
_MAX_LENGTH_DIGITS = 8
"""Digits of the length of a PAX record."""
_KINDS = {b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"2": Kind.LINK, b"5": Kind.FOLDER}
_ODD = {b"1": "hard link", b"3": "device", b"4": "device", b"6": "FIFO", b"S": "sparse file (GNU)"}
_MAX_NUMBER = 1 << 62
_MAX_BYTES_BEHIND = 64 << 20
"""Zeros that may follow the end. Even the largest records of tape drives are far smaller."""


class TarMember(NamedTuple):
    """One member as its header describes it. Its names are not judged yet."""

    name: bytes
    """As the header has it, without `/` at the end and `./` at the start."""
    kind: Kind
    mode: int
    """Permission bits, the sticky and set-id ones included."""
    size: int
    """Bytes of content; 0 if it is not a file."""
    mtime: int
    target: bytes
    offset: int
    """Where the content begins in the stream."""


class TarReader:
    """Iterate once. After each member `content` gives its content; content that the caller does not read is skipped.

    DamagedArchiveError: this is not a tar stream. UnsafeTreeError names a member that no asset can have (hard link,
    device, FIFO, sparse file).
    """

    def __init__(self, pieces: Iterator[memoryview], path: Path) -> None:
        self._pieces = pieces
        self._path = path
        self._piece = memoryview(b"")
        self._left = 0
        self._padding = 0
        self._extra = 0
        """Bytes of the headers that only describe the next member."""
        self.at = 0
        """Bytes of the stream that were read."""

    def __iter__(self) -> Iterator[TarMember]:
        extra: dict[bytes, bytes] = {}
        while True:
            self._pass_over(self._left + self._padding)
            self._left = self._padding = 0
            head = self._take(HEADER)
            if head == _ZEROS:
                break
            self._check(head)
            flag, size = head[156:157], self._number(head[124:136], "size")
            if flag in (b"L", b"K", b"x", b"g"):
                self._extend(extra, flag, size)
                continue
            yield self._member(head, flag, size, extra)
            extra, self._extra = {}, 0
        self._end()

    def content(self) -> Iterator[memoryview]:
        """The rest of the content of the last member that was given."""
        for piece in self._next(self._left):
            self._left -= len(piece)
            yield piece

    def _member(self, head: bytes, flag: bytes, size: int, extra: dict[bytes, bytes]) -> TarMember:
        name = extra.get(b"path") or _text(head[:100])
        if b"path" not in extra and head[257:263] == b"ustar\0":
            prefix = _text(head[345:500])
            name = prefix + b"/" + name if prefix else name
        kind = _KINDS.get(flag)
        if kind is None or any(key.startswith(b"GNU.sparse") for key in extra):
            word = _ODD.get(flag, "sparse file" if kind else f"member of the kind {flag!r}")
            raise UnsafeTreeError(f"{self._path}: {shown(name)} is a {word}: no asset has such a member")
        if kind is Kind.FILE and name.endswith(b"/"):
            kind = Kind.FOLDER
        if b"size" in extra:
            size = self._decimal(extra[b"size"], "size")
        mtime = self._number(head[136:148], "mtime")
        if b"mtime" in extra:
            mtime = self._decimal(extra[b"mtime"].partition(b".")[0], "mtime")
        target = (extra.get(b"linkpath") or _text(head[157:257])) if kind is Kind.LINK else b""
        if kind is Kind.FILE:
            self._left, self._padding = size, -size % HEADER
        while name.startswith(b"./"):
            name = name[2:].lstrip(b"/")
        mode = self._number(head[100:108], "mode") & 0o7777
        return TarMember(name.rstrip(b"/") or name[:1], kind, mode, self._left, mtime, target, self.at)

    def _extend(self, extra: dict[bytes, bytes], flag: bytes, size: int) -> None:
        """Read a member that only describes the next one."""
        if size > _MAX_EXTRA_BYTES:
            raise self._damaged(f"a header of {size} bytes")
        self._extra += HEADER + size
        if self._extra > _MAX_EXTRA_BYTES:
            raise self._damaged(f"headers of {self._extra} bytes in front of one member")
        data = self._take(size)
        self._pass_over(-size % HEADER)
        if flag in (b"L", b"K"):
            extra[b"path" if flag == b"L" else b"linkpath"] = data.partition(b"\0")[0]
            return
        found = self._records(data)
        if flag == b"x":
            extra.update(found)
        elif found.keys() & {b"path", b"linkpath", b"size"}:
            raise self._damaged("a global header that names files")

    def _records(self, data: bytes) -> dict[bytes, bytes]:
        """The records of a PAX header: each is `LENGTH KEY=VALUE` and a newline."""
        found: dict[bytes, bytes] = {}
        at = 0
        while at < len(data):
            length, blank, _ = data[at : at + _MAX_LENGTH_DIGITS].partition(b" ")
            end = at + self._decimal(length, "PAX record")
            record = data[at + len(length) + 1 : end]
            key, equals, value = record[:-1].partition(b"=")
            if not blank or not equals or record[-1:] != b"\n" or b"\0" in key + value:
                raise self._damaged("a PAX header that is garbled")
            found[key] = value
            at = end
        return found

    def _check(self, head: bytes) -> None:
        stored = self._number(head[148:156], "checksum")
        if sum(head[:148]) + 8 * 32 + sum(head[156:]) != stored:
            raise self._damaged("a header whose checksum is wrong")

    def _number(self, field: bytes, what: str) -> int:
        if field[0] in (0x80, 0xFF):
            value = int.from_bytes(field, "big", signed=field[0] == 0xFF)
            value = value & ((1 << 8 * (len(field) - 1)) - 1) if field[0] == 0x80 else value
        else:
            text = field.strip(b" \0")
            if text.strip(b"01234567"):
                raise self._damaged(f"a header whose {what} is garbled")
            value = int(text, 8) if text else 0
        if abs(value) > _MAX_NUMBER or (value < 0 and what != "mtime"):
            raise self._damaged(f"a header whose {what} is garbled")
        return value

    def _decimal(self, text: bytes, what: str) -> int:
        digits = text.removeprefix(b"-") if what == "mtime" else text
        if not digits.isdigit() or len(digits) > 18:
            raise self._damaged(f"a PAX header whose {what} is garbled")
        return int(text)

    def _end(self) -> None:
        """Check that only zeros follow the end, because some programs read on after it."""
        end = self.at
        while self._piece or (self._fetch(last=True)):
            if self._piece.tobytes().strip(b"\0"):
                raise self._damaged("something behind its end")
            if self.at - end > _MAX_BYTES_BEHIND:
                raise self._damaged("zeros without end behind its end")
            self.at += len(self._piece)
            self._piece = memoryview(b"")

    def _take(self, count: int) -> bytes:
        return b"".join(self._next(count))

    def _pass_over(self, count: int) -> None:
        for _ in self._next(count):
            pass

    def _next(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes of the stream, in pieces."""
        while count:
            if not self._piece:
                self._fetch()
            piece, self._piece = self._piece[:count], self._piece[count:]
            count -= len(piece)
            self.at += len(piece)
            yield piece

    def _fetch(self, *, last: bool = False) -> bool:
        piece = next(self._pieces, None)
        if piece is None and not last:
            raise self._damaged("no end: it was cut")
        self._piece = piece or memoryview(b"")
        return piece is not None

    def _damaged(self, what: str) -> DamagedArchiveError:
        return DamagedArchiveError(f"{self._path} is not a sound tar: at byte {self.at} it has {what}")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
