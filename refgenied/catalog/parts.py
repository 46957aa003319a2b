"""The server's config in rendered parts: one for each asset, and those of its group and its genome around them.

A change of one asset renders its own part anew, and nothing else of its genome except what depends on it: the group's
description and default asset (`parted`). Of an existing file only what is not ours is kept: keys and texts that other
people have added, and entries of other programs (`others`).
"""

import hashlib
import re
from bisect import bisect_left

import msgspec

from refgenied.catalog.rendering import ConfigTree
from refgenied.catalog.sound import mapping, sound_tag
from refgenied.model import AssetKey, Genome

OURS = "refgenied"
"""The key of our own notes: a hash of each description that we wrote, and whether the remotes are ours."""
OF_TAG = frozenset(sound_tag("", {}))
"""The keys of an asset's entry that refgenied writes."""
_DIGEST = re.compile(rb"\n +archive_digest: '?([0-9a-f]{32})'?\n")


class Head(msgspec.Struct, frozen=True):
    genome_folder: str
    archive_folder: str
    remotes: dict[str, str]
    """Name → address. If it is empty, the remotes in the file stay."""


class TagPart(msgspec.Struct, gc=False):
    """One asset's entry. There are as many as archives, so it has little besides its text."""

    name: str
    text: bytes = b""
    made_of: int = 0
    """A hash of all that the entry was made of, except the manifest; 0: it must be made anew."""
    description: str = ""
    others: ConfigTree | None = None
    """Keys that other people have added; of an entry of another program all of it."""
    ours: bool = False
    mended: bool = False
    paged: bool = False
    """Whether the files of its page are known to be right."""

    @property
    def digest(self) -> str:
        """The md5 of the archive; "" when the entry has none."""
        found = _DIGEST.search(self.text)
        theirs = None if found or self.others is None else self.others.get("archive_digest")
        return found[1].decode() if found else theirs if isinstance(theirs, str) else ""


class GroupPart(msgspec.Struct, gc=False):
    tags: tuple[TagPart, ...] = ()
    """In the order of their names. For one entry, as most groups have, a mapping takes four times as much memory."""
    head: bytes = b""
    tail: bytes = b""
    mark: bytes = b""
    """The line with the mark of its description, if that is ours."""
    description: str = ""
    theirs: bool = False
    """Whether another person wrote the description."""
    default: str = ""
    others: ConfigTree | None = None

    def at(self, name: str) -> TagPart | None:
        where = self._where(name)
        found = self.tags[where] if where < len(self.tags) else None
        return found if found is not None and found.name == name else None

    def put(self, part: TagPart) -> None:
        """Add the part, or replace the one of this name."""
        where = self._where(part.name)
        self.tags = (*self.tags[:where], part, *self.tags[where + (self.at(part.name) is not None) :])

    def drop(self, part: TagPart) -> None:
        where = self._where(part.name)
        self.tags = (*self.tags[:where], *self.tags[where + 1 :])

    def _where(self, name: str) -> int:
        return bisect_left(self.tags, name, key=lambda part: part.name)


class GenomePart(msgspec.Struct, gc=False):
    genome: Genome
    """What the last look says of it, or the records."""
    groups: dict[str, GroupPart]
    head: bytes = b""
    tail: bytes = b""
    mark: bytes = b""
    description: str = ""
    theirs: bool = False
    aliases: tuple[object, ...] = ()
    """The aliases in the file."""
    others: ConfigTree | None = None


Genomes = dict[str, GenomePart]


def group_of(genomes: Genomes, key: AssetKey) -> GroupPart | None:
    """The part of the asset's group."""
    genome = genomes.get(key.genome_digest)
    return genome.groups.get(key.asset_group) if genome else None


def by_name(value: object) -> ConfigTree:
    """The mapping with all names as texts, also names that YAML reads as numbers."""
    return {str(name): item for name, item in mapping(value).items()}


def mark_of(text: str) -> str:
    """A hash of a description of ours. It is written beside the genomes, so we know later that the text is ours."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
