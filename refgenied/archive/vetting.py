"""Judges whether the members of an archive may be extracted, by their names alone, before anything is written.

The tree that the members would make is kept in memory, and links are followed in it step by step. So neither a long
path nor the state of the disk can hide where a chain of links ends (CVE-2025-4517 made the kernel give up half way).
"""

from collections.abc import Iterator

import msgspec

from refgenied.archive.format.entries import Entry
from refgenied.archive.format.members import ArchiveMembers
from refgenied.archive.run import Check, Phase, Run, no_check
from refgenied.genomes.enclosure import MAX_FOLDER_DEPTH, MAX_LINKS, Parts, shown
from refgenied.genomes.member import Kind
from refgenied.model import UnsafeTreeError

MAX_MEMBERS = 2_000_000
"""An archive with more members is refused: the names of all of them are kept in memory."""
MAX_NAME_BYTES = 1 << 29
"""Bytes that all names and targets of links may have together: a small archive can hold very long names."""
_LONGEST_NAME_BYTES = 255
_MAX_TARGET_BYTES = 4095


class Vetting:
    """Takes the members one by one; UnsafeTreeError names the first bad one.

    `archive` is for the messages. `most`: bytes that all files together may have. A link that leads out of the asset is
    an error at `finish`. With `leave_out_stray` it is listed in `stray` instead.
    """

    def __init__(self, archive: str, *, most: int | None = None, leave_out_stray: bool = False) -> None:
        self._archive = archive
        self._most = most
        self._leave_out_stray = leave_out_stray
        self._kinds: dict[bytes, Kind] = {}
        self._implied: set[bytes] = set()
        """Folders that lie on the path of a member, but are not members themselves so far."""
        self._targets: dict[bytes, bytes] = {}
        self.stray: frozenset[bytes] = frozenset()
        """After `finish`: the paths of links that lead out of the asset and must be left out."""
        self.total = 0
        """Bytes of all files that were added."""
        self._names = 0

    def add(self, entry: Entry) -> None:
        path, kind, target = entry.raw_path, entry.type, entry.raw_target
        if path in self._kinds and path not in self._implied:
            raise self._refused(path, "is in it twice")
        parts = self._parts(path) if path else ()
        if kind is not Kind.FOLDER and (not path or path in self._implied):
            raise self._refused(path, f"is a {kind} and a folder at once")
        self._imply_folders(path, parts)
        if len(self._kinds) >= MAX_MEMBERS:
            raise self._refused(path, f"is one of more than {MAX_MEMBERS} members")
        self._names += len(path) + len(target)
        if self._names > MAX_NAME_BYTES:
            raise self._refused(path, f"makes all names together longer than {MAX_NAME_BYTES} bytes")
        self._kinds[path] = kind
        self._implied.discard(path)
        self.total += entry.size
        if self._most is not None and self.total > self._most:
            raise self._refused(
                path, f"brings the total over {self._most} bytes, far more than an archive of its size should hold"
            )
        if kind is Kind.LINK:
            if not target or b"\0" in target or len(target) > _MAX_TARGET_BYTES:
                raise self._refused(path, "is a link with a target that no link can have")
            self._targets[path] = target

    def finish(self, check: Check = no_check) -> None:
        """Judge the links, after all members were added. Long chains of links take time, so `check` is called."""
        stray: set[bytes] = set()
        for path, target in self._targets.items():
            check()
            why = self._astray(path, target)
            if why and not self._leave_out_stray:
                raise self._refused(path, f"is a link to {shown(target)}, which {why}")
            if why:
                stray.add(path)
        self.stray = frozenset(stray)

    def _parts(self, path: bytes) -> Parts:
        parts = tuple(path.split(b"/"))
        if path.startswith(b"/"):
            raise self._refused(path, "has an absolute name")
        if any(part in (b"", b".", b"..") for part in parts):
            raise self._refused(path, "has a name that leads elsewhere")
        if any(len(part) > _LONGEST_NAME_BYTES or b"\0" in part for part in parts):
            raise self._refused(path, f"has a name of more than {_LONGEST_NAME_BYTES} bytes, or with a NUL in it")
        if len(parts) > MAX_FOLDER_DEPTH:
            raise self._refused(path, f"lies deeper than {MAX_FOLDER_DEPTH} folders")
        return parts

    def _imply_folders(self, path: bytes, parts: Parts) -> None:
        for depth in range(len(parts) - 1, -1, -1):
            above = b"/".join(parts[:depth])
            kind = self._kinds.get(above)
            if kind is Kind.FOLDER:
                return
            if kind is not None:
                raise self._refused(path, f"lies below {shown(above)}, which is a {kind}")
            self._names += len(above)
            self._kinds[above] = Kind.FOLDER
            self._implied.add(above)

    def _astray(self, path: bytes, target: bytes) -> str:
        """Why a link must not be made; "" when it leads to a place inside the asset, even if nothing exists there."""
        at = path.split(b"/")[:-1]
        pending = [target]
        links = 0
        while pending:
            text = pending.pop()
            if text.startswith(b"/"):
                return "is an absolute path"
            head, slash, rest = text.partition(b"/")
            if slash and rest.strip(b"/"):
                pending.append(rest.lstrip(b"/"))
            if head in (b"", b"."):
                continue
            if head == b"..":
                if not at:
                    return "leads out of the asset"
                at.pop()
                continue
            here = b"/".join((*at, head))
            if here in self._targets:
                links += 1
                if links > MAX_LINKS:
                    return "leads round in a circle of links"
                pending.append(self._targets[here])
            else:
                at.append(head)
        return ""

    def _refused(self, path: bytes, why: str) -> UnsafeTreeError:
        return UnsafeTreeError(
            f"{self._archive} is refused: {shown(path) or 'its top folder'} {why}",
            hint="nothing was extracted; look at it with `tar tvf`",
        )


def vetted(members: ArchiveMembers, vetting: Vetting, run: Run, *, hashed: bool = False) -> Iterator[Entry]:
    """The members of an archive without a manifest, each after `vetting` has judged it and its content was read.

    `hashed`: the entries have the md5 of their content. Errors as `ArchiveMembers` and `Vetting.add`.
    """
    reporter = run.reporter(Phase.READING)
    for entry in members:
        run.check()
        vetting.add(entry)
        reporter.show(vetting.total)
        if hashed:
            yield msgspec.structs.replace(entry, md5=members.md5(entry, run.check))
            continue
        for _ in members.content():
            run.check()
        yield entry
