"""Scalars of YAML, as refgenconf 0.13.1 reads them: which type a plain text has, and its value."""

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeAlias

import yaml

Value: TypeAlias = str | int | float | dt.date | list["Value"] | dict[str, "Value"] | None
"""The values of YAML (`int` includes bool). Names in a mapping are texts, as in refgenconf: `2.50:` is "2.5"."""

TAG = "tag:yaml.org,2002:"
MERGE = f"{TAG}merge"
_LONGEST_NUMBER = 100
"""The most characters of a number. A longer one stays text, because its value would take long to compute."""

_CONSTRUCTOR: Any = yaml.constructor.SafeConstructor()
_CONSTRUCT: dict[str, Callable[[yaml.ScalarNode], Value]] = {
    f"{TAG}{kind}": getattr(_CONSTRUCTOR, f"construct_yaml_{kind}")
    for kind in ("null", "bool", "int", "float", "timestamp", "str")
}
_RESOLVERS: dict[str, list[tuple[str, Any]]] = yaml.resolver.Resolver.yaml_implicit_resolvers
"""First character → the types that a plain text may have."""


def constructed(tag: str, text: str) -> Value:
    """The value of a text of this type. ValueError: it has none."""
    construct = _CONSTRUCT.get(tag)
    if construct is None:
        raise ValueError(f"has the unknown tag {tag.removeprefix(TAG)[:40]!r}")
    if len(text) > _LONGEST_NUMBER and tag != f"{TAG}str":
        raise ValueError(f"is too long for a {tag.removeprefix(TAG)}")
    try:
        return construct(yaml.ScalarNode(tag, text))
    except (ValueError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(f"is no {tag.removeprefix(TAG)}") from error


def resolved(text: str) -> str | None:
    """The tag of a plain text such as `2.5`; None when it is just a text."""
    if len(text) > _LONGEST_NUMBER:
        return None
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if pattern.match(text):
            return tag if tag in _CONSTRUCT or tag == MERGE else None  # a single `=` is text
    return None


def text_of(value: Value) -> str | None:
    """The name that refgenconf makes of a value: 2.50 is "2.5", yes is "True". None: a list, a mapping or nothing."""
    return None if value is None or isinstance(value, list | dict) else str(value)
