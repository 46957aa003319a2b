"""refgenie 0.12/0.13's `genome_config.yaml`, read into types. What is sound in it is taken, the rest is reported."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from refgenied.genomes.aliases import first_aliases
from refgenied.genomes.problems import Problems
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.yaml_reader import read
from refgenied.genomes.yaml_scalars import Value, text_of
from refgenied.model import AssetKey, Genome, Problem

OLDEST_VERSION = 0.4
"""Of `config_version`. Before it genomes had no digests, and the files lay elsewhere."""
MAX_ASSETS = 100_000
"""Assets, and genomes, of one config; more are left out."""
_MAX_DESCRIPTION = 20_000
"""Characters of one genome's description."""
_MAX_ENTRY_BYTES = 1 << 17
"""Of one asset's entry: a reply about it has 1 MiB."""


class ConfigEntry(msgspec.Struct, frozen=True):
    """What the config says of one asset."""

    asset_path: str = ""
    asset_digest: str | None = None
    seek_keys: dict[str, str] = {}
    description: str = ""
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    archive_digest: str | None = None
    """In the config of an archive folder: the md5 of the archive."""


class GenomeConfig(NamedTuple):
    """The config as one read found it."""

    version: str
    genome_folder: str
    """As written, perhaps with environment variables; "" when the config does not name it."""
    archive_folder: str
    servers: tuple[str, ...]
    genomes: dict[str, Genome]
    entries: dict[AssetKey, ConfigEntry]
    problems: tuple[Problem, ...]
    cut: bool
    """Whether the file ends within a line, as when it is cut off."""
    doubtful: AssetKey | None
    """The entry at the end of such a file: it may be incomplete, so its digest is left out."""


def parse_config(text: bytes, path: str) -> GenomeConfig:
    """Read a config; `path` is for the problems. GarbledError when it is not a YAML mapping at all."""
    return _Reader(path).read(text)


