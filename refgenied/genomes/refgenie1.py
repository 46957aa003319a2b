"""The layout of refgenie 1, without YAML. `data/` holds the assets, and `alias/` holds their names.

It has three variants (REFGENIE.md): build files in the asset's `_refgenie_build`; build files in
`builds/ALIAS/GROUP/ASSET/`; and data folders that are named by their asset digest (64 hex digits).
"""

import os
from collections.abc import Collection, Iterator

from refgenied.genomes.alias_links import AliasFolder, Name, Place
from refgenied.genomes.kept_folder import KeptFolder
from refgenied.genomes.layout import folders_in, names_below
from refgenied.genomes.link_survey import LinkSurvey
from refgenied.genomes.problems import Problems
from refgenied.model import AssetKey, Look


class Refgenie1Layout:
    """One genome folder of refgenie 1."""

    title = "refgenie 1"

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self._alias = AliasFolder(self._root)
        self._builds = KeptFolder(f"{self._root}/builds")

    def survey(self, now: float) -> LinkSurvey:  # noqa: ARG002 - nothing here depends on the time
        """Read all links in alias/, and the folders in data/."""
        return LinkSurvey.whole(self._root, self._alias, self._builds)

    def survey_of(self, key: AssetKey, before: LinkSurvey | None, now: float) -> LinkSurvey:
        """Read the links of one asset, where an earlier survey has found them. Without it, read all.

        An alias that its genome got since then counts for this asset: a build under it may run.
        """
        place = before.place_of(key) if before else None
        again = before.again({place}, alone=True) if before and place else None
        return again[0] if again else self.survey(now)

    def survey_again(
        self,
        before: LinkSurvey,
        look: Look,  # noqa: ARG002
        now: float,  # noqa: ARG002
        noticed: Collection[str],
        keys: Collection[AssetKey],
    ) -> tuple[LinkSurvey, set[AssetKey]] | None:
        """Read the links of the assets that may have changed since an earlier survey, and name these assets."""
        places = {before.place_of(key) for key in keys}
        problems = Problems()
        below = [names for path in noticed if (names := names_below(self._root, path))]
        data = {Place(*names[1:4]) for names in self._all(below, "data", problems)}
        gone = [names for names in below if not os.path.isdir("/".join((self._root, *names)))]
        data |= before.places_below([names[1:] for names in gone if names[0] == "data"])
        built = {Name(*names[1:4]) for names in self._all(below, "builds", problems)}
        known = {place for place in places if place}
        if ("data",) in below or ("builds",) in below or len(known) < len(places) or problems.told():
            return None
        return before.again(known, data, built, {names[:3] for names in below})

    def _all(self, below: list[tuple[str, ...]], top: str, problems: Problems) -> Iterator[tuple[str, ...]]:
        """The paths in one folder, each with three levels below it; a shorter path stands for all in that folder."""
        for names in below:
            if names[:1] != (top,):
                continue
            if len(names) > 3:
                yield names
            elif len(names) > 1:
                inner = folders_in("/".join((self._root, *names)), problems)
                yield from self._all([(*names, name) for name in inner], top, problems)
