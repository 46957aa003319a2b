"""Writes a commented configuration, and shows the effective settings to people."""

import json
import textwrap
from collections.abc import Mapping
from typing import Any, cast

from refgenied.config.settings import SETTINGS, File, Settings, get

_WIDTH = 100
"""The most columns of a comment in the file."""


def effective(settings: Settings) -> list[tuple[str, Any, str]]:
    """Every setting as (`section.key`, value, source), in the order of the file."""
    return [(name, get(settings, name), settings.origins.get(name, "default")) for name in SETTINGS]


def render(values: Mapping[str, Any] | None = None) -> str:
    """A commented `config.toml`: every key with its default and a sentence; keys in `values` are set."""
    values = values or {}
    lines = [
        "# The configuration of refgenied. Every key is shown with its default;",
        "# remove the '#' before one to change it. `refgenied check-config` shows what is in force.",
    ]
    last = ""
    for name, (section, key, default, sentence, _) in SETTINGS.items():
        if section != last:
            lines += ["", f"[{section}]", f"# {getattr(File(), section).__doc__}"]
            last = section
        lines += ["", *_comment(sentence)]
        lines.append(f"{key} = {as_toml(values[name])}" if name in values else f"#{key} = {as_toml(default)}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)]


def as_toml(value: Any) -> str:
    """A value in the form of a TOML file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # a TOML basic string, in which control codes are escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        inside = ", ".join(f"{as_toml(name)} = {as_toml(item)}" for name, item in pairs.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(as_toml, cast('tuple[Any, ...]', value)))}]"
    return repr(value)
