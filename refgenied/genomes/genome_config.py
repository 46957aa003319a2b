"""refgenie 0.12/0.13's `genome_config.yaml`, read into types. What is sound in it is taken, the rest told."""

from __future__ import annotations

import os
from typing import NamedTuple

from refgenied.genomes.enclosure import shown
from refgenied.genomes.registry_path import is_name
from refgenied.genomes.yaml_text import Value, load
from refgenied.model import AssetKey, Genome, Problem


class Entry(NamedTuple):
    """What the config says of one asset."""

    asset_path: str
    asset_digest: str | None
    seek_keys: dict[str, str]
    description: str
    parents: tuple[str, ...]
    children: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether it has all that refgenie writes at the end of a build."""
        return bool(self.asset_digest and self.seek_keys)


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
    doubtful: AssetKey | None
    """The entry at the end of a file that ends within a line: perhaps it is cut off, so its digest is left out."""


def parse_config(text: bytes, path: str) -> GenomeConfig:
    """Read a config; `path` is for the problems. GarbledError when it isn't a YAML mapping at all."""
    return _Reader(path).read(text)


class _Reader:
    """Walks through the values and notes where something is of the wrong type."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems: list[Problem] = []
        self._genomes: dict[str, Genome] = {}
        self._entries: dict[AssetKey, Entry] = {}

    def read(self, text: bytes) -> GenomeConfig:
        top = self._mapping(load(text), "the file")
        for digest, value in self._mapping(top.get("genomes"), "genomes").items():
            self._genome(digest, value)
        doubtful: AssetKey | None = None
        if not text.endswith(b"\n"):
            self._problem("the file", "has no newline at its end: its last entry may be cut off")
            doubtful = next(reversed(self._entries), None)
        if doubtful:
            self._entries[doubtful] = self._entries[doubtful]._replace(asset_digest=None)
        servers = self._texts(top.get("genome_servers") or top.get("genome_server"), "genome_servers")
        return GenomeConfig(
            version=self._text(top.get("config_version"), "config_version"),
            genome_folder=self._path_text(top.get("genome_folder"), "genome_folder"),
            archive_folder=self._path_text(
                top.get("genome_archive_folder") or top.get("genome_archive"), "genome_archive_folder"
            ),
            servers=tuple(server.rstrip("/") for server in servers),
            genomes=self._genomes,
            entries=self._entries,
            problems=tuple(self._problems),
            doubtful=doubtful,
        )

    def _genome(self, digest: str, value: Value) -> None:
        where = f"genomes.{digest}"
        if not self._named(digest, where) or not isinstance(value, dict):
            if not isinstance(value, dict):
                self._problem(where, f"should be a mapping, not {_kind(value)}")
            return
        defaults: dict[str, str] = {}
        for group, body in self._mapping(value.get("assets"), f"{where}.assets").items():
            self._group(digest, group, body, defaults)
        self._genomes[digest] = Genome(
            digest,
            tuple(a for a in self._texts(value.get("aliases"), f"{where}.aliases") if is_name(a)),
            self._text(value.get("genome_description"), f"{where}.genome_description"),
            defaults,
        )

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
            if self._named(tag, place):
                self._entry(AssetKey(digest, group, tag), entry, description, place)

    def _entry(self, key: AssetKey, value: Value, description: str, where: str) -> None:
        if not isinstance(value, dict):
            self._problem(where, f"should be a mapping, not {_kind(value)}")
            return
        asset_path = value.get("asset_path")
        if asset_path is None:
            asset_path = key.asset_group  # refgenie writes relatives before the rest: such an entry has no path yet
        if not isinstance(asset_path, str) or "\0" in asset_path:
            self._problem(f"{where}.asset_path", f"should be a path, not {_kind(asset_path)}")
            return
        seek_keys = self._mapping(value.get("seek_keys"), f"{where}.seek_keys")
        self._entries[key] = Entry(
            asset_path=expanded(asset_path),
            asset_digest=self._text(value.get("asset_digest"), f"{where}.asset_digest") or None,
            seek_keys={name: target for name, target in seek_keys.items() if isinstance(target, str)},
            description=self._text(value.get("tag_description"), f"{where}.tag_description") or description,
            parents=self._texts(value.get("asset_parents"), f"{where}.asset_parents"),
            children=self._texts(value.get("asset_children"), f"{where}.asset_children"),
        )

    def _problem(self, where: str, message: str) -> None:
        self._problems.append(Problem(self._path, shown(f"{where} {message}")))

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
        if isinstance(value, str):
            return value
        if value is not None:
            self._problem(where, f"should be a text, not {_kind(value)}")
        return ""

    def _path_text(self, value: Value, where: str) -> str:
        text = self._text(value, where)
        if "\0" not in text:
            return text
        self._problem(where, "has a NUL, as no path has")
        return ""

    def _texts(self, value: Value, where: str) -> tuple[str, ...]:
        """A list of texts; a single one counts as a list of one."""
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list):
            return tuple(item for item in value if isinstance(item, str))
        if value is not None:
            self._problem(where, f"should be a list, not {_kind(value)}")
        return ()


def _kind(value: Value) -> str:
    if isinstance(value, str):
        return f"'{value[:40]}'"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else "a mapping"


def expanded(path: str) -> str:
    """With environment variables and `~` put in."""
    return os.path.expanduser(os.path.expandvars(path)) if path else ""
