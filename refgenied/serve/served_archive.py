"""One archive that an edition names: which file it is, and how it is opened when a client asks for it.

No descriptor is kept. The file is found by its flat name or, when another archive has that by now, by the hidden name
with its digest that the daemon keeps for a while (`catalog/kept.py`). It is given out only if it proves to be the very
file that was there when the edition was read: the same inode, size and mtime.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from refgenied.archive import Place, read_manifest
from refgenied.archive.progress import Check, no_check
from refgenied.archive_folder.names import ServedNames
from refgenied.files.regular import SHORTAGE_ERRNOS, open_regular, unreadable
from refgenied.model import AssetKey, RefgeniedError, ShortageError

log = structlog.get_logger("serve")

_CHUNK = 1 << 20


class Identity(NamedTuple):
    """Of a file; another content is another identity."""

    inode: int
    mtime_ns: int
    size: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        return cls(found.st_ino, found.st_mtime_ns, found.st_size)

    @classmethod
    def at(cls, path: Path) -> Identity | None:
        """None when there is no such file, or it cannot be known."""
        try:
            return cls.of(path.stat())
        except OSError:
            return None


class ReplacedError(Exception):
    """Under its names is another file, or none, than the one that clients were told of."""


class Opened:
    """An archive that is being given out; closed at the latest when nobody refers to it."""

    def __init__(self, held: Held, fd: int) -> None:
        self.held = held
        self._fd = fd
        self.stat = os.fstat(fd)

    @property
    def path(self) -> str:
        """Leads to this very file, also when it has no name any more."""
        return f"/proc/self/fd/{self._fd}"

    def read(self, size: int, offset: int) -> bytes:
        """Fewer bytes only at the end. OSError."""
        return os.pread(self._fd, size, offset)

    @property
    def untouched(self) -> bool:
        """Whether nobody has written to the file since it was opened."""
        return Identity.of(os.fstat(self._fd)) == Identity.of(self.stat)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Held:
    """One archive; `identity` is that of its file, which was under one of its names a moment ago."""

    def __init__(self, folder: Path, key: AssetKey, digest: str, identity: Identity) -> None:
        self._folder = folder
        self.key = key
        self.digest = digest
        self._identity = identity
        self._refused: Identity | None = None
        """A file under the flat name that has proved to be another archive."""
        self.in_doubt = False
        """Somebody has asked for it, and it was not to be found: `prove_again` may help."""

    @property
    def size(self) -> int:
        return self._identity.size

    @property
    def names(self) -> ServedNames:
        return ServedNames(Place(self._folder, self.key))

    def open(self) -> Opened:
        """ReplacedError, ShortageError (nothing is wrong with the archive)."""
        names = self.names
        for fd in _candidates(names, self.digest):
            opened = Opened(self, fd)
            if Identity.of(opened.stat) == self._identity:
                return opened
        return self._made_anew(names)

    def _made_anew(self, names: ServedNames) -> Opened:
        """The same bytes may have been archived again: the daemon's manifest says so."""
        for fd in _opened(names.archive):
            opened = Opened(self, fd)
            try:
                manifest = read_manifest(names.place.manifest)
                nested = os.stat(names.place.archive)
            except ShortageError:
                raise
            except (OSError, RefgeniedError):
                continue
            # In this order: a manifest gets its name before the flat name leads to its archive.
            same = os.path.samestat(nested, opened.stat) and manifest.size == opened.stat.st_size
            if same and manifest.digest == self.digest:
                self._identity = Identity.of(opened.stat)
                return opened
        self.in_doubt = True
        raise ReplacedError(f"{names.archive} is not the archive that was told of")

    def prove_again(self, check: Check = no_check) -> None:
        """Another program may have put the same bytes there (a backup that was put back): read them once. Blocking;
        `check` is called once per MiB, and what it raises ends it.
        """
        self.in_doubt = False
        try:
            for fd in _opened(self.names.archive):
                opened = Opened(self, fd)
                found = Identity.of(opened.stat)
                if found == self._refused:
                    return
                if _md5(opened, check) == self.digest and opened.untouched:
                    self._identity = found
                    log.info("serve.archive_proved_again", asset=self.key.registry_path)
                else:
                    self._refused = found
                    log.warning("serve.archive_is_another", asset=self.key.registry_path, path=str(self.names.archive))
        except (OSError, ShortageError) as error:
            log.warning("serve.archive_unreadable", asset=self.key.registry_path, error=str(error))


def kept_for(folder: Path, key: AssetKey, digest: str) -> Held | None:
    """The archive under the hidden name with this digest; its bytes are read to be sure. None when it is not there.

    OSError, ShortageError.
    """
    hidden = ServedNames(Place(folder, key)).kept(digest)
    for fd in _opened(hidden) if hidden else ():
        held = Held(folder, key, digest, Identity.of(os.fstat(fd)))
        if _md5(Opened(held, fd)) == digest:
            return held
    return None


def _candidates(names: ServedNames, digest: str) -> Iterator[int]:
    hidden = names.kept(digest)
    for path in (names.archive, hidden):
        if path is not None:
            yield from _opened(path)


def _opened(path: Path) -> Iterator[int]:
    """A descriptor of the file, if there is one that can be read. ShortageError."""
    try:
        yield open_regular(path)
    except OSError as error:
        if error.errno in SHORTAGE_ERRNOS:
            raise unreadable(path, error) from error


def _md5(opened: Opened, check: Check = no_check) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    offset = 0
    while chunk := opened.read(_CHUNK, offset):
        check()
        md5.update(chunk)
        offset += len(chunk)
    return md5.hexdigest()
