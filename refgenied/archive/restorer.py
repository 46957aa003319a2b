"""From an archive back to an asset's folder, by any caller with its own rights: checked, proved, then made visible."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from refgenied.archive import unfinished
from refgenied.archive.extract import Extraction, appearing, require_free
from refgenied.archive.format.arguments import (
    archive_of,
    count_of,
    members_of,
    path_of,
    require_callable,
    require_switch,
    threads_of,
)
from refgenied.archive.format.digests import ContentDigest
from refgenied.archive.format.members import Contents, damaged_at, is_seekable, listed, manifest_beside, same
from refgenied.archive.format.stream import open_source
from refgenied.archive.run import Check, Meter, OnProgress, Phase, no_check, no_progress
from refgenied.archive.vetting import Vetting
from refgenied.genomes.enclosure import shown
from refgenied.genomes.walk import Kind
from refgenied.model import ConflictError, DamagedArchiveError, MemberNotFoundError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from refgenied.archive.format.entries import Entry
    from refgenied.archive.format.manifest import Manifest

MOST_RATIO = 200
"""An archive without a manifest may not unpack to more than so many times its size: genomes pack 3 to 20 times."""
SMALL_ENOUGH = 64 << 20
"""Bytes that it may unpack to in any case."""
_FOREIGN_MODES = 0o755
"""Nobody vouches for them: no right to write for others."""


class Restored(msgspec.Struct, frozen=True):
    folder: Path
    """The asset's folder, as it is now."""
    files: int
    size: int
    """Bytes of those files."""
    proved: bool
    """Every member was compared with the manifest; False: there is none, gzip's checksums are all that was compared."""
    left_out: tuple[str, ...]
    """Links that lead out of the asset and were left out, as asked for."""
    cleared: int = 0
    """Bytes on the disk of what killed restores to the same folder had left, which is gone now."""


def restore(
    archive: str | os.PathLike[str],
    to: str | os.PathLike[str],
    files: Sequence[str] = (),
    *,
    most: int | None = None,
    leave_out_stray: bool = False,
    threads: int = 0,
    on_progress: OnProgress = no_progress,
    check: Check = no_check,
) -> Restored:
    """Restore an archive (a path to a `.tgz`) to `{to}/{asset}`, or to `to` itself when its last name is the asset's.

    `files`: only these members and what is below them, by their paths in the asset; none: all. Every member is
    checked before anything is written, compared with the manifest while it is written, and the folder appears
    under its name when all of it is on the disk. Without a manifest beside the archive `most` bytes may come out
    of it (None: 200 times its size). `leave_out_stray` leaves out links that lead out of the asset instead of
    refusing the archive. `threads` decompress; 0: all cores.

    Nothing is ever overwritten, and on any error (also what `check` raises) nothing is left: ConflictError
    (something is in the way), UnsafeTreeError (a member that must not be extracted, named), DamagedArchiveError,
    ArchiveNotFoundError, MemberNotFoundError, UnreadableError, NoSpaceError, WriteError; BadArgumentError for an
    argument that cannot be meant.
    """
    path, target, wanted = archive_of(archive), path_of(to, "to"), _Wanted(members_of(files, "files"))
    if most is not None:
        count_of(most, "most")
    require_switch(leave_out_stray, "leave_out_stray")
    cores = threads_of(threads)
    require_callable(on_progress, "on_progress")
    require_callable(check, "check")
    restoring = _Restoring(path, manifest_beside(path), cores, on_progress, check)
    return restoring.run(wanted, Path(os.path.abspath(target)), most, leave_out_stray=leave_out_stray)


