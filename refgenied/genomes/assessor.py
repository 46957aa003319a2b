"""The state of one asset, from its flags, its files and the judgement of the layout."""

import os
import stat
from contextlib import ExitStack
from typing import Self

from refgenied.genomes.build_folder import Flags, flags_differ, moved_lately, read_flags, why_unreadable
from refgenied.genomes.enclosure import Enclosure, shown, translating
from refgenied.genomes.genome_config import ConfigEntry
from refgenied.genomes.layout import Judgement, Sighting, Survey
from refgenied.genomes.stamps import FilesStamp, stamp_files, stamp_of
from refgenied.model import (
    ARCHIVABLE,
    Access,
    Asset,
    AssetState,
    SourceChangedError,
    UnreadableError,
    UnsafeTreeError,
)

_NO_FLAGS = Flags(found=False, completed=(), failed="", log="", working="", mapped=False)
_NO_ENTRY = ConfigEntry()
_NOT_AT_REST = FilesStamp("", Access.EVERYONE, 0)


_MOST_ABOVE = 1000
"""The folders above assets whose rights are remembered."""


class Assessor:
    """Assesses assets in one look at a genome folder. A context manager: what is open for one serves the next."""

    def __init__(self, root: str, interrupted_after: float) -> None:
        self._root = root
        self._interrupted_after = interrupted_after
        self._above: dict[str, Access] = {}
        self._open: Enclosure | None = None
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _enclosure(self) -> Enclosure:
        """The genome folder. SourceChangedError, UnreadableError, ShortageError."""
        if self._open is None:
            with translating(self._root):
                self._open = self._exit.enter_context(Enclosure(self._root, keeps_way=True))
        return self._open

    def assess(self, survey: Survey, sighting: Sighting, now: float) -> Asset:
        files = _NOT_AT_REST
        flags = _NO_FLAGS
        try:
            seen = read_flags(sighting.builds)
            flags = seen.flags
            state, reason = self._state(survey, sighting, flags, now)
            if state in ARCHIVABLE:
                outside = self._outside(sighting) if state is AssetState.ADDED else ""
                reason = outside or reason
                if not outside:
                    if len(self._above) > _MOST_ABOVE:
                        self._above.clear()
                    files = stamp_files(sighting.folder, self._enclosure(), self._above)
                if flags_differ(sighting.builds, seen):
                    state, reason, files = AssetState.BUILDING, "at work: its build flags just changed", _NOT_AT_REST
        except OSError as error:
            state, reason = AssetState.UNREADABLE, why_unreadable(error, sighting.folder)
        except UnreadableError as error:
            state, reason = AssetState.UNREADABLE, error.message
        except SourceChangedError as error:
            state, reason, files = AssetState.BUILDING, f"at work: {error.message}", _NOT_AT_REST
        entry = sighting.entry or _NO_ENTRY
        digest = entry.asset_digest if state is not AssetState.UNREGISTERED else None
        return Asset(
            key=sighting.key,
            state=state,
            reason=reason,
            folder=sighting.folder,
            aliases=sighting.aliases,
            stamp=stamp_of(files.stamp, flags.completed, digest, entry.seek_keys) if files.stamp else "",
            files_stamp=files.stamp,
            built_at=flags.built_at,
            asset_digest=digest,
            description=entry.description,
            seek_keys=entry.seek_keys,
            parents=entry.parents,
            children=entry.children,
            access=files.access,
            size=files.size,
        )

    def _state(self, survey: Survey, sighting: Sighting, flags: Flags, now: float) -> Judgement:
        def lately() -> bool:
            return moved_lately((*sighting.builds, sighting.folder), now, self._interrupted_after)

        if flags.failed:
            why = f"refgenie's log says why: {shown(flags.log)}" if flags.log else f"{shown(flags.failed)} is there"
            return AssetState.FAILED, f"its last build failed; {why}"
        if flags.working or (flags.found and not flags.completed):
            return self._unfinished(flags, lately=lately())
        if not _is_folder(sighting.folder):
            return AssetState.MISSING, f"registered, but {shown(sighting.folder)} is not there"
        if sighting.transfer and moved_lately((sighting.transfer,), now, self._interrupted_after):
            return AssetState.BUILDING, f"refgenie pull is at work: {shown(sighting.transfer)} is there"
        return survey.judge(sighting, flags, lately)

    def _unfinished(self, flags: Flags, *, lately: bool) -> Judgement:
        left = f"{shown(flags.working)} is there" if flags.working else "it has no completed flag"
        if lately:
            return AssetState.BUILDING, f"being built: {left}"
        quiet = f"nothing has moved for {self._interrupted_after / 60:g} minutes"
        return AssetState.INTERRUPTED, f"its build was stopped: {left}, and {quiet}"

    def _outside(self, sighting: Sighting) -> str:
        """Why an added asset cannot be archived, or ""."""
        try:
            if self._enclosure().folder(sighting.folder):
                return ""
        except UnsafeTreeError:
            return f"added from outside the genome folder, so it cannot be archived: {shown(sighting.folder)}"
        return "added, but it is the genome folder itself, so it cannot be archived"


def _is_folder(path: str) -> bool:
    """OSError when the system cannot tell."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
