"""Finds in a config that was read what is not ours: other people's keys and texts, and other programs' entries."""

from typing import NamedTuple

from refgenied.catalog.parts import (
    OF_TAG,
    OURS,
    GenomePart,
    Genomes,
    GroupPart,
    TagPart,
    by_name,
    mark_of,
)
from refgenied.catalog.rendering import ConfigTree
from refgenied.catalog.sound import mapping, sequence
from refgenied.model import Genome

_OF_GENOME = frozenset({"aliases", "genome_description", "assets"})
_OF_GROUP = frozenset({"asset_description", "default_tag", "tags"})


class TopKeys(NamedTuple):
    """The keys beside the genomes."""

    others: ConfigTree
    remotes_are_ours: bool


def take_in(genomes: Genomes, tree: ConfigTree) -> TopKeys:
    """Note in the parts what other people have in this tree. An entry that is not known as ours gets a part with all
    of its keys in `others`; an entry of ours to which keys were added gets `made_of` 0.
    """
    ours = mapping(tree.get(OURS))
    marks = mapping(ours.get("descriptions"))
    there = by_name(tree.get("genomes"))
    for digest in {*genomes, *there}:
        body = mapping(there.get(digest))
        part = genomes.setdefault(digest, GenomePart(Genome(digest), {}))
        part.others = _without(body, _OF_GENOME)
        if part.others and not isinstance(part.others.get("genome_digest", ""), str):
            part.others["genome_digest"] = digest
        part.aliases = tuple(sequence(body.get("aliases")))
        part.description, part.theirs = _text(body.get("genome_description"), marks.get(digest))
        groups = by_name(body.get("assets"))
        for name in {*part.groups, *groups}:
            group = part.groups.setdefault(name, GroupPart())
            there_too = mapping(groups.get(name))
            written = there_too.get("asset_description")
            group.description, group.theirs = _text(written, marks.get(f"{digest}/{name}"))
            _take_in_group(group, there_too)
    remotes_are_ours = bool(ours.get("remotes"))
    ours_too = {"genomes", OURS, *(["remotes"] if remotes_are_ours else [])}
    return TopKeys({name: value for name, value in tree.items() if name not in ours_too}, remotes_are_ours)


def _take_in_group(group: GroupPart, body: ConfigTree) -> None:
    group.others = _without(body, _OF_GROUP)
    group.default = str(body.get("default_tag") or "")
    tags = by_name(body.get("tags"))
    ours = {part.name: part for part in group.tags if part.ours}
    for name, part in ours.items():
        others = _without(mapping(tags.get(name)), OF_TAG)
        if others != part.others:
            part.others, part.made_of = others, 0
    theirs = [TagPart(name, others=mapping(there)) for name, there in tags.items() if name not in ours]
    group.tags = tuple(sorted((*ours.values(), *theirs), key=lambda part: part.name))


def _without(body: ConfigTree, ours: frozenset[str]) -> ConfigTree | None:
    return {name: value for name, value in body.items() if name not in ours} or None


def _text(text: object, mark: object) -> tuple[str, bool]:
    """A description, and whether another person wrote it."""
    if not isinstance(text, str) or not text:
        return "", False
    return text, mark_of(text) != mark
