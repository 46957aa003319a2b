"""What the layouts of the genome folder have in common: they sight assets, and judge those at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from refgenied.genomes.build_folder import Flags
    from refgenied.genomes.genome_config import Entry
    from refgenied.model import AssetKey, AssetState, Genome, Problem

Judgement = tuple["AssetState", str]
"""A state, and one plain line why."""


class Sighting(NamedTuple):
    """One asset that is there, or should be; its state is not yet known."""

    key: AssetKey
    folder: str
    builds: tuple[str, ...]
    """Folders where a build of it leaves its flags; they need not exist."""
    aliases: tuple[str, ...] = ()
    entry: Entry | None = None
    """What refgenie's config says; None in refgenie 1, or when it isn't there."""
    transfer: str = ""
    """A file that is there while the asset is being downloaded."""


class Judge(Protocol):
    """Judges the assets of one survey by what the survey saw."""

    def outdated(self) -> bool:
        """Whether the survey may have missed what was finished while it was made."""
        ...

    def finished(self, sighting: Sighting, flags: Flags, lately: Callable[[], bool]) -> Judgement:
        """For an asset with a completed flag and nothing against it. `lately`: did anything move?"""
        ...

    def unbuilt(self, sighting: Sighting, lately: Callable[[], bool]) -> Judgement:
        """For an asset whose folder is there, without any build flags."""
        ...


class Survey(NamedTuple):
    """All that a layout found, before the assets' own folders were looked into."""

    judge: Judge
    sightings: dict[AssetKey, Sighting]
    genomes: dict[str, Genome]
    problems: tuple[Problem, ...]
    watch: tuple[str, ...]
    servers: tuple[str, ...] = ()
    config_version: str = ""


class Layout(Protocol):
    """May be used by several threads at once."""

    @property
    def title(self) -> str: ...

    def survey(self, now: float) -> Survey:
        """Never raises for anything in the tree."""
        ...
