"""Restores an asset's folder from an archive, with the rights of the caller: checked, proved, then made visible.

`vetting` judges all members first. Then `extract` makes them in a 0700 folder beside the target. Each member's header
fields and md5 are compared with the manifest on the way, and long runs of zeros become holes. Modes and times come
last, then one `syncfs` and one rename. Set-id and sticky bits are never given; a folder keeps the group that it
inherits from its parent. Hard links are refused, because no asset of ours has them. An archive without a manifest is
read twice: the first pass makes the list of members.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from refgenied.archive import restore_folders
from refgenied.archive.extract import Extraction, appearing, require_free
from refgenied.archive.format.arguments import archive_of, count_of, member_paths_of, path_of, require_switch
from refgenied.archive.format.entries import Entry
from refgenied.archive.format.manifest import Manifest, entries_of, is_seekable
from refgenied.archive.format.members import (
    ArchiveMembers,
    as_packed,
    compare_members,
    damaged_at,
    manifest_beside,
    md5_of,
)
from refgenied.archive.format.stream import open_source
from refgenied.archive.run import Check, OnProgress, Phase, Run, no_check, no_progress
from refgenied.archive.vetting import Vetting, vetted
from refgenied.genomes.enclosure import shown
from refgenied.genomes.member import Kind
from refgenied.model import ConflictError, DamagedArchiveError, MemberNotFoundError, NoSpaceError

MAX_RATIO = 200
"""An archive without a manifest may unpack to at most this many times its size: genomes shrink 3 to 20 times."""
ALWAYS_ALLOWED_BYTES = 64 << 20
"""Such an archive may always unpack to this many bytes."""
_FOREIGN_MODES = 0o755
"""Permission bits that an archive without a manifest can give. Nothing proves it, so only the owner may write."""


class Restored(msgspec.Struct, frozen=True):
    folder: Path
    """The asset's folder, as it is now."""
    files: int
    size: int
    """Bytes of those files."""
    proved: bool
    """Every member was compared with the manifest. False: there is none, and only gzip's checksums were compared."""
    left_out: tuple[str, ...]
    """Links that lead out of the asset and were left out, as the caller asked."""
    cleared: int = 0
    """Bytes on the disk that this call has freed: killed restores to the same folder had left them."""


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

    `files`: only these members and everything below them, by their paths in the asset; none: all members. Every
    member is checked before anything is written, and compared with the manifest while it is written. The folder
    appears under its name when all of it is on the disk. An archive without a manifest may unpack to `most` bytes
    (None: 200 times its size). `leave_out_stray` leaves out links that lead out of the asset instead of refusing
    the archive. `threads` decompress; 0: all cores.

    Nothing is ever overwritten, and after any error (also one of `check`) nothing is left: ConflictError
    (something is in the way), UnsafeTreeError (a member that must not be extracted, named), DamagedArchiveError,
    ArchiveNotFoundError, MemberNotFoundError, UnreadableError, NoSpaceError, WriteError; BadArgumentError for an
    argument that makes no sense.
    """
    path, target, wanted = archive_of(archive), path_of(to, "to"), _Wanted(member_paths_of(files, "files"))
    if most is not None:
        count_of(most, "most")
    require_switch(leave_out_stray, "leave_out_stray")
    run = Run(threads, check, on_progress)
    manifest = manifest_beside(path)
    if manifest is None and most is None:
        most = max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * path.stat().st_size)
    vetting = Vetting(str(path), most=most if manifest is None else None, leave_out_stray=leave_out_stray)
    return _Restoring(path, manifest, wanted, vetting, run).restore(Path(os.path.abspath(target)))


class _Wanted:
    """Which members the caller asked for."""

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

    def needs(self, entry: Entry) -> bool:
        """Whether the caller asked for this member, or for a member in this folder."""
        path = entry.raw_path
        return self.covers(path) or (
            entry.type is Kind.FOLDER and any(not path or wanted.startswith(path + b"/") for wanted in self._paths)
        )

    def unknown(self) -> list[bytes]:
        return [wanted for wanted in self._paths if wanted not in self._seen]


class _Restoring:
    """One restore, from the first look at the members to the folder."""

    def __init__(self, archive: Path, manifest: Manifest | None, wanted: _Wanted, vetting: Vetting, run: Run) -> None:
        self._archive = archive
        self._manifest = manifest
        self._wanted = wanted
        self._vetting = vetting
        self._run = run
        self._files = 0
        self._size = 0

    def restore(self, to: Path) -> Restored:
        entries, top = self._vetted()
        total = self._measure(entries())
        target = _target(to, top)
        cleared = restore_folders.clear(target)
        _require_room(target, total)
        self._reporter = self._run.reporter(Phase.RESTORING, total)
        with appearing(target, _FOREIGN_MODES if self._manifest is None else 0o777) as extraction:
            if is_seekable(self._manifest) and not self._wanted.everything:
                self._extract_parts(extraction, entries())
            else:
                self._extract_all(extraction, entries())
            self._reporter.show(self._size, last=True)
        left_out = tuple(shown(link) for link in sorted(self._vetting.stray) if self._wanted.covers(link))
        return Restored(target, self._files, self._size, self._manifest is not None, left_out, cleared)

    # ----------------------------------------------------------------- before anything is written

    def _vetted(self) -> tuple[Callable[[], Iterable[Entry]], bytes]:
        """A function that gives all members, and the name of their top folder.

        Without a manifest the whole archive is read to get them.
        """
        archive, manifest, run = self._archive, self._manifest, self._run
        if manifest is None:
            with ArchiveMembers(archive) as members:
                found = list(vetted(members, self._vetting, run))
            if not found:
                raise DamagedArchiveError(f"{archive} has no members")
            self._vetting.finish(run.check)
            return lambda: found, members.top
        for entry in as_packed(archive, manifest):
            run.check()
            self._vetting.add(entry)
        self._vetting.finish(run.check)
        return lambda: entries_of(manifest, archive.parent), manifest.asset.encode()

    def _measure(self, entries: Iterable[Entry]) -> int:
        stray = self._vetting.stray
        total = sum(
            entry.size for entry in entries if self._wanted.covers(entry.raw_path) and entry.raw_path not in stray
        )
        unknown = self._wanted.unknown()
        if unknown:
            raise MemberNotFoundError(
                f"{self._archive} has no member {shown(unknown[0])}",
                hint="`refgeniectl archive show` lists them; names are relative to the asset's folder",
            )
        return total

    # ----------------------------------------------------------------- writing

    def _extract_all(self, extraction: Extraction, entries: Iterable[Entry]) -> None:
        """Read the whole archive. Members that nobody asked for are compared too."""

        def take(entry: Entry) -> None:
            if self._is_wanted(entry):
                self._extract(extraction, entry, members.content())
            elif entry.type is Kind.FILE:
                self._judge(entry, *md5_of(members.content(), self._run.check))

        with ArchiveMembers(self._archive, self._manifest, threads=self._run.threads) as members:
            compare_members(self._archive, members, entries, take, self._run.check)

    def _extract_parts(self, extraction: Extraction, entries: Iterable[Entry]) -> None:
        """Read only the blocks that are needed."""
        with open_source(self._archive, self._manifest) as source:
            for entry in entries:
                self._run.check()
                if self._is_wanted(entry):
                    pieces = source.pieces(entry.offset, entry.size) if entry.size else iter(())
                    self._extract(extraction, entry, pieces)

    def _is_wanted(self, entry: Entry) -> bool:
        return self._wanted.needs(entry) and entry.raw_path not in self._vetting.stray

    def _extract(self, extraction: Extraction, entry: Entry, pieces: Iterable[memoryview]) -> None:
        if entry.type is Kind.FOLDER:
            extraction.folder(entry)
        elif entry.type is Kind.LINK:
            extraction.link(entry)
        else:
            md5 = hashlib.md5(usedforsecurity=False)
            size = extraction.file(entry, self._passing(pieces, md5.update))
            self._judge(entry, md5.hexdigest(), size)
            self._files += 1

    def _passing(self, pieces: Iterable[memoryview], update: Callable[[memoryview], None]) -> Iterator[memoryview]:
        for piece in pieces:
            self._run.check()
            update(piece)
            self._size += len(piece)
            yield piece
            self._reporter.show(self._size)

    def _judge(self, entry: Entry, md5: str, size: int) -> None:
        if size != entry.size or (entry.md5 and md5 != entry.md5):
            raise damaged_at(self._archive, entry, "its content has another md5")


def _target(to: Path, top: bytes) -> Path:
    """The path that the asset's folder will have."""
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
