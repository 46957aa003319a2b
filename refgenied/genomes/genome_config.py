"""Reads refgenie 0.12/0.13's `genome_config.yaml` into types. The sound parts are taken, the others are reported."""

from __future__ import annotations

import os
from collections.abc import Container
from sys import intern

import msgspec

from refgenied.genomes.aliases import first_aliases
from refgenied.genomes.config_mapping import Mapping
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.yaml_reader import Document, read
from refgenied.genomes.yaml_scalars import Value, text_of
from refgenied.model import AssetKey, Genome, Problem

OLDEST_VERSION = 0.4
"""The oldest `config_version` that we read. In older ones genomes had no digests, and the files lay elsewhere."""
MAX_ASSETS = 150_000
"""The most assets, and the most genomes, of one config; more are left out."""
_MAX_DESCRIPTION = 20_000
"""The most characters of one genome's description."""
_MAX_ENTRY_BYTES = 1 << 17
"""The most bytes of one asset's entry, because a reply about it may have 1 MiB."""


class ConfigEntry(msgspec.Struct, frozen=True, gc=False):
    """The config's entry of one asset."""

    asset_path: str = ""
    asset_digest: str | None = None
    seek_keys: dict[str, str] = {}
    description: str = ""
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    archive_digest: str | None = None
    """The md5 of the archive (only in the config of an archive folder)."""


class GenomeConfig(msgspec.Struct, frozen=True):
    """The config as one read found it."""

    version: str = ""
    genome_folder: str = ""
    """The path as it is written, perhaps with environment variables; "" when the config does not name it."""
    archive_folder: str = ""
    servers: tuple[str, ...] = ()
    genomes: dict[str, Genome] = {}
    entries: dict[AssetKey, ConfigEntry] = {}
    problems: tuple[Problem, ...] = ()
    cut: bool = False
    """Whether the file ends within a line, like a file that is cut off."""
    doubtful: AssetKey | None = None
    """The last entry of such a file. It may be incomplete, so its digest is left out."""


def parse_config(text: bytes, path: str) -> GenomeConfig:
    """Read a config; `path` is for the problems. GarbledError when it is not a YAML mapping at all."""
    return config_of(read(text), text, path)


def config_of(document: Document, text: bytes, path: str) -> GenomeConfig:
    """The config in a document that was read from this text. GarbledError when it is not a mapping at all."""
    return EntryReader(path).read(document, text)


