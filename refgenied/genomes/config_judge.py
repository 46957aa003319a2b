"""Judges the assets of refgenie 0.13 that are at rest: does the config show them as complete?"""

import os
from collections.abc import Callable

from refgenied.genomes.build_folder import Flags, map_config
from refgenied.genomes.config_reader import KnownConfig
from refgenied.genomes.genome_config import ConfigEntry, parse_config
from refgenied.genomes.layout import Judgement, Sighting
from refgenied.genomes.yaml_reader import GarbledError
from refgenied.model import AssetKey, AssetState


class ConfigJudge:
    """Judges by the config as one survey read it."""

    def __init__(self, root: str, config: str, known: KnownConfig) -> None:
        self._root = root
        self._known = known
        self._name = os.path.basename(config)

    def judge(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:  # noqa: ARG002
        """As `Survey.judge`."""
        key, entry = sighting.key, sighting.entry
        if flags.completed:
            doubt = self._doubt(sighting, flags)
            if doubt:
                return AssetState.UNREGISTERED, f"complete on disk, {doubt}"
            return AssetState.COMPLETE, "built and registered"
        if entry is None:
            return AssetState.MISSING, "neither registered nor built"
        own_path = os.path.normpath(entry.asset_path) == key.asset_group
        if own_path and sighting.folder == own_place(self._root, key):
            return AssetState.PULLED, "downloaded with refgenie pull: no build flags"
        return AssetState.ADDED, "added with refgenie add: no build flags"

    def _doubt(self, sighting: Sighting, flags: Flags) -> str:
        """Why the config does not show the asset as complete; "" when it does."""
        entry, known, name = sighting.entry, self._known, self._name
        if not known.fresh and (entry is None or (flags.built_at or 0.0) > known.read_at):
            return f"but {name} cannot be read now"
        if entry is not None:
            return self._doubt_of_entry(entry, sighting, flags)
        if flags.mapped:
            return f"absent from {name}: built with --map, run refgenie build --reduce"
        return f"absent from {name} (two builds at once? build it again, or run refgenie add)"

    def _doubt_of_entry(self, entry: ConfigEntry, sighting: Sighting, flags: Flags) -> str:
        config, name = self._known.config, self._name
        if config is not None and config.doubtful == sighting.key:
            return f"but {name} ends within its entry (no newline at the end of the file)"
        if not entry.asset_digest:
            return f"but its entry in {name} has no asset_digest"
        if not entry.seek_keys:
            return f"but its entry in {name} has no seek_keys"
        if flags.mapped and self._mapped_digest(sighting) != entry.asset_digest:
            return f"but {name} has an older build of it: run refgenie build --reduce"
        return ""

    def _mapped_digest(self, sighting: Sighting) -> str | None:
        """The digest of the asset that was built with `--map`."""
        try:
            built = parse_config(map_config(sighting.builds, self._root), "")
        except GarbledError:
            return None
        entry = built.entries.get(sighting.key)
        return entry.asset_digest if entry else None


def own_place(root: str, key: AssetKey) -> str:
    """Where refgenie 0.13 builds an asset."""
    return f"{root}/data/{key.genome_digest}/{key.asset_group}/{key.asset}"
