"""One look at the genome folder: it finds the assets and the state of each."""

import os
import stat
from collections.abc import Collection

from refgenied.genomes.build_folder import Flags, moved_lately, read_build_record, read_flags, why_unreadable
from refgenied.genomes.enclosure import Enclosure, shown
from refgenied.genomes.genome_config import ConfigEntry
from refgenied.genomes.layout import Judge, Judgement, Sighting, Survey, build_folders
from refgenied.genomes.problems import Problems
from refgenied.genomes.refgenie0 import CONFIG_NAME, Refgenie0Layout
from refgenied.genomes.refgenie1 import Refgenie1Layout
from refgenied.genomes.stamps import FilesStamp, stamp_files, stamp_of
from refgenied.genomes.walk import Tree
from refgenied.model import (
    ARCHIVABLE,
    Access,
    Asset,
    AssetKey,
    AssetState,
    BuildRecord,
    Look,
    SourceChangedError,
    UnreadableError,
    UnsafeTreeError,
)

Layout = Refgenie0Layout | Refgenie1Layout
"""Several threads may use a layout at the same time. No content of the tree makes `survey` raise an error."""

NOTHING = "empty: nothing built yet"
_NO_FLAGS = Flags(found=False, completed=(), failed="", log="", working="", mapped=False)
_NO_ENTRY = ConfigEntry()
_NOT_AT_REST = FilesStamp("", Access.EVERYONE, 0)


class GenomeFolder:
    """A genome folder of either layout; any number of threads may look at once.

    `config` is refgenie 0.13's `genome_config.yaml` (None: the file in the genome folder, if there is one); with a
    config the layout is the one of refgenie 0.13. `interrupted_after`: a build counts as interrupted after this many
    seconds without a change.
    """

    def __init__(self, root: str, *, config: str | None, interrupted_after: float = 1800.0) -> None:
        self.root = os.path.abspath(root)
        self._names_config = config is not None
        self._config = config or f"{self.root}/{CONFIG_NAME}"
        self._interrupted_after = interrupted_after
        self._layout: Layout | None = None
        self._found: dict[AssetKey, Asset] = {}
        """The assets of the last look, because an asset that is as it was stays the same object."""

    def look(self, now: float) -> Look:
        """Look at the whole folder. `now` in Unix seconds. No content of the tree raises an error.

        An asset that is as the last look found it is the same object, so what has changed is found with `is`.
        """
        problems = Problems()
        root = self._identity(problems)
        layout = self._choose_layout()
        if root is None:
            return Look({}, {}, problems.told(), layout.title, None, ())
        survey = layout.survey(now)
        assets = self._assess_all(survey, now)
        if any(asset.state is AssetState.UNREGISTERED for asset in assets.values()) and survey.judge.outdated():
            survey = layout.survey(now)  # an asset was registered after the config was read and before the flags were
            assets = self._assess_all(survey, now)
        known_before, self._found = self._found, assets
        for key, asset in assets.items():
            if known_before.get(key) == asset:
                assets[key] = known_before[key]
        builds = [
            build
            for key, asset in assets.items()
            if asset.state is AssetState.BUILDING
            for build in survey.sightings[key].builds
            if os.path.isdir(build)
        ]
        # without a genome and without a config there is no layout yet
        known = survey.sightings or survey.genomes or os.path.lexists(self._config)
        return Look(
            assets,
            survey.genomes,
            (*problems.told(), *survey.problems),
            layout.title if known else NOTHING,
            root,
            tuple(dict.fromkeys((*survey.watch, *builds))) or (self.root,),  # the folder is still empty: watch its top
            survey.servers,
            survey.config_version,
        )

    def look_again(
        self,
        before: Look,  # noqa: ARG002
        now: float,
        *,
        noticed: Collection[str] = (),  # noqa: ARG002
        keys: Collection[AssetKey] = (),  # noqa: ARG002
    ) -> Look:
        """Look at what may have changed since the look `before`: refgenie's entries that differ, what lies under the
        `noticed` paths (absolute, as the kernel names them in a watched folder), the assets with these `keys`, and
        every asset that was being built.

        All other assets are the same objects as in `before`. Where this cannot tell, it is a full look.
        """
        return self.look(now)

    def asset(self, key: AssetKey, now: float) -> Asset | None:
        """A new, full test of one asset; None when there is no such asset. No content of the tree raises an error."""
        layout = self._choose_layout()
        asset = None
        for _ in range(2):
            survey = layout.survey(now)
            sighting = survey.sightings.get(key)
            asset = self._assess(survey.judge, sighting, now) if sighting else None
            if asset is None or asset.state is not AssetState.UNREGISTERED or not survey.judge.outdated():
                break
        return asset

    def tree(self, asset: Asset) -> Tree:
        """The asset's files, for the archive."""
        return Tree(asset.folder, within=self.root)

    def build_record(self, asset: Asset) -> BuildRecord:
        """How the asset was built, as far as its build folders say; empty when they say nothing. ShortageError."""
        return read_build_record(build_folders(self.root, asset.folder, asset.key, asset.aliases), self.root)

    def _identity(self, problems: Problems) -> tuple[int, int] | None:
        try:
            with os.scandir(self.root) as entries:
                info = os.stat(self.root)
                if next(entries, None) is None:
                    message = "the genome folder is empty: nothing was built yet, or its disk is not mounted"
                    problems.add(self.root, message)
        except OSError as error:
            problems.add(self.root, f"the genome folder cannot be read: {error.strerror}")
            return None
        return info.st_dev, info.st_ino

    def _choose_layout(self) -> Layout:
        """After a config was seen, the layout stays refgenie 0.13: a missing config is a fault, not a new layout."""
        if not isinstance(self._layout, Refgenie0Layout):
            if self._names_config or os.path.lexists(self._config):
                self._layout = Refgenie0Layout(self.root, self._config)
            elif self._layout is None:
                self._layout = Refgenie1Layout(self.root)
        return self._layout

    # ----------------------------------------------------------------- one asset

    def _assess_all(self, survey: Survey, now: float) -> dict[AssetKey, Asset]:
        return {key: self._assess(survey.judge, sighting, now) for key, sighting in survey.sightings.items()}

    def _assess(self, judge: Judge, sighting: Sighting, now: float) -> Asset:
        files = _NOT_AT_REST
        flags = _NO_FLAGS
        try:
            flags = read_flags(sighting.builds)
            state, reason = self._state(judge, sighting, flags, now)
            if state in ARCHIVABLE:
                outside = self._outside(sighting) if state is AssetState.ADDED else ""
                reason = outside or reason
                if not outside:
                    files = stamp_files(sighting.folder, self.root)
                if read_flags(sighting.builds) != flags:
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

    def _state(self, judge: Judge, sighting: Sighting, flags: Flags, now: float) -> Judgement:
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
        return judge.judge(sighting, flags, lately)

    def _unfinished(self, flags: Flags, *, lately: bool) -> Judgement:
        left = f"{shown(flags.working)} is there" if flags.working else "it has no completed flag"
        if lately:
            return AssetState.BUILDING, f"being built: {left}"
        quiet = f"nothing has moved for {self._interrupted_after / 60:g} minutes"
        return AssetState.INTERRUPTED, f"its build was stopped: {left}, and {quiet}"

    def _outside(self, sighting: Sighting) -> str:
        """Why an added asset cannot be archived, or ""."""
        try:
            with Enclosure(self.root) as enclosure:
                if enclosure.folder(sighting.folder):
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