class EntryReader:
    """Takes the sound parts of one config, and notes the others."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems = Problems()
        self.genomes: dict[str, Genome] = {}
        self.entries: dict[AssetKey, ConfigEntry] = {}
        self._beyond = 0
        """The number of genomes and assets beyond MAX_ASSETS."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._problems.told()

    def read(self, document: Document, text: bytes) -> GenomeConfig:
        """All of a config."""
        values = Mapping({"the file": document.value}, "", self._report).optional("the file").values
        for old, new in (("genome_server", "genome_servers"), ("genome_archive", "genome_archive_folder")):
            values = {**values, new: values.get(new) or values.get(old)}
        top = Mapping(values, "", self._report)
        version = top.text("config_version")
        if _is_outdated(version):
            self._report(
                f"config_version {version}",
                "is of an older refgenie, whose genomes have no digests: its assets cannot be read; "
                "`refgenie upgrade --target-version 0.4` brings it up to date",
            )
        else:
            self._read_genomes(top.optional("genomes"))
        for odd in document.odd:
            self._report(f"line {odd.line}:", odd.message)
        doubtful = self._key_at(document.cut_at or ())
        if doubtful is not None:
            self._report("the file", "has no newline at its end: its last entry may be cut off")
            self.entries[doubtful] = msgspec.structs.replace(self.entries[doubtful], asset_digest=None)
        return GenomeConfig(
            version=version,
            servers=tuple(server.rstrip("/") for server in top.texts("genome_servers")),
            genome_folder=top.folder("genome_folder"),
            archive_folder=top.folder("genome_archive_folder"),
            genomes=self.genomes,
            entries=self.entries,
            problems=self.problems,
            cut=bool(text) and not text.endswith(b"\n"),
            doubtful=doubtful,
        )

    def _report(self, where: str, message: str) -> None:
        self._problems.add(self._path, f"{where} {message}")

    def _key_at(self, names: tuple[str, ...]) -> AssetKey | None:
        """The asset whose entry holds a value with these names above it."""
        match names:
            case ("genomes", digest, "assets", group, "tags", asset, *_):
                key = AssetKey(digest, group, asset)
                return key if key in self.entries else None
            case _:
                return None

    def read_genomes(self, genomes: dict[str, Value]) -> None:
        """Some genomes of a config, by their digests."""
        self._read_genomes(Mapping(genomes, "genomes.", self._report))

    def read_groups(self, digest: str, groups: dict[str, Value]) -> dict[str, str]:
        """Some asset groups of a genome. Returns the default asset of each."""
        return self._read_groups(digest, Mapping(groups, f"genomes.{digest}.assets.", self._report))

    def _read_genomes(self, genomes: Mapping) -> None:
        for digest in genomes.names():
            genome = genomes.mapping(digest)
            if genome is None:
                continue
            if len(self.genomes) == MAX_ASSETS:
                self._beyond += 1
                continue
            aliases = self._aliases(genome, genomes.values)
            defaults = self._read_groups(digest, genome.optional("assets"))
            description = genome.text("genome_description")[:_MAX_DESCRIPTION]
            self.genomes[digest] = Genome(digest, aliases, description, defaults)
        self._give_each_alias_to_one()
        if self._beyond:
            self._report("the file", f"names {self._beyond} more genomes and assets than {MAX_ASSETS}: left out")

    def _give_each_alias_to_one(self) -> None:
        """If several genomes have an alias, only the last one keeps it: refgenconf resolves it to this genome."""
        owners = {alias: digest for digest, genome in self.genomes.items() for alias in genome.aliases}
        for digest, genome in self.genomes.items():
            foreign = [alias for alias in genome.aliases if owners[alias] != digest]
            for alias in foreign:
                self._report(
                    f"genomes.{digest}.aliases",
                    f"has '{alias}', which refgenie takes for the genome {owners[alias]}: it is left out here",
                )
            if foreign:
                own = tuple(alias for alias in genome.aliases if owners[alias] == digest)
                self.genomes[digest] = msgspec.structs.replace(genome, aliases=own)

    def _aliases(self, genome: Mapping, genomes: Container[str]) -> tuple[str, ...]:
        """The aliases that can only mean this genome, as far as its entry shows."""
        fitting: list[str] = []
        for alias in genome.texts("aliases"):
            if not is_name(alias):
                genome.report("aliases", f"has '{alias}', which cannot be the name of a genome: it is left out")
            elif alias in genomes:
                genome.report("aliases", f"has '{alias}', which is the digest of a genome itself: it is left out")
            else:
                fitting.append(alias)
        taken, left_out = first_aliases(fitting)
        if left_out:
            genome.report("aliases", f"are too many: {left_out} of them are left out")
        return taken

    def _read_groups(self, digest: str, groups: Mapping) -> dict[str, str]:
        """Returns the default asset of each group."""
        defaults: dict[str, str] = {}
        for name in map(intern, groups.names()):
            group = groups.optional(name)
            tags = group.optional("tags")
            default = group.text("default_tag") or next(iter(tags.values), "")
            if is_name(default):
                defaults[name] = intern(default)
            description = group.text("asset_description")
            for tag in map(intern, tags.names()):
                if len(self.entries) == MAX_ASSETS:
                    self._beyond += 1
                elif (entry := tags.mapping(tag)) is not None:
                    self._read_entry(AssetKey(digest, name, tag), tags, entry, description)
        return defaults

    def _read_entry(self, key: AssetKey, tags: Mapping, value: Mapping, description: str) -> None:
        written = value.values.get("asset_path")
        # refgenie writes parents and children first: such an entry has no path yet
        asset_path = key.asset_group if written is None else text_of(written)
        if asset_path is None or "\0" in asset_path:
            value.wrong_type("asset_path", "a path")
            return
        seek_keys = value.optional("seek_keys")
        # the texts that many entries have are kept once
        entry = ConfigEntry(
            asset_path=intern(asset_path),
            asset_digest=value.text("asset_digest") or None,
            seek_keys={intern(name): target for name in seek_keys.values if (target := seek_keys.text(name))},
            description=intern(value.text("tag_description") or description),
            parents=tuple(map(intern, value.texts("asset_parents"))),
            children=tuple(map(intern, value.texts("asset_children"))),
            archive_digest=value.text("archive_digest") or None,
        )
        if _bytes(entry) > _MAX_ENTRY_BYTES:
            tags.report(key.asset, f"is left out: it has more than {_MAX_ENTRY_BYTES} bytes")
        else:
            self.entries[key] = entry


def _is_outdated(version: str) -> bool:
    try:
        return float(version) < OLDEST_VERSION
    except ValueError:
        return False


def _bytes(entry: ConfigEntry) -> int:
    texts = (entry.description, *entry.seek_keys, *entry.seek_keys.values(), *entry.parents, *entry.children)
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def named_folder(written: str, config: str) -> str:
    """The folder that a config names. As in refgenconf, a path is taken as written; no path means the config's folder.

    A relative path begins at the config. Variables and `~` are replaced, as refgenie before 0.13 does, only if no
    folder has exactly this name.
    """
    own = os.path.dirname(os.path.abspath(config))
    literal = os.path.normpath(os.path.join(own, written))
    if os.path.isdir(literal):
        return literal
    return os.path.normpath(os.path.join(own, expanded(written)))


def expanded(path: str) -> str:
    """The path with environment variables and `~` replaced."""
    return os.path.expanduser(os.path.expandvars(path)) if path else ""
