"""Our own TOML: every key that is wrong is named by its place in the file, and the others still count."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from refgenied.config.settings import File, sections
from refgenied.files.regular import read_regular
from refgenied.model import ConfigError

LARGEST = 1 << 20
"""Bytes of a configuration file."""

_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<section>[^`]*)`)?")
_PLACED = re.compile(r"(?P<what>.*) - at `\$\.(?P<key>[^`]*)`")


class Read(NamedTuple):
    values: dict[str, Any]
    """`section.key` → value, of the right type."""
    problems: list[ConfigError]


def read_toml(path: Path) -> Read:
    try:
        return parse_toml(read_regular(path, LARGEST).decode("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        return Read({}, [ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")])


def parse_toml(text: str, name: str) -> Read:
    """`name` is what the messages call it."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not only its own: a number of 5,000 digits
        return Read({}, [ConfigError(f"{name}: not valid TOML: {error}")])
    values: dict[str, Any] = {}
    problems: list[ConfigError] = []
    for setting, one in _each(tree):
        problem = wrong(one, name)
        if problem is not None:
            problems.append(problem)
        elif setting:
            values[setting] = one[setting.partition(".")[0]][setting.partition(".")[2]]
    return Read(values, problems)


def wrong(tree: Mapping[str, Any], name: str) -> ConfigError | None:
    """What is wrong with a part of the settings, `{section: {key: value}}`."""
    try:
        msgspec.convert(tree, File)
    except msgspec.ValidationError as error:
        return ConfigError(f"{name}: {_plain(error)}", hint=_near(error))
    return None


def _each(tree: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each setting with the tree that holds it alone; ("", part) for what is no table."""
    for section, table in tree.items():
        if not isinstance(table, dict) or not table:
            yield "", {section: table}
            continue
        for key, value in cast("dict[str, Any]", table).items():
            yield f"{section}.{key}", {section: {key: value}}


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec's message in the words of a TOML file: first the key, then what is wrong with it."""
    unknown = _UNKNOWN.search(str(error))
    if unknown:
        return f"{'.'.join(filter(None, (unknown['section'], unknown['key'])))} is not a setting"
    placed = _PLACED.fullmatch(str(error))
    return f"{placed['key']}: {placed['what'][0].lower()}{placed['what'][1:]}" if placed else str(error)


def _near(error: msgspec.ValidationError) -> str:
    unknown = _UNKNOWN.search(str(error))
    if not unknown:
        return ""
    known = [f"{section}.{key}" for section, table in sections() for key in table.__struct_fields__]
    wanted = ".".join(filter(None, (unknown["section"], unknown["key"])))
    near = get_close_matches(wanted, known, n=3) or [name for name in known if name.endswith(f".{unknown['key']}")]
    return f"perhaps {' or '.join(near)}" if near else "`refgenied check-config` lists all settings"
