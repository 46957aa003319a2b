"""Scalars of YAML, as refgenconf 0.13.1 takes them: which kind a plain text is, and what it is worth."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

Value: TypeAlias = str | int | float | dt.date | list["Value"] | dict[str, "Value"] | None
"""What YAML can say (`int` includes bool). Names in a mapping are texts, as refgenconf has them: `2.50:` is "2.5"."""

TAG = "tag:yaml.org,2002:"
_LONGEST_NUMBER = 100  # characters; a longer one stays text, for its value would take long to compute

_CONSTRUCTOR: Any = yaml.constructor.SafeConstructor()
_CONSTRUCT: dict[str, Callable[[yaml.ScalarNode], Value]] = {
    f"{TAG}null": _CONSTRUCTOR.construct_yaml_null,
    f"{TAG}bool": _CONSTRUCTOR.construct_yaml_bool,
    f"{TAG}int": _CONSTRUCTOR.construct_yaml_int,
    f"{TAG}float": _CONSTRUCTOR.construct_yaml_float,
    f"{TAG}timestamp": _CONSTRUCTOR.construct_yaml_timestamp,
    f"{TAG}str": _CONSTRUCTOR.construct_yaml_str,
}
_RESOLVERS: dict[str, list[tuple[str, Any]]] = yaml.resolver.Resolver.yaml_implicit_resolvers
"""First character → kinds of values that a plain text may be."""
MERGE = f"{TAG}merge"


def constructed(tag: str, text: str) -> Value:
    """ValueError when the text is none of this kind."""
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
    """The tag of a plain text that is no text; None when it is one."""
    if len(text) > _LONGEST_NUMBER:
        return None
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if pattern.match(text):
            return tag if tag in _CONSTRUCT or tag == MERGE else None  # a lone = is text
    return None


def text_of(value: Value) -> str | None:
    """A value as refgenconf makes a name of it: 2.50 is "2.5", yes is "True". None for a list, a mapping or nothing."""
    return None if value is None or isinstance(value, list | dict) else str(value)
