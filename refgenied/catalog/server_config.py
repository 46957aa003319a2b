"""`genome_config.yaml` of the archive folder: made from the archives; the parts that a person has written stay.

We write these parts: the head, per genome `aliases` and the archived assets, per asset `default_tag`, per tag the eight
keys. Everything else in the file stays. We change a description only if it is still the text that we wrote last; a hash
of that text is in `refgenied:` at the end of the file.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec
import structlog
import yaml

from refgenied.catalog.entry import ServedEntry
from refgenied.catalog.sound import ConfigTree, Sound, mapping, sequence
from refgenied.files.durable import keep_beside, save_atomically
from refgenied.files.regular import identity, read_regular
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.genomes.yaml_reader import MAX_BYTES, GarbledError, read
from refgenied.model import AssetKey, Genome

log = structlog.get_logger("serving")

CONFIG_VERSION = 0.4
OURS = "refgenied"

_DIGEST = re.compile(r"\w{48}")
_NAME = re.compile(r"\S+")


class UnreadableConfigError(Exception):
    """The existing file is not a refgenie config."""


class Head(msgspec.Struct, frozen=True):
    genome_folder: str
    archive_folder: str
    remotes: dict[str, str]
    """Name → address. If it is empty, the remotes in the file stay."""


class ConfigFile:
    """The file in one archive folder. Blocking; one call at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CONFIG_NAME
        self.mended: tuple[str, ...] = ()
        """Lines about values that were changed or left out because the server refuses them."""
        self._composed: tuple[object, ...] | None = None
        """The parts from which the config was last made, and the identity of the file then."""
        self._content: tuple[object, ConfigTree] | None = None
        """The file's identity and content when it was written or read last."""

    def read(self) -> ConfigTree:
        """The file's content. A file that is not ours, or that is not a config, is copied first. OSError."""
        found = identity(self.path)
        if self._content is not None and self._content[0] == found:
            return self._content[1]  # reading it takes a second for 2,000 archives
        try:
            text = read_regular(self.path, MAX_BYTES)
        except FileNotFoundError:
            return {}
        try:
            tree, left_out = parse_server_config(text)
        except UnreadableConfigError as error:
            tree, left_out = {}, str(error)
        if left_out:
            aside = keep_beside(self.path, "unreadable")
            log.warning("serving.config_unreadable", path=str(self.path), kept_as=str(aside), error=left_out)
        elif tree and OURS not in tree:
            aside = keep_beside(self.path, "before-refgenied")
            log.warning("serving.config_taken_over", path=str(self.path), kept_as=str(aside))
        self._content = (found, tree)
        return tree

    def write(
        self,
        head: Head,
        entries: Sequence[ServedEntry],
        genomes: Mapping[str, Genome],
        known: frozenset[AssetKey],
        is_foreign: Callable[[AssetKey], bool],
    ) -> bool:
        """Bring the file up to date. Returns whether this changed it. OSError.

        An asset that is not `known` stays in it if another program has archived the asset (`is_foreign`).
        """
        inputs = (entries, genomes, head, known)
        if self._composed == (inputs, identity(self.path)):
            return False
        composer = Composer(genomes, self.read(), lambda key: key not in known and is_foreign(key))
        sound = Sound(composer.compose(head, entries))
        self.mended = sound.lines
        changed = save_atomically(self.path, render_config(sound.tree))
        self._composed = (inputs, identity(self.path))
        self._content = (identity(self.path), sound.tree)
        if changed:
            log.info("serving.config_written", path=str(self.path), archives=len(entries))
        return changed


def why_not_served(key: AssetKey) -> str:
    """Why refgenieserver 0.8.0 cannot serve an asset of this name; "" when it can."""
    if not _DIGEST.fullmatch(key.genome_digest):
        length = len(key.genome_digest)
        return f"of genomes with a {length}-character digest (refgenie 1); refgenieserver 0.8.0 takes 48 characters"
    if not (_NAME.fullmatch(key.asset_group) and _NAME.fullmatch(key.asset)):
        return "with a space in their names; refgenieserver takes none"
    return ""


# ----------------------------------------------------------------- reading


def parse_server_config(text: bytes) -> tuple[ConfigTree, str]:
    """The content of a file, with every name as a text; and one line about the parts without meaning that are left out
    ("" when there are none). UnreadableConfigError.
    """
    try:
        found = read(text)
    except GarbledError as error:
        raise UnreadableConfigError(str(error)) from error
    left_out = "; ".join(f"line {odd.line}: {odd.message}" for odd in found.odd)
    if found.value is None:
        return {}, left_out
    if not isinstance(found.value, dict):
        raise UnreadableConfigError("it is not a mapping")
    return cast("ConfigTree", found.value), left_out


