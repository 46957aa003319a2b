"""`genome_config.yaml` of the archive folder: derived from what is archived; what a person wrote into it stays.

What is ours to write: the head, per genome `aliases` and the archived assets, per asset `default_tag`, per tag the
eight keys. Everything else that is found in the file stays. A description is ours as long as it reads as we wrote it
last; `refgenied:` at the end of the file remembers what that was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import msgspec
import yaml

from refgenied.catalog.entry import ServedEntry
from refgenied.catalog.sound import Tree, mapping, sequence
from refgenied.genomes.yaml_reader import GarbledError, read
from refgenied.model import AssetKey, Genome

CONFIG_NAME = "genome_config.yaml"
CONFIG_VERSION = 0.4
OURS = "refgenied"

_DIGEST = re.compile(r"\w{48}")
_NAME = re.compile(r"\S+")


class UnreadableConfigError(Exception):
    """The file that is there is not a refgenie config."""


class Head(msgspec.Struct, frozen=True):
    genome_folder: str
    archive_folder: str
    remotes: dict[str, str]
    """Name → address; empty: what the file has stays."""


def why_not_served(key: AssetKey) -> str:
    """Why refgenieserver 0.8.0 cannot serve an asset of this name; "" when it can."""
    if not _DIGEST.fullmatch(key.genome_digest):
        length = len(key.genome_digest)
        return f"of genomes with a {length}-character digest (refgenie 1); refgenieserver 0.8.0 takes 48 characters"
    if not (_NAME.fullmatch(key.asset_group) and _NAME.fullmatch(key.asset)):
        return "with a space in their names; refgenieserver takes none"
    return ""


class Existing(NamedTuple):
    """What a file holds already."""

    tree: Tree
    left_out: str
    """What of it means nothing and is not in the tree, in one line; "" when it is all there."""


def parse(text: bytes) -> Existing:
    """The file that is there; every name in it is a text. UnreadableConfigError."""
    try:
        found = read(text)
    except GarbledError as error:
        raise UnreadableConfigError(error.told) from error
    left_out = "; ".join(f"line {odd.line}: {odd.message}" for odd in found.odd)
    if found.value is None:
        return Existing({}, left_out)
    if not isinstance(found.value, dict):
        raise UnreadableConfigError("it is not a mapping")
    return Existing(cast("Tree", found.value), left_out)


def digest_of(tree: Tree, key: AssetKey) -> str:
    """The archive's digest that a config has; "" when it has none."""
    group = _by_name(mapping(_by_name(tree.get("genomes")).get(key.genome_digest)).get("assets")).get(key.asset_group)
    digest: object = mapping(_by_name(mapping(group).get("tags")).get(key.asset)).get("archive_digest")
    return digest if isinstance(digest, str) else ""


def compose(
    head: Head,
    entries: Sequence[ServedEntry],
    genomes: Mapping[str, Genome],
    existing: Tree,
    stays: Callable[[AssetKey], bool],
) -> Tree:
    """The new content. `stays` says of assets that we have not archived, but that the file has, whether they stay.

    What others have written is in it as they wrote it; `sound` makes it what a server can take.
    """
    written = _Written(mapping(mapping(existing.get(OURS)).get("descriptions")))
    tree: Tree = {
        "config_version": CONFIG_VERSION,
        "genome_folder": head.genome_folder,
        "genome_archive_folder": head.archive_folder,
    }
    own_remotes = bool(mapping(existing.get(OURS)).get("remotes"))
    tree |= {
        name: value
        for name, value in existing.items()
        if name not in (*tree, "genomes", OURS) and not (name == "remotes" and own_remotes)
    }
    if head.remotes:
        tree["remotes"] = {name: {"prefix": prefix.rstrip("/")} for name, prefix in head.remotes.items()}
    old_genomes = _by_name(existing.get("genomes"))
    by_genome: dict[str, list[ServedEntry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.key):
        by_genome.setdefault(entry.key.genome_digest, []).append(entry)
    found: Tree = {}
    for digest in sorted({*by_genome, *old_genomes}):
        genome = _genome(
            genomes.get(digest, Genome(digest)),
            by_genome.get(digest, []),
            mapping(old_genomes.get(digest)),
            stays,
            written,
        )
        if genome["assets"]:
            found[digest] = genome
    tree["genomes"] = found
    tree[OURS] = {"descriptions": written.marks} | ({"remotes": True} if head.remotes else {})
    return tree


class _Written:
    """Tells our descriptions from those that a person wrote."""

    def __init__(self, before: Tree) -> None:
        self._before = before
        self.marks: dict[str, str] = {}

    def text(self, slot: str, ours: str, there: object) -> str:
        """What is to stand there: a person's text, else ours, else what we wrote before."""
        if isinstance(there, str) and there and there != ours:
            if _mark(there) != self._before.get(slot):
                return there
            ours = ours or there
        if ours:
            self.marks[slot] = _mark(ours)
        return ours


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _genome(
    genome: Genome, entries: list[ServedEntry], old: Tree, stays: Callable[[AssetKey], bool], written: _Written
) -> Tree:
    groups: dict[str, list[ServedEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.key.asset_group, []).append(entry)
    old_groups = _by_name(old.get("assets"))
    assets: Tree = {}
    for group in sorted({*groups, *old_groups}):
        body = _group(genome, group, groups.get(group, []), mapping(old_groups.get(group)), stays, written)
        if body["tags"]:
            assets[group] = body
    description = written.text(genome.digest, genome.description, old.get("genome_description"))
    aliases = list(genome.aliases) or [str(alias) for alias in sequence(old.get("aliases"))]
    ours = {"aliases": aliases, "genome_description": description, "assets": assets}
    return ours | {name: value for name, value in old.items() if name not in ours}


def _group(
    genome: Genome,
    group: str,
    entries: list[ServedEntry],
    old: Tree,
    stays: Callable[[AssetKey], bool],
    written: _Written,
) -> Tree:
    old_tags = {name: mapping(value) for name, value in _by_name(old.get("tags")).items()}
    ours: Tree = {entry.key.asset: entry for entry in entries}
    tags: Tree = {}
    for name in sorted({*ours, *old_tags}):
        there = old_tags.get(name, {})
        if name in ours:
            tag = ours[name].tag
            tags[name] = tag | {key: value for key, value in there.items() if key not in tag}
        elif stays(AssetKey(genome.digest, group, name)):
            tags[name] = there
    wanted = genome.default_assets.get(group) or str(old.get("default_tag") or "default")
    default = wanted if wanted in tags else next(iter(tags), "default")
    text = next((entry.description for entry in entries if entry.key.asset == default and entry.description), "")
    text = text or next((entry.description for entry in entries if entry.description), "")
    description = written.text(f"{genome.digest}/{group}", text, old.get("asset_description"))
    body = {"asset_description": description, "default_tag": default, "tags": tags}
    return body | {name: value for name, value in old.items() if name not in body}


def render(tree: Tree) -> bytes:
    """The file's bytes: the same for the same content; names that look like numbers are quoted."""
    text = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1_000_000
    )
    return text.encode("utf-8", "replace")


def _by_name(value: object) -> Tree:
    """A mapping whose names are texts, also those that YAML takes for numbers."""
    return {str(name): item for name, item in mapping(value).items()}


_DUMPER = yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper


class _Dumper(_DUMPER):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - equal lists stay lists of their own
        return True
