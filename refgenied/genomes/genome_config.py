"""refgenie 0.12/0.13's `genome_config.yaml`, read into types. What is sound in it is taken, the rest told."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from refgenied.genomes.aliases import bounded
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.yaml_reader import read
from refgenied.genomes.yaml_scalars import Value, text_of
from refgenied.model import AssetKey, Genome, Problem

OLDEST_VERSION = 0.4
"""Of `config_version`. Before it genomes had no digests, and the files lay elsewhere."""
MOST_ASSETS = 100_000
"""Assets, and genomes, of one config; more are left out."""
_LONGEST_DESCRIPTION = 20_000  # bytes
_LARGEST_ENTRY = 1 << 17  # bytes of one asset's entry: a reply about it has 1 MiB


class Entry(NamedTuple):
    """What the config says of one asset."""

    asset_path: str
    asset_digest: str | None
    seek_keys: dict[str, str]
    description: str
    parents: tuple[str, ...]
    children: tuple[str, ...]
    archive_digest: str | None
    """In the config of an archive folder: the md5 of the archive."""


class GenomeConfig(NamedTuple):
    """The config as one read found it."""

    version: str
    genome_folder: str
    """As written, perhaps with environment variables; "" when it isn't named."""
    archive_folder: str
    servers: tuple[str, ...]
    genomes: dict[str, Genome]
    entries: dict[AssetKey, Entry]
    problems: tuple[Problem, ...]
    cut: bool
    """Whether the file ends within a line, as when it is cut off."""
    doubtful: AssetKey | None
    """The entry that such a file ends in: perhaps it is not whole, so its digest is left out."""


def parse_config(text: bytes, path: str) -> GenomeConfig:
    """Read a config; `path` is for the problems. GarbledError when it isn't a YAML mapping at all."""
    return _Reader(path).read(text)


