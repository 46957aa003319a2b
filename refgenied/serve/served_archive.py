"""One archive in the config: which file it is, and how it is opened when a client asks for it.

No descriptor is kept open. The file is found by its flat name. When another archive has that name already, the file is
found by the hidden name with its digest, which the daemon keeps for a while (`catalog/kept.py`). A file is sent only if
its device, inode, size and mtime are the same as when the config was read, and if its manifest does not say that it is
another archive. The manifest is read when a client asks for the archive for the first time, not for each archive of the
folder: only archives that are about as new as the config are asked when the config is read (`edition_reader`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from refgenied.archive.format.manifest import Manifest, read_manifest
from refgenied.archive.format.members import md5_of
from refgenied.archive.place import Place
from refgenied.archive.run import Check, no_check
from refgenied.archive_folder.names import ServedNames
from refgenied.files.regular import identity_of, is_shortage, open_regular, unreadable
from refgenied.model import AssetKey, RefgeniedError, ShortageError

log = structlog.get_logger("serve")

_PROOF_READ_BYTES = 1 << 20
_NONE: frozenset[tuple[int, ...]] = frozenset()


class ReplacedError(Exception):
    """The file whose digest clients were told has lost all its names."""


class OpenedArchive:
    """An archive that is being sent. It is closed at the latest when no object refers to it."""

    def __init__(self, archive: ServedArchive, fd: int) -> None:
        self.archive = archive
        self._fd = fd
        self.stat = os.fstat(fd)
        self.identity = identity_of(self.stat)

    @property
    def path(self) -> str:
        """A path that leads to this file, even when the file has lost its names."""
        return f"/proc/self/fd/{self._fd}"

    def read(self, size: int, offset: int) -> bytes:
        """Read bytes from `offset` on; fewer only at the file's end. OSError."""
        return os.pread(self._fd, size, offset)

    def md5(self, check: Check) -> str:
        """The md5. This reads the whole file, and calls `check` once per MiB."""
        digest, _ = md5_of(self._content(), check)
        return digest

    def _content(self) -> Iterator[bytes]:
        offset = 0
        while data := self.read(_PROOF_READ_BYTES, offset):  # a network file system may give fewer bytes than asked
            offset += len(data)
            yield data

    @property
    def untouched(self) -> bool:
        """Whether nobody has written to the file since it was opened."""
        return identity_of(os.fstat(self._fd)) == self.identity

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class ServedFolder:
    """The archive folder, and those of its archives that a client has asked for and that were not found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.in_doubt: set[ServedArchive] = set()
        """`prove_again` may find them."""


class ServedArchive:
    """`identity`: of the archive's file, which had one of the archive's names a moment ago."""

    __slots__ = ("_believed", "_folder", "_identity", "_refused", "digest", "key")

    def __init__(
        self, folder: ServedFolder, key: AssetKey, digest: str, identity: tuple[int, ...], *, believed: bool = False
    ) -> None:
        self._folder = folder
        self.key = key
        self.digest = digest
        self._identity = identity
        self._believed = believed
        """Whether it is known what the manifest says about this file: not that it is another archive."""
        self._refused: frozenset[tuple[int, ...]] = _NONE
        """The identities of files under the archive's names that have proved to be other archives."""

    @classmethod
    def kept(cls, folder: ServedFolder, key: AssetKey, digest: str) -> ServedArchive | None:
        """The archive under the hidden name with this digest; its md5 is checked. None: there is no such archive.

        OSError, ShortageError.
        """
        archive = cls(folder, key, digest, (), believed=True)
        opened = archive._at(archive.names.kept(digest))
        if opened is None or opened.md5(no_check) != digest:
            return None
        archive._identity = opened.identity
        return archive

    @property
    def names(self) -> ServedNames:
        return ServedNames(Place(self._folder.path, self.key))

    def open(self) -> OpenedArchive:
        """Open the archive. ReplacedError. ShortageError: the archive itself has no fault."""
        names = self.names
        for path in (names.archive, names.kept(self.digest)):
            opened = self._at(path)
            if opened is not None and opened.identity == self._identity and self._is_believed(opened, names):
                return opened
        opened = self._at(names.archive)
        if opened is None or not self._is_made_anew(opened, names):
            self._folder.in_doubt.add(self)
            raise ReplacedError(f"{names.archive} is not the archive that the config names")
        self._identity = opened.identity
        return opened

    def _is_believed(self, opened: OpenedArchive, names: ServedNames) -> bool:
        if not self._believed:
            self._believed = not is_another(names, opened.stat, self.digest)
        return self._believed

    def _is_made_anew(self, opened: OpenedArchive, names: ServedNames) -> bool:
        """Whether the daemon's manifest says that the same bytes were archived again."""
        manifest = manifest_of(names, opened.stat)
        return manifest is not None and (manifest.size, manifest.digest) == (opened.stat.st_size, self.digest)

    def prove_again(self, check: Check = no_check) -> None:
        """Read the file under the flat name once. Another program may have put the same bytes there (from a backup).

        If it is another archive, the one with the hidden name is read. Blocking. `check` is called once per MiB, and
        an error from it ends the reading.
        """
        names = self.names
        for path in (names.archive, names.kept(self.digest)):
            try:
                opened = self._at(path)
                if opened is None or opened.identity in self._refused:
                    continue
                if opened.md5(check) == self.digest and opened.untouched:
                    self._identity, self._believed = opened.identity, True
                    log.info("serve.archive_proved_again", asset=self.key.registry_path)
                    return
                self._refused |= {opened.identity}
                log.warning("serve.archive_is_another", asset=self.key.registry_path, path=str(path))
            except (OSError, ShortageError) as error:
                log.warning("serve.archive_unreadable", asset=self.key.registry_path, error=str(error))

    def _at(self, path: Path | None) -> OpenedArchive | None:
        """Open the file with this name; None when there is none that can be read. ShortageError."""
        if path is None:
            return None
        try:
            return OpenedArchive(self, open_regular(path))
        except OSError as error:
            if is_shortage(error):
                raise unreadable(path, error) from error
            return None


def is_another(names: ServedNames, found: os.stat_result, digest: str) -> bool:
    """Whether the daemon's manifest says that this file under the flat name has another digest. ShortageError."""
    manifest = manifest_of(names, found)
    return manifest is not None and manifest.digest != digest


def manifest_of(names: ServedNames, found: os.stat_result) -> Manifest | None:
    """The manifest of a file that was opened, or looked at, before. ShortageError.

    None: there is none, and only the config has facts about the file. Another program made it, or it was replaced and
    has lost its nested name.
    """
    try:
        # A new archive gets its nested name before its manifest does, and is shown after that. So a manifest that is
        # read now and belongs to a newer archive is not taken for the manifest of this file.
        manifest = read_manifest(names.place.manifest)
        nested = os.stat(names.place.archive)
    except ShortageError:
        raise
    except (OSError, RefgeniedError):
        return None
    return manifest if os.path.samestat(nested, found) else None
