"""Writing: a commented configuration, and the effective settings for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast, get_type_hints

from msgspec import Meta

from refgenied.config.settings import Settings, get, sections


def effective(settings: Settings) -> list[tuple[str, Any, str]]:
    """Every setting as (`section.key`, value, where it came from), in the order of the file."""
    return [
        (name, get(settings, name), settings.origins.get(name, "default"))
        for section, table in sections()
        for name in (f"{section}.{key}" for key in table.__struct_fields__)
    ]


def render(values: Mapping[str, Any] | None = None) -> str:
    """A commented `config.toml`: every key with its default and a sentence; keys in `values` are set."""
    values = values or {}
    lines = [
        "# The configuration of refgenied. Every key is shown with its default;",
        "# remove the '#' before one to change it. `refgenied check-config` shows what is in force.",
    ]
    for section, table in sections():
        lines += ["", f"[{section}]", f"# {table.__doc__}"]
        hints = get_type_hints(table, include_extras=True)
        defaults = table()
        for key in table.__struct_fields__:
            name = f"{section}.{key}"
            lines += ["", *_comment(_description(hints[key]))]
            value = values.get(name, getattr(defaults, key))
            lines.append(f"{'' if name in values else '#'}{key} = {as_toml(value)}")
    return "\n".join(lines) + "\n"


def _description(hint: Any) -> str:
    metas: tuple[Any, ...] = getattr(hint, "__metadata__", ())
    return next((meta.description for meta in metas if isinstance(meta, Meta) and meta.description), "")


def _comment(text: str) -> list[str]:
    lines: list[str] = []
    line = "#"
    for word in text.split():
        if len(line) + 1 + len(word) > 100:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return [*lines, line]


def as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace(
            "\x7f", "\\u007f"
        )  # a TOML basic string, control codes too
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        inside = ", ".join(f"{as_toml(name)} = {as_toml(item)}" for name, item in pairs.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, tuple | list):
        parts = cast("tuple[Any, ...]", value)
        return "[" + ", ".join(map(as_toml, parts)) + "]"
    return repr(value)