def archive_digest_in(tree: ConfigTree, key: AssetKey) -> str:
    """The digest of an asset's archive in a config; "" when it has none."""
    found: object = tree
    for name in ("genomes", key.genome_digest, "assets", key.asset_group, "tags", key.asset, "archive_digest"):
        found = _by_name(found).get(name)
    return found if isinstance(found, str) else ""


def _by_name(value: object) -> ConfigTree:
    """The mapping with all names as texts, also names that YAML reads as numbers."""
    return {str(name): item for name, item in mapping(value).items()}


# ----------------------------------------------------------------- composing


class Composer:
    """Makes the new content from the `existing` content. Texts of other people are copied as they are; `sound` later
    changes those that a server would refuse.

    `stays` says whether an asset that is in the file, but that we have not archived, stays in the file.
    """

    def __init__(self, genomes: Mapping[str, Genome], existing: ConfigTree, stays: Callable[[AssetKey], bool]) -> None:
        self._genomes = genomes
        self._existing = existing
        self._stays = stays
        self._ours = mapping(existing.get(OURS))
        self._before = mapping(self._ours.get("descriptions"))
        self._marks: dict[str, str] = {}
        """A hash of each description that we wrote."""

    def compose(self, head: Head, entries: Iterable[ServedEntry]) -> ConfigTree:
        tree: ConfigTree = {
            "config_version": CONFIG_VERSION,
            "genome_folder": head.genome_folder,
            "genome_archive_folder": head.archive_folder,
        }
        ours = {*tree, "genomes", OURS, *(["remotes"] if self._ours.get("remotes") else [])}
        tree |= {name: value for name, value in self._existing.items() if name not in ours}
        if head.remotes:
            tree["remotes"] = {name: {"prefix": prefix.rstrip("/")} for name, prefix in head.remotes.items()}
        old = _by_name(self._existing.get("genomes"))
        new: dict[str, dict[str, list[ServedEntry]]] = {}
        for entry in sorted(entries, key=lambda entry: entry.key):
            new.setdefault(entry.key.genome_digest, {}).setdefault(entry.key.asset_group, []).append(entry)
        found = {
            digest: self._genome(digest, new.get(digest, {}), mapping(old.get(digest)))
            for digest in sorted({*new, *old})
        }
        tree["genomes"] = {digest: genome for digest, genome in found.items() if genome["assets"]}
        tree[OURS] = {"descriptions": self._marks} | ({"remotes": True} if head.remotes else {})
        return tree

    def _genome(self, digest: str, new: Mapping[str, list[ServedEntry]], old: ConfigTree) -> ConfigTree:
        genome = self._genomes.get(digest, Genome(digest))
        old_groups = _by_name(old.get("assets"))
        assets = {
            group: self._group(genome, group, new.get(group, []), mapping(old_groups.get(group)))
            for group in sorted({*new, *old_groups})
        }
        description = self._text(digest, genome.description, old.get("genome_description"))
        ours: ConfigTree = {
            "aliases": list(genome.aliases) or [str(alias) for alias in sequence(old.get("aliases"))],
            "genome_description": description,
            "assets": {group: body for group, body in assets.items() if body["tags"]},
        }
        return ours | {name: value for name, value in old.items() if name not in ours}

    def _group(self, genome: Genome, group: str, entries: list[ServedEntry], old: ConfigTree) -> ConfigTree:
        old_tags = {name: mapping(value) for name, value in _by_name(old.get("tags")).items()}
        ours = {entry.key.asset: entry.tag for entry in entries}
        tags: ConfigTree = {}
        for name in sorted({*ours, *old_tags}):
            there = old_tags.get(name, {})
            if name in ours:
                tags[name] = ours[name] | {key: value for key, value in there.items() if key not in ours[name]}
            elif self._stays(AssetKey(genome.digest, group, name)):
                tags[name] = there
        wanted = genome.default_assets.get(group) or str(old.get("default_tag") or "default")
        default = wanted if wanted in tags else next(iter(tags), "default")
        by_default = sorted(entries, key=lambda entry: entry.key.asset != default)
        text = next((entry.description for entry in by_default if entry.description), "")
        description = self._text(f"{genome.digest}/{group}", text, old.get("asset_description"))
        body = {"asset_description": description, "default_tag": default, "tags": tags}
        return body | {name: value for name, value in old.items() if name not in body}

    def _text(self, slot: str, ours: str, there: object) -> str:
        """The description for this slot: a person's text, else ours, else our earlier text."""
        if isinstance(there, str) and there and there != ours:
            if _mark(there) != self._before.get(slot):
                return there
            ours = ours or there
        if ours:
            self._marks[slot] = _mark(ours)
        return ours


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def render_config(tree: ConfigTree) -> bytes:
    """The file's bytes: the same content gives the same bytes. Names that look like numbers are quoted."""
    text = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1_000_000
    )
    return text.encode("utf-8", "replace")


_DUMPER = yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper


class _Dumper(_DUMPER):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - equal lists are all written out
        return True
