"""YAML as plain text values: no tag ever turns into a number or a date, no content can do harm.

refgenie quotes a tag such as '2.5', people don't; here both are the text. Built from the parser's events,
because PyYAML composes nodes by recursion, in C and without a limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Value: TypeAlias = str | list["Value"] | dict[str, "Value"] | None

_LOADER = yaml.CBaseLoader if hasattr(yaml, "CBaseLoader") else yaml.BaseLoader
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_DEEPEST = 50


class GarbledError(Exception):
    """Not YAML, or none that could be meant; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class _Open:
    """A list or mapping whose end has not come yet."""

    __slots__ = ("anchor", "key", "value")

    def __init__(self, value: list[Value] | dict[str, Value], anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: str | None = None
        """Mapping: the name whose value comes next."""


def load(text: bytes) -> Value:
    """The first document; None when there is none. GarbledError."""
    try:
        return _build(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise GarbledError(error.problem or "this is not YAML", line) from error
    except yaml.YAMLError as error:
        raise GarbledError(" ".join(str(error).split()), 1) from error


def _build(text: bytes) -> Value:
    stack = [_Open([], None)]
    anchored: dict[str, Value] = {}
    parse = cast("Callable[..., Iterator[yaml.Event]]", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
    for event in parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentEndEvent):
            break
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            if len(stack) > _DEEPEST:
                raise GarbledError(f"nested deeper than {_DEEPEST} levels", line)
            stack.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else [], event.anchor))
            continue
        anchor: str | None = None
        value: Value
        if isinstance(event, yaml.ScalarEvent):
            if _takes_name(stack[-1], event.value):
                continue
            anchor = event.anchor
            value = None if event.implicit[0] and event.value in _NULLS else event.value
        elif isinstance(event, yaml.AliasEvent):
            value = anchored.get(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            anchor, value = done.anchor, done.value
        else:
            continue
        if anchor is not None:
            anchored[anchor] = value
        _put(stack[-1], value, line)
    top = stack[0].value
    return top[0] if isinstance(top, list) and top else None


def _takes_name(into: _Open, name: str) -> bool:
    """Whether a scalar is the name of a value still to come."""
    if isinstance(into.value, list) or into.key is not None:
        return False
    into.key = name
    return True


def _put(into: _Open, value: Value, line: int) -> None:
    if isinstance(into.value, list):
        into.value.append(value)
    elif into.key is None:
        raise GarbledError("a list or a mapping stands where a name should", line)
    else:
        into.value[into.key] = value
        into.key = None
