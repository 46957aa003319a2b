"""One look at the genome folder: it finds the assets and the state of each."""

import os
from collections.abc import Collection
from typing import Any, NamedTuple

from refgenied.genomes.assessor import Assessor
from refgenied.genomes.build_folder import read_build_record
from refgenied.genomes.layout import Survey, build_folders
from refgenied.genomes.problems import Problems
from refgenied.genomes.refgenie0 import CONFIG_NAME, Refgenie0Layout
from refgenied.genomes.refgenie1 import Refgenie1Layout
from refgenied.genomes.walk import Tree
from refgenied.model import Asset, AssetKey, AssetState, BuildRecord, Look

Layout = Refgenie0Layout | Refgenie1Layout
"""Several threads may use a layout at the same time. No content of the tree makes `survey` raise an error."""

NOTHING = "empty: nothing built yet"


class _Kept(NamedTuple):
    look: Look
    layout: Layout
    survey: Any
    building: frozenset[AssetKey]
    """The assets that were being built."""


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
        self._kept: _Kept | None = None
        """The last look, because an asset that is as it was stays the same object, and what its survey knew."""

    def look(self, now: float) -> Look:
        """Look at the whole folder. `now` in Unix seconds. No content of the tree raises an error.

        Nothing is taken from an earlier look. But an asset that is as the last look found it is the same object, so
        what has changed is found with `is`.
        """
        problems = Problems()
        root = self._identity(problems)
        layout = self._choose_layout()
        if root is None:
            return Look({}, {}, problems.told(), layout.title, None, ())
        survey = layout.survey(now)
        assets = self._assess_all(survey, now)
        if any(asset.state is AssetState.UNREGISTERED for asset in assets.values()) and survey.outdated():
            survey = layout.survey(now)  # an asset was registered after the config was read and before the flags were
            assets = self._assess_all(survey, now)
        return self._keep(layout, survey, assets, root, problems, full=True)

    def look_again(
        self, before: Look, now: float, *, noticed: Collection[str] = (), keys: Collection[AssetKey] = ()
    ) -> Look:
        """Look at what may have changed since the look `before`: refgenie's entries that differ, what lies under the
        `noticed` paths (absolute, as the kernel names them in a watched folder), the assets with these `keys`, and
        every asset that was being built.

        All other assets are the same objects as in `before`. Where this cannot tell, it is a full look.
        """
        problems = Problems()
        root = self._identity(problems)
        layout = self._choose_layout()
        kept = self._kept
        if root is None or root != before.root or kept is None or kept.look is not before or kept.layout is not layout:
            return self.look(now)
        wanted = kept.building.union(keys)
        assets = before.assets
        for _ in range(2):
            again = layout.survey_again(kept.survey, before, now, noticed, wanted)
            if again is None:
                return self.look(now)
            survey, found = again
            assets = self._assess_some(survey, found, before.assets, now)
            if survey.outdated() and any(self._is_unregistered(assets, key) for key in found):
                continue
            return self._keep(layout, survey, assets, root, problems, full=False)
        return self.look(now)

    def asset(self, key: AssetKey, now: float) -> Asset | None:
        """A new, full test of one asset; None when there is no such asset. No content of the tree raises an error.

        What the last look knew only says where to look. The cost does not depend on the number of assets, but for an
        asset of refgenie 1 that the last look did not find.
        """
        layout = self._choose_layout()
        asset = None
        for _ in range(2):
            kept = self._kept if self._kept and self._kept.layout is layout else None
            survey = layout.survey_of(key, kept.survey if kept else None, now)
            sighting = survey.one(key)
            with self._assessor() as assessor:
                asset = assessor.assess(survey, sighting, now) if sighting else None
            if asset is None or asset.state is not AssetState.UNREGISTERED or not survey.outdated():
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

    def _keep(
        self,
        layout: Layout,
        survey: Survey,
        assets: dict[AssetKey, Asset],
        root: tuple[int, int],
        problems: Problems,
        *,
        full: bool,
    ) -> Look:
        building = {key: None for key, asset in assets.items() if asset.state is AssetState.BUILDING}
        sightings = map(survey.one, building)
        builds = [build for one in sightings if one for build in one.builds if os.path.isdir(build)]
        # without a genome and without a config there is no layout yet
        genomes = survey.genomes
        known = assets or genomes or os.path.lexists(self._config)
        look = Look(
            assets,
            genomes,
            (*problems.told(), *survey.problems),
            layout.title if known else NOTHING,
            root,
            tuple(dict.fromkeys((*survey.watch, *builds))) or (self.root,),  # the folder is still empty: watch its top
            survey.servers,
            survey.config_version,
            full=full,
        )
        self._kept = _Kept(look, layout, survey, frozenset(building))
        return look

    # ----------------------------------------------------------------- one asset

    def _assess_all(self, survey: Survey, now: float) -> dict[AssetKey, Asset]:
        known = self._kept.look.assets if self._kept else {}
        assets: dict[AssetKey, Asset] = {}
        with self._assessor() as assessor:
            for sighting in survey.all():
                asset = assessor.assess(survey, sighting, now)
                before = known.get(sighting.key)
                assets[sighting.key] = before if before == asset and before is not None else asset
        return assets

    def _assessor(self) -> Assessor:
        return Assessor(self.root, self._interrupted_after)

    def _assess_some(
        self, survey: Survey, keys: Collection[AssetKey], known: dict[AssetKey, Asset], now: float
    ) -> dict[AssetKey, Asset]:
        """The known assets, with these assessed again; the same mapping when none has changed."""
        changed: dict[AssetKey, Asset | None] = {}
        with self._assessor() as assessor:
            for key in keys:
                sighting = survey.one(key)
                asset = assessor.assess(survey, sighting, now) if sighting else None
                if asset != known.get(key):
                    changed[key] = asset
        if not changed:
            return known
        assets = dict(known)
        for key, asset in changed.items():
            if asset is None:
                del assets[key]
            else:
                assets[key] = asset
        return assets

    @staticmethod
    def _is_unregistered(assets: dict[AssetKey, Asset], key: AssetKey) -> bool:
        return key in assets and assets[key].state is AssetState.UNREGISTERED
