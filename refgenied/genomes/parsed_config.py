"""A config as one read found it, and the next one made from it at the cost of what has changed."""

from __future__ import annotations

from itertools import chain
from typing import TypeVar

import msgspec

from refgenied.genomes import genome_config
from refgenied.genomes.config_text import ConfigText, Part
from refgenied.genomes.genome_config import EntryReader, GenomeConfig, config_of

_K = TypeVar("_K")
_V = TypeVar("_V")


class ParsedConfig:
    """A text and its config, which is always that of `parse_config`. It never changes."""

    def __init__(self, path: str, text: ConfigText, config: GenomeConfig) -> None:
        self._path = path
        self.text = text
        self.config = config

    @classmethod
    def read(cls, text: bytes, path: str, before: ParsedConfig | None = None) -> ParsedConfig:
        """Read a text. Entries and genomes that are as in `before` are the same objects. GarbledError.

        A problem may be about any line, so a config with problems, before or now, is always read whole.
        """
        again = before.text.reread(text) if before else None
        if before and again:
            reread, parts = again
            if not parts:
                return before
            config = None if before.config.problems else _Changes(before.config, path).with_parts(parts)
            if config:
                return cls(path, reread, config)
        whole, document = ConfigText.read(text)
        config = config_of(document, text, path)
        return cls(path, whole, _sharing(config, before.config) if before else config)


class _Changes:
    """A copy of a config without problems, to which parts are applied."""

    def __init__(self, config: GenomeConfig, path: str) -> None:
        self._config = config
        self._path = path
        self._genomes = dict(config.genomes)
        self._entries = dict(config.entries)

    def with_parts(self, parts: list[Part]) -> GenomeConfig | None:
        """The config after these parts have changed; None when only a whole read can tell what it is."""
        if not all(self._apply(part) for part in parts):
            return None
        if max(len(self._entries), len(self._genomes)) > genome_config.MAX_ASSETS:
            return None
        if any(part.digest is None for part in parts) and not self._has_sound_aliases():
            return None
        return msgspec.structs.replace(self._config, genomes=self._genomes, entries=self._entries)

    def _apply(self, part: Part) -> bool:
        gone, found = EntryReader(self._path), EntryReader(self._path)
        if part.digest is None:
            gone.read_genomes(part.before)
            found.read_genomes(part.now)
            self._exchange(self._genomes, gone.genomes, found.genomes)
        else:
            left_out = gone.read_groups(part.digest, part.before)
            defaults = dict(self._genomes[part.digest].default_assets)
            self._exchange(defaults, left_out, found.read_groups(part.digest, part.now))
            if defaults != self._genomes[part.digest].default_assets:
                genome = msgspec.structs.replace(self._genomes[part.digest], default_assets=defaults)
                self._genomes[part.digest] = genome
        self._exchange(self._entries, gone.entries, found.entries)
        return not (gone.problems or found.problems)

    def _exchange(self, into: dict[_K, _V], gone: dict[_K, _V], found: dict[_K, _V]) -> None:
        for name in gone.keys() - found.keys():
            del into[name]
        for name, value in found.items():
            if into.get(name) != value:
                into[name] = value

    def _has_sound_aliases(self) -> bool:
        """Whether no alias belongs to two genomes or is the digest of one."""
        aliases = list(chain.from_iterable(genome.aliases for genome in self._genomes.values()))
        return len(set(aliases)) == len(aliases) and self._genomes.keys().isdisjoint(aliases)


def _sharing(config: GenomeConfig, before: GenomeConfig) -> GenomeConfig:
    """The same config with the entries and genomes of an earlier one where they are equal."""
    _share(config.genomes, before.genomes)
    _share(config.entries, before.entries)
    return config


def _share(now: dict[_K, _V], old: dict[_K, _V]) -> None:
    for name, value in now.items():
        known = old.get(name)
        if known is not None and known == value:
            now[name] = known
