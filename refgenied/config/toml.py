"""Reads `config.toml`. A fault is reported with the key's place in the file, and the other keys are still used."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from refgenied.config.settings import SETTINGS, File
from refgenied.files.regular import read_regular
from refgenied.model import ConfigError
from refgenied.shared.paths import MAX_CONFIG_BYTES

_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<section>[^`]*)`)?")
_PLACED = re.compile(r"(?P<what>.*) - at `\$\.(?P<key>[^`]*)`")


class Toml(NamedTuple):
    """The values in a file, and its faults."""

    values: dict[str, Any]
    """`section.key` → value, of the right type."""
    problems: list[ConfigError]


def read_toml(path: Path) -> Toml:
    """Read a configuration file. It never raises an error."""
    try:
        return parse_toml(read_regular(path, MAX_CONFIG_BYTES).decode("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        return Toml({}, [ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")])


def parse_toml(text: str, name: str) -> Toml:
    """Read a configuration; `name` is its name in messages. It never raises an error."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # Python itself raises ValueError for a number of 5,000 digits
        return Toml({}, [ConfigError(f"{name}: not valid TOML: {error}")])
    values: dict[str, Any] = {}
    problems: list[ConfigError] = []
    for section, key, value in _each(tree):
        problem = wrong({section: value if key is None else {key: value}}, name)
        if problem is not None:
            problems.append(problem)
        elif key is not None:
            values[f"{section}.{key}"] = value
    return Toml(values, problems)


def wrong(tree: Mapping[str, Any], name: str) -> ConfigError | None:
    """The first fault in a part of the settings, `{section: {key: value}}`."""
    try:
        msgspec.convert(tree, File)
    except msgspec.ValidationError as error:
        return _in_words(str(error), name)
    return None


def _each(tree: Mapping[str, Any]) -> Iterator[tuple[str, str | None, Any]]:
    """Each setting as section, key and value; the key is None if the section is not a table, or is empty."""
    for section, table in tree.items():
        if isinstance(table, dict) and table:
            yield from ((section, key, value) for key, value in cast("dict[str, Any]", table).items())
        else:
            yield section, None, table


def _in_words(message: str, name: str) -> ConfigError:
    """msgspec's message in the words of a TOML file: first the key, then what is wrong with it."""
    unknown = _UNKNOWN.search(message)
    if unknown:
        wanted = ".".join(filter(None, (unknown["section"], unknown["key"])))
        near = get_close_matches(wanted, SETTINGS, n=3) or [n for n in SETTINGS if n.endswith(f".{unknown['key']}")]
        hint = f"perhaps {' or '.join(near)}" if near else "`refgenied check-config` lists all settings"
        return ConfigError(f"{name}: {wanted} is not a setting", hint=hint)
    placed = _PLACED.fullmatch(message)
    said = f"{placed['key']}: {placed['what'][0].lower()}{placed['what'][1:]}" if placed else message
    return ConfigError(f"{name}: {said}")