class _Reader:
    """Walks through the values and notes where something is of the wrong type."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems = Problems()
        self._genomes: dict[str, Genome] = {}
        self._entries: dict[AssetKey, Entry] = {}
        self._beyond = 0
        """Genomes and assets beyond MOST_ASSETS."""

    def read(self, text: bytes) -> GenomeConfig:
        document = read(text)
        top = self._mapping(document.value, "the file")
        version = self._text(top.get("config_version"), "config_version")
        if _is_outdated(version):
            self._problem(
                f"config_version {version}",
                "is of an older refgenie, whose genomes have no digests: its assets cannot be read; "
                "`refgenie upgrade --target-version 0.4` brings it up to date",
            )
        else:
            self._read_genomes(self._mapping(top.get("genomes"), "genomes"))
        for odd in document.odd:
            self._problem(f"line {odd.line}:", odd.message)
        cut = bool(text) and not text.endswith(b"\n")
        doubtful = self._key_at(document.cut_at or ())
        if doubtful is not None:
            self._problem("the file", "has no newline at its end: its last entry may be cut off")
            self._entries[doubtful] = self._entries[doubtful]._replace(asset_digest=None)
        servers = self._texts(top.get("genome_servers") or top.get("genome_server"), "genome_servers")
        return GenomeConfig(
            version=version,
            genome_folder=self._path_text(top.get("genome_folder"), "genome_folder"),
            archive_folder=self._path_text(
                top.get("genome_archive_folder") or top.get("genome_archive"), "genome_archive_folder"
            ),
            servers=tuple(server.rstrip("/") for server in servers),
            genomes=self._genomes,
            entries=self._entries,
            problems=self._problems.told(),
            cut=cut,
            doubtful=doubtful,
        )

    def _key_at(self, names: tuple[str, ...]) -> AssetKey | None:
        """The entry that a value with these names above it belongs to."""
        match names:
            case ("genomes", digest, "assets", group, "tags", asset, *_):
                key = AssetKey(digest, group, asset)
                return key if key in self._entries else None
            case _:
                return None

    def _read_genomes(self, genomes: dict[str, Value]) -> None:
        for digest, value in genomes.items():
            self._genome(digest, value, genomes)
        self._give_each_alias_to_one()
        if self._beyond:
            self._problem("the file", f"names {self._beyond} more genomes and assets than {MOST_ASSETS}: left out")

    def _give_each_alias_to_one(self) -> None:
        """To the last genome that has it: that is the one refgenconf takes it for."""
        owners = {alias: digest for digest, genome in self._genomes.items() for alias in genome.aliases}
        for digest, genome in self._genomes.items():
            own = tuple(alias for alias in genome.aliases if owners[alias] == digest)
            for alias in genome.aliases:
                if owners[alias] != digest:
                    self._problem(
                        f"genomes.{digest}.aliases",
                        f"has '{alias}', which refgenie takes for the genome {owners[alias]}: it is left out here",
                    )
            if own != genome.aliases:
                self._genomes[digest] = msgspec.structs.replace(genome, aliases=own)

    def _genome(self, digest: str, value: Value, others: dict[str, Value]) -> None:
        where = f"genomes.{digest}"
        if not self._named(digest, where):
            return
        if not isinstance(value, dict):
            self._problem(where, f"should be a mapping, not {_kind(value)}")
            return
        if len(self._genomes) == MOST_ASSETS:
            self._beyond += 1
            return
        aliases = self._aliases(value.get("aliases"), f"{where}.aliases", others)
        defaults: dict[str, str] = {}
        for group, body in self._mapping(value.get("assets"), f"{where}.assets").items():
            self._group(digest, group, body, defaults)
        self._genomes[digest] = Genome(
            digest,
            aliases,
            self._text(value.get("genome_description"), f"{where}.genome_description")[:_LONGEST_DESCRIPTION],
            defaults,
        )

    def _aliases(self, value: Value, where: str, genomes: dict[str, Value]) -> tuple[str, ...]:
        """Those that can only mean this genome, as far as it alone can tell."""
        fitting: list[str] = []
        for alias in self._texts(value, where):
            if not is_name(alias):
                self._problem(where, f"has '{alias}', which cannot be the name of a genome: it is left out")
            elif alias in genomes:
                self._problem(where, f"has '{alias}', which is the digest of a genome itself: it is left out")
            else:
                fitting.append(alias)
        taken, beyond = bounded(fitting)
        if beyond:
            self._problem(where, f"are too many: {beyond} of them are left out")
        return taken

    def _group(self, digest: str, group: str, value: Value, defaults: dict[str, str]) -> None:
        where = f"genomes.{digest}.assets.{group}"
        if not self._named(group, where):
            return
        body = self._mapping(value, where)
        tags = self._mapping(body.get("tags"), f"{where}.tags")
        default = self._text(body.get("default_tag"), f"{where}.default_tag") or next(iter(tags), "")
        if is_name(default):
            defaults[group] = default
        description = self._text(body.get("asset_description"), f"{where}.asset_description")
        for tag, entry in tags.items():
            place = f"{where}.tags.{tag}"
            if not self._named(tag, place):
                continue
            if len(self._entries) == MOST_ASSETS:
                self._beyond += 1
            else:
                self._entry(AssetKey(digest, group, tag), entry, description, place)

    def _entry(self, key: AssetKey, value: Value, description: str, where: str) -> None:
        if not isinstance(value, dict):
            self._problem(where, f"should be a mapping, not {_kind(value)}")
            return
        asset_path = text_of(value.get("asset_path"))
        if asset_path is None and value.get("asset_path") is None:
            asset_path = key.asset_group  # refgenie writes relatives before the rest: such an entry has no path yet
        if asset_path is None or "\0" in asset_path:
            self._problem(f"{where}.asset_path", f"should be a path, not {_kind(value.get('asset_path'))}")
            return
        seek_keys = {
            name: self._text(target, f"{where}.seek_keys.{name}")
            for name, target in self._mapping(value.get("seek_keys"), f"{where}.seek_keys").items()
        }
        entry = Entry(
            asset_path=asset_path,
            asset_digest=self._text(value.get("asset_digest"), f"{where}.asset_digest") or None,
            seek_keys={name: target for name, target in seek_keys.items() if target},
            description=self._text(value.get("tag_description"), f"{where}.tag_description") or description,
            parents=self._texts(value.get("asset_parents"), f"{where}.asset_parents"),
            children=self._texts(value.get("asset_children"), f"{where}.asset_children"),
            archive_digest=self._text(value.get("archive_digest"), f"{where}.archive_digest") or None,
        )
        if _size(entry) > _LARGEST_ENTRY:
            self._problem(where, f"is left out: it has more than {_LARGEST_ENTRY} bytes")
        else:
            self._entries[key] = entry

    def _problem(self, where: str, message: str) -> None:
        self._problems.add(self._path, f"{where} {message}")

    def _named(self, name: str, where: str) -> bool:
        if is_name(name):
            return True
        self._problem(where, "is left out: its name cannot be the name of a folder")
        return False

    def _mapping(self, value: Value, where: str) -> dict[str, Value]:
        if isinstance(value, dict):
            return value
        if value is not None:
            self._problem(where, f"should be a mapping, not {_kind(value)}")
        return {}

    def _text(self, value: Value, where: str) -> str:
        text = text_of(value)
        if text is None and value is not None:
            self._problem(where, f"should be a text, not {_kind(value)}")
        return text or ""

    def _path_text(self, value: Value, where: str) -> str:
        text = self._text(value, where)
        if "\0" not in text:
            return text
        self._problem(where, "has a NUL, as no path has")
        return ""

    def _texts(self, value: Value, where: str) -> tuple[str, ...]:
        """A list of texts; a single one counts as a list of one."""
        if isinstance(value, list):
            return tuple(text for item in value if (text := text_of(item)) is not None)
        if isinstance(value, dict):
            self._problem(where, f"should be a list, not {_kind(value)}")
        text = text_of(value)
        return () if text is None else (text,)


def _kind(value: Value) -> str:
    """What a value is, without what it says: the file may be one that its reader has no right to see."""
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return "nothing" if value is None else f"'{value}'"


def _is_outdated(version: str) -> bool:
    try:
        return float(version) < OLDEST_VERSION
    except ValueError:
        return False


def _size(entry: Entry) -> int:
    return _bytes(entry.description, *entry.seek_keys, *entry.seek_keys.values(), *entry.parents, *entry.children)


def _bytes(*texts: str) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def named_folder(written: str, config: str) -> str:
    """The folder that a config means: refgenconf takes a path as it is written, and the config's own folder for none.

    A relative one begins at the config. Variables and `~` are put in, as refgenie before 0.13 does, only when there is
    no folder of that very name.
    """
    own = os.path.dirname(os.path.abspath(config))
    literal = os.path.normpath(os.path.join(own, written))
    if os.path.isdir(literal):
        return literal
    return os.path.normpath(os.path.join(own, expanded(written)))


def expanded(path: str) -> str:
    """With environment variables and `~` put in."""
    return os.path.expanduser(os.path.expandvars(path)) if path else ""