class _Reader:
    """Goes through the values and notes where something has the wrong type."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems = Problems()
        self._genomes: dict[str, Genome] = {}
        self._entries: dict[AssetKey, ConfigEntry] = {}
        self._beyond = 0
        """Genomes and assets beyond MAX_ASSETS."""

    def read(self, text: bytes) -> GenomeConfig:
        document = read(text)
        top = self._mapping({"the file": document.value}, "the file")
        version = self._text(top, "config_version")
        if _is_outdated(version):
            self._problem(
                f"config_version {version}",
                "is of an older refgenie, whose genomes have no digests: its assets cannot be read; "
                "`refgenie upgrade --target-version 0.4` brings it up to date",
            )
        else:
            self._read_genomes(self._mapping(top, "genomes"))
        for odd in document.odd:
            self._problem(f"line {odd.line}:", odd.message)
        doubtful = self._key_at(document.cut_at or ())
        if doubtful is not None:
            self._problem("the file", "has no newline at its end: its last entry may be cut off")
            self._entries[doubtful] = msgspec.structs.replace(self._entries[doubtful], asset_digest=None)
        servers = self._texts(top.get("genome_servers") or top.get("genome_server"), "genome_servers")
        archive_folder = top.get("genome_archive_folder") or top.get("genome_archive")
        return GenomeConfig(
            version=version,
            genome_folder=self._folder(top.get("genome_folder"), "genome_folder"),
            archive_folder=self._folder(archive_folder, "genome_archive_folder"),
            servers=tuple(server.rstrip("/") for server in servers),
            genomes=self._genomes,
            entries=self._entries,
            problems=self._problems.told(),
            cut=bool(text) and not text.endswith(b"\n"),
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
        for digest in genomes:
            self._genome(digest, genomes)
        self._give_each_alias_to_one()
        if self._beyond:
            self._problem("the file", f"names {self._beyond} more genomes and assets than {MAX_ASSETS}: left out")

    def _give_each_alias_to_one(self) -> None:
        """Leave an alias to the last genome that has it: refgenconf resolves it to that one."""
        owners = {alias: digest for digest, genome in self._genomes.items() for alias in genome.aliases}
        for digest, genome in self._genomes.items():
            foreign = [alias for alias in genome.aliases if owners[alias] != digest]
            for alias in foreign:
                self._problem(
                    f"genomes.{digest}.aliases",
                    f"has '{alias}', which refgenie takes for the genome {owners[alias]}: it is left out here",
                )
            if foreign:
                own = tuple(alias for alias in genome.aliases if owners[alias] == digest)
                self._genomes[digest] = msgspec.structs.replace(genome, aliases=own)

    def _genome(self, digest: str, genomes: dict[str, Value]) -> None:
        where = f"genomes.{digest}"
        if not self._named(digest, where):
            return
        genome = genomes[digest]
        if not isinstance(genome, dict):
            self._wrong_type(genome, "a mapping", where)
            return
        if len(self._genomes) == MAX_ASSETS:
            self._beyond += 1
            return
        aliases = self._aliases(genome.get("aliases"), f"{where}.aliases", genomes)
        defaults: dict[str, str] = {}
        groups = self._mapping(genome, "assets", where)
        for group in groups:
            self._group(digest, group, groups, defaults)
        description = self._text(genome, "genome_description", where)[:_MAX_DESCRIPTION]
        self._genomes[digest] = Genome(digest, aliases, description, defaults)

    def _aliases(self, value: Value, where: str, genomes: dict[str, Value]) -> tuple[str, ...]:
        """The aliases that can only mean this genome, as far as its entry alone can tell."""
        fitting: list[str] = []
        for alias in self._texts(value, where):
            if not is_name(alias):
                self._problem(where, f"has '{alias}', which cannot be the name of a genome: it is left out")
            elif alias in genomes:
                self._problem(where, f"has '{alias}', which is the digest of a genome itself: it is left out")
            else:
                fitting.append(alias)
        taken, left_out = first_aliases(fitting)
        if left_out:
            self._problem(where, f"are too many: {left_out} of them are left out")
        return taken

    def _group(self, digest: str, group: str, groups: dict[str, Value], defaults: dict[str, str]) -> None:
        assets = f"genomes.{digest}.assets"
        where = f"{assets}.{group}"
        if not self._named(group, where):
            return
        body = self._mapping(groups, group, assets)
        tags = self._mapping(body, "tags", where)
        default = self._text(body, "default_tag", where) or next(iter(tags), "")
        if is_name(default):
            defaults[group] = default
        description = self._text(body, "asset_description", where)
        for tag, entry in tags.items():
            place = f"{where}.tags.{tag}"
            if not self._named(tag, place):
                continue
            if len(self._entries) == MAX_ASSETS:
                self._beyond += 1
            elif isinstance(entry, dict):
                self._entry(AssetKey(digest, group, tag), entry, description, place)
            else:
                self._wrong_type(entry, "a mapping", place)

    def _entry(self, key: AssetKey, value: dict[str, Value], description: str, where: str) -> None:
        written = value.get("asset_path")
        # refgenie writes relatives before the rest: such an entry has no path yet
        asset_path = key.asset_group if written is None else text_of(written)
        if asset_path is None or "\0" in asset_path:
            self._wrong_type(written, "a path", f"{where}.asset_path")
            return
        seek_keys = self._mapping(value, "seek_keys", where)
        targets = {name: self._text(seek_keys, name, f"{where}.seek_keys") for name in seek_keys}
        entry = ConfigEntry(
            asset_path=asset_path,
            asset_digest=self._text(value, "asset_digest", where) or None,
            seek_keys={name: target for name, target in targets.items() if target},
            description=self._text(value, "tag_description", where) or description,
            parents=self._texts(value.get("asset_parents"), f"{where}.asset_parents"),
            children=self._texts(value.get("asset_children"), f"{where}.asset_children"),
            archive_digest=self._text(value, "archive_digest", where) or None,
        )
        if _bytes(entry) > _MAX_ENTRY_BYTES:
            self._problem(where, f"is left out: it has more than {_MAX_ENTRY_BYTES} bytes")
        else:
            self._entries[key] = entry

    # ----------------------------------------------------------------- values; `where` is the way to their mapping

    def _problem(self, where: str, message: str) -> None:
        self._problems.add(self._path, f"{where} {message}")

    def _wrong_type(self, value: Value, wanted: str, where: str) -> None:
        self._problem(where, f"should be {wanted}, not {_kind(value)}")

    def _named(self, name: str, where: str) -> bool:
        if is_name(name):
            return True
        self._problem(where, "is left out: its name cannot be the name of a folder")
        return False

    def _mapping(self, above: dict[str, Value], name: str, where: str = "") -> dict[str, Value]:
        value = above.get(name)
        if isinstance(value, dict):
            return value
        if value is not None:
            self._wrong_type(value, "a mapping", f"{where}.{name}" if where else name)
        return {}

    def _text(self, above: dict[str, Value], name: str, where: str = "") -> str:
        value = above.get(name)
        text = text_of(value)
        if text is None and value is not None:
            self._wrong_type(value, "a text", f"{where}.{name}" if where else name)
        return text or ""

    def _folder(self, value: Value, name: str) -> str:
        text = self._text({name: value}, name)
        if "\0" not in text:
            return text
        self._problem(name, "has a NUL, as no path has")
        return ""

    def _texts(self, value: Value, where: str) -> tuple[str, ...]:
        """A list of texts; a single one counts as a list of one."""
        if isinstance(value, list):
            return tuple(text for item in value if (text := text_of(item)) is not None)
        if isinstance(value, dict):
            self._wrong_type(value, "a list", where)
        text = text_of(value)
        return () if text is None else (text,)


def _kind(value: Value) -> str:
    """What type a value has, without its text: its reader may have no right to see the file."""
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


def _bytes(entry: ConfigEntry) -> int:
    texts = (entry.description, *entry.seek_keys, *entry.seek_keys.values(), *entry.parents, *entry.children)
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def named_folder(written: str, config: str) -> str:
    """The folder that a config means: refgenconf takes a path as it is written; no path means the config's own folder.

    A relative path begins at the config. Variables and `~` are replaced, as refgenie before 0.13 does, only when there
    is no folder of that very name.
    """
    own = os.path.dirname(os.path.abspath(config))
    literal = os.path.normpath(os.path.join(own, written))
    if os.path.isdir(literal):
        return literal
    return os.path.normpath(os.path.join(own, expanded(written)))


def expanded(path: str) -> str:
    """The path with environment variables and `~` replaced."""
    return os.path.expanduser(os.path.expandvars(path)) if path else ""