class _Wanted:
    """Which members are meant."""

    def __init__(self, paths: tuple[bytes, ...]) -> None:
        self._paths = paths
        self._seen: set[bytes] = set()
        self.everything = not paths

    def covers(self, path: bytes) -> bool:
        for wanted in self._paths:
            if path == wanted or path.startswith(wanted + b"/"):
                self._seen.add(wanted)
                return True
        return self.everything

    def is_above(self, path: bytes) -> bool:
        """Whether a folder is needed to hold what is meant."""
        return any(not path or wanted.startswith(path + b"/") for wanted in self._paths)

    def unknown(self) -> list[bytes]:
        return [wanted for wanted in self._paths if wanted not in self._seen]


class _Restoring:
    def __init__(
        self, path: Path, manifest: Manifest | None, threads: int, on_progress: OnProgress, check: Check
    ) -> None:
        self._path = path
        self._manifest = manifest
        self._threads = threads
        self._on_progress = on_progress
        self._check = check
        self._files = 0
        self._size = 0

    def run(self, wanted: _Wanted, to: Path, most: int | None, *, leave_out_stray: bool) -> Restored:
        manifest = self._manifest
        vetting = Vetting(
            str(self._path), most=self._most(most) if manifest is None else None, leave_out_stray=leave_out_stray
        )
        entries: Callable[[], Iterable[Entry]]
        if manifest is None:
            found, top = self._read_through(vetting)
            entries = lambda: found  # noqa: E731
        else:
            top = manifest.asset.encode()
            entries = lambda: listed(self._path, manifest)  # noqa: E731
            self._vet(vetting, entries())
        vetting.finish(self._check)
        total = self._measure(wanted, entries(), vetting)
        target = _target(to, top)
        cleared = unfinished.clear(target)
        _require_room(target, total)
        self._meter = Meter(Phase.RESTORING, total, self._on_progress)
        with appearing(target) as extraction:
            if manifest is None:
                extraction.allowed = _FOREIGN_MODES
            if is_seekable(manifest) and not wanted.everything:
                self._extract_parts(extraction, wanted, entries(), vetting)
            else:
                self._extract_all(extraction, wanted, entries(), vetting)
            self._meter.show(self._size, last=True)
        left_out = tuple(shown(link) for link in sorted(vetting.stray) if wanted.covers(link))
        return Restored(target, self._files, self._size, manifest is not None, left_out, cleared)

    def _most(self, most: int | None) -> int:
        return max(SMALL_ENOUGH, MOST_RATIO * self._path.stat().st_size) if most is None else most

    # ----------------------------------------------------------------- before anything is written

    def _vet(self, vetting: Vetting, entries: Iterable[Entry]) -> None:
        content = ContentDigest()
        for entry in entries:
            self._check()
            vetting.add(entry.raw_path, entry.type, entry.size, entry.raw_target)
            content.add([entry])
        manifest = self._manifest
        if manifest and manifest.blocks.compressed and content.hexdigest() != manifest.content_digest:
            raise DamagedArchiveError(f"the manifest of {self._path} does not list what was packed")

    def _read_through(self, vetting: Vetting) -> tuple[list[Entry], bytes]:
        """There is no manifest: read it once to know all its members."""
        found: list[Entry] = []
        meter = Meter(Phase.READING, 0, self._on_progress)
        with Contents(self._path) as contents:
            for entry in contents:
                self._check()
                vetting.add(entry.raw_path, entry.type, entry.size, entry.raw_target)
                found.append(entry)
                meter.show(vetting.total)
                for _ in contents.content():
                    self._check()
            top = contents.top
        if not found:
            raise DamagedArchiveError(f"{self._path} has no members")
        return found, top

    def _measure(self, wanted: _Wanted, entries: Iterable[Entry], vetting: Vetting) -> int:
        total = sum(
            entry.size for entry in entries if wanted.covers(entry.raw_path) and entry.raw_path not in vetting.stray
        )
        unknown = wanted.unknown()
        if unknown:
            raise MemberNotFoundError(
                f"{self._path} has no member {shown(unknown[0])}",
                hint="`refgeniectl archive show` lists them; names are relative to the asset's folder",
            )
        return total

    # ----------------------------------------------------------------- writing

    def _extract_all(self, extraction: Extraction, wanted: _Wanted, entries: Iterable[Entry], vetting: Vetting) -> None:
        """Read the whole archive; what is not wanted is compared all the same."""
        with Contents(self._path, self._manifest, threads=self._threads) as contents:
            expected = iter(entries)
            entry: Entry | None = None
            try:
                for found in contents:
                    self._check()
                    entry = next(expected, None)
                    if entry is None or not same(entry, found):
                        raise damaged_at(self._path, entry, "its header is not what was packed")
                    if entry.raw_path in vetting.stray or not self._is_wanted(wanted, entry):
                        self._compare(entry, contents.content())
                    else:
                        self._extract(extraction, entry, contents.content())
            except DamagedArchiveError as error:
                raise _named(error, entry, expected) from None
            if next(expected, None) is not None:
                raise damaged_at(self._path, None, "it ends too early")

    def _extract_parts(
        self, extraction: Extraction, wanted: _Wanted, entries: Iterable[Entry], vetting: Vetting
    ) -> None:
        """Read only the blocks that are needed."""
        with open_source(self._path, self._manifest.blocks if self._manifest else None) as source:
            for entry in entries:
                self._check()
                if self._is_wanted(wanted, entry) and entry.raw_path not in vetting.stray:
                    pieces = source.pieces(entry.offset, entry.size) if entry.size else iter(())
                    self._extract(extraction, entry, pieces)

    def _is_wanted(self, wanted: _Wanted, entry: Entry) -> bool:
        path = entry.raw_path
        return wanted.covers(path) or (entry.type is Kind.FOLDER and wanted.is_above(path))

    def _extract(self, extraction: Extraction, entry: Entry, pieces: Iterable[memoryview]) -> None:
        if entry.type is Kind.FOLDER:
            extraction.folder(entry)
        elif entry.type is Kind.LINK:
            extraction.link(entry)
        else:
            md5 = hashlib.md5(usedforsecurity=False)
            size = extraction.file(entry, self._passing(pieces, md5.update))
            self._judge(entry, size, md5.hexdigest())
            self._files += 1

    def _compare(self, entry: Entry, pieces: Iterable[memoryview]) -> None:
        md5 = hashlib.md5(usedforsecurity=False)
        size = 0
        for piece in pieces:
            self._check()
            md5.update(piece)
            size += len(piece)
        if entry.type is Kind.FILE:
            self._judge(entry, size, md5.hexdigest())

    def _passing(self, pieces: Iterable[memoryview], update: Callable[[memoryview], None]) -> Iterator[memoryview]:
        for piece in pieces:
            self._check()
            update(piece)
            self._size += len(piece)
            yield piece
            self._meter.show(self._size)

    def _judge(self, entry: Entry, size: int, md5: str) -> None:
        if size != entry.size or (entry.md5 and md5 != entry.md5):
            raise damaged_at(self._path, entry, "its content has another md5")


def _named(error: DamagedArchiveError, last: Entry | None, expected: Iterator[Entry]) -> DamagedArchiveError:
    """With the member that was being read: the last one given, or the one that should have come."""
    if " is damaged at " in error.message:
        return error
    entry = last or next(expected, None)
    where = f" (at or after the member {entry.path or '.'!r})" if entry else ""
    return DamagedArchiveError(error.message + where, hint=error.hint)


def _target(to: Path, top: bytes) -> Path:
    """Where the asset's folder will be."""
    name = os.fsdecode(top)
    if to.name != name:
        return to / name
    if to.is_dir():
        raise ConflictError(
            f"{to} is in the way: nothing is ever overwritten",
            hint=f"move it away; to restore below it, name {to / name}",
        )
    return to


def _require_room(target: Path, total: int) -> None:
    require_free(target)
    folder = next(folder for folder in target.parents if folder.is_dir())
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if total > free:
        raise NoSpaceError(f"{target} needs {total} bytes, and {free} are free there", hint="make room, then try again")
