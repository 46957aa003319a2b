"""Reads YAML of other people as refgenconf 0.13.1 reads it. Limits hold for any content.

The values are built from the parser's events, because PyYAML composes nodes by recursion, in C and without a limit. A
value without a meaning (an unknown tag, a date that does not exist) is left out and reported. Values around it stay.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, cast

import yaml

from refgenied.genomes.yaml_limits import OF_PEOPLE, Limits
from refgenied.genomes.yaml_scalars import MERGE, TAG, Value, constructed, resolved, text_of

MAX_DEPTH = 50
"""The most lists and mappings inside one another when each alias is replaced."""
MAX_TOLD = 20
"""The most values left out that are reported one by one."""

_LOADER = yaml.CBaseLoader if hasattr(yaml, "CBaseLoader") else yaml.BaseLoader
_MAPPING_TAGS = frozenset({None, "!", f"{TAG}map"})
_LIST_TAGS = frozenset({None, "!", f"{TAG}seq"})
_BREAK = re.compile(rb"\r\n|[\r\n]|\xc2\x85|\xe2\x80[\xa8\xa9]")
"""The characters that end a line in YAML."""
_ENDED = re.compile(rb"(?:[\r\n]|\xc2\x85|\xe2\x80[\xa8\xa9])\Z")


class GarbledError(Exception):
    """The text is not YAML, has no meaning, or is too large. `line` counts from 1, and is 0 for the whole file."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)


class Odd(NamedTuple):
    """A value that was left out, and why."""

    line: int
    message: str


class Document(NamedTuple):
    value: Value
    """The value of the first document; None when there is none."""
    odd: tuple[Odd, ...]
    cut_at: tuple[str, ...] | None
    """The names that lead to the last value, if the text ends within a line: this value may be cut off. None: the text
    ends in a newline, a comment, or the end of a list or mapping."""


def read(text: bytes, limits: Limits = OF_PEOPLE) -> Document:
    """Read a text. GarbledError. A list or mapping with aliases is one object in several places: do not change it."""
    stream = events(text, limits)
    builder = Builder(text, limits)
    builder.fill(stream)
    return builder.document()


def events(text: bytes, limits: Limits = OF_PEOPLE) -> Iterator[yaml.Event]:
    """The parser's events. GarbledError."""
    if len(text) > limits.max_bytes:
        raise GarbledError(f"it is too large ({len(text)} bytes, at most {limits.max_bytes})")
    return _parsed(text)


def _parsed(text: bytes) -> Iterator[yaml.Event]:
    parse = cast("Callable[..., Iterator[yaml.Event]]", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
    try:
        yield from parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise GarbledError(error.problem or "this is not YAML", line) from error
    except yaml.YAMLError as error:
        position = getattr(error, "position", None)
        line = text.count(b"\n", 0, position) + 1 if isinstance(position, int) else 1
        raise GarbledError(" ".join(str(getattr(error, "reason", error)).split()), line) from error


class Mark(Enum):
    LEFT = "a value that was left out"
    MERGE = "the name <<"


_Taken: TypeAlias = Value | Mark


@dataclass(slots=True)
class Open:
    """A list or mapping whose end has not come yet."""

    value: list[Value] | dict[str, Value]
    anchor: str | None = None
    began: tuple[int, int] = (0, 0)
    """The number of values and of characters before it."""
    wrong: str = ""
    """Why it will be left out at its end; empty when it stays."""
    height: int = 1
    """Lists and mappings inside one another, with this one."""
    key: str | Mark | None = None
    """In a mapping: the name whose value comes next; LEFT when this value must be left out."""
    merged: list[tuple[Value, yaml.Event]] = field(default_factory=list[tuple[Value, yaml.Event]])
    """In a mapping: the values that `<<` names."""


class _Anchored(NamedTuple):
    """A value that aliases may name, and its size when its own aliases are replaced."""

    value: _Taken
    values: int
    characters: int
    height: int


class Builder:
    """Puts the values of one document together, event by event."""

    def __init__(self, text: bytes, limits: Limits = OF_PEOPLE) -> None:
        self._limits = limits
        self.stack: list[Open] = [Open([])]
        """The lists and mappings around the next value; the first one holds the document's value."""
        self.anchored: dict[str, _Anchored] = {}
        self._names: dict[str, str] = {}
        """Each name of a mapping once: the same few names stand in each of thousands of assets."""
        self._plain: dict[str, Value] = {}
        """Plain texts that have another type, such as numbers, and their values."""
        self.values = 0
        """The number of values until now, with those of each alias."""
        self._characters = 0
        self._odd: list[Odd] = []
        self._left_out = 0
        lines = _BREAK.split(text) if text and not _ENDED.search(text[-3:]) else [b""]
        self._last_line = len(lines) - 1
        self._end = len(lines[-1].rstrip().decode("utf-8", "replace"))
        """The number of characters in the last line if no newline ends it; else 0."""
        self._cut_at: tuple[str, ...] | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: lambda event: self._start({}, event, _MAPPING_TAGS),
            yaml.SequenceStartEvent: lambda event: self._start([], event, _LIST_TAGS),
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
        }

    def fill(self, events: Iterator[yaml.Event]) -> None:
        """Take the events of one document. GarbledError."""
        for event in events:
            if isinstance(event, yaml.DocumentEndEvent):
                break
            handle = self._handlers.get(type(event))
            if handle is not None:
                handle(event)

    def document(self) -> Document:
        top = cast("list[Value]", self.stack[0].value)
        odd = tuple(self._odd)
        if self._left_out > len(odd):
            odd += (Odd(odd[-1].line, f"and {self._left_out - len(odd)} more values are left out"),)
        return Document(top[0] if top else None, odd, self._cut_at)

    # ----------------------------------------------------------------- the events

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text: str = event.value
        self._count(1, len(text), event)
        self._note_end(event)
        value = self._value(event, text)
        if event.anchor is not None:
            self.anchored[event.anchor] = _Anchored(value, 1, len(text), 0)
        self._put(value, 0, event)

    def _value(self, event: yaml.ScalarEvent, text: str) -> _Taken:
        tag = event.tag
        if tag is None or tag == "!":
            if tag is None and not event.implicit[0]:
                return text
            if text in self._plain:
                return self._plain[text]
            tag = resolved(text)
            if tag is None:
                return text
            if tag == MERGE:
                return Mark.MERGE
        try:
            value = constructed(tag, text)
        except ValueError as error:
            self._leave_out(f"'{text[:40]}' {error}", event)
            return Mark.LEFT
        if event.tag is None:
            self._plain[text] = value
        return value

    def _alias(self, event: yaml.AliasEvent) -> None:
        found = self.anchored.get(event.anchor)
        if found is None:
            inside = any(above.anchor == event.anchor for above in self.stack)
            self._leave_out(f"the alias *{event.anchor[:40]} {'contains itself' if inside else 'names nothing'}", event)
            found = _Anchored(Mark.LEFT, 1, 0, 0)
        self._count(found.values, found.characters, event)
        self._check_depth(found.height - 1, event)
        self._note_end(event)
        self._put(found.value, found.height, event)

    def _start(
        self, value: list[Value] | dict[str, Value], event: yaml.CollectionStartEvent, tags: frozenset[str | None]
    ) -> None:
        self._check_depth(0, event)
        opened = Open(value, event.anchor, (self.values, self._characters))
        self._count(1, 0, event)
        if event.tag not in tags:
            opened.wrong = f"a list or mapping has the unknown tag {event.tag.removeprefix(TAG)[:40]!r}"
        self.stack.append(opened)

    def _close(self, event: yaml.Event) -> None:
        done = self.stack.pop()
        value: _Taken = self._with_merged(done) if done.merged else done.value
        if done.wrong:
            self._leave_out(done.wrong, event)
            value = Mark.LEFT
        if done.anchor is not None:
            values, characters = done.began
            inside = self.values - values, self._characters - characters
            self.anchored[done.anchor] = _Anchored(value, *inside, done.height)
        self._put(value, done.height, event)

    # ----------------------------------------------------------------- where a value goes

    def _put(self, value: _Taken, height: int, event: yaml.Event) -> None:
        into = self.stack[-1]
        into.height = max(into.height, height + 1)
        if isinstance(into.value, dict) and into.key is None:
            into.key = value if isinstance(value, Mark) else self._key(value, event)
            return
        if value is Mark.MERGE:
            value = "<<"  # as a value, `<<` is text
        if isinstance(into.value, list):
            if value is not Mark.LEFT:
                into.value.append(value)
            return
        key, into.key = into.key, None
        if value is Mark.LEFT or not isinstance(key, str):
            if key is Mark.MERGE and value is not Mark.LEFT:
                into.merged.append((value, event))
        else:
            into.value[key] = value

    def _key(self, value: Value, event: yaml.Event) -> str | Mark:
        """A value as a name in a mapping."""
        name = text_of(value)
        if name is None:
            self._leave_out("a list, a mapping or nothing stands where a name should", event)
            return Mark.LEFT
        return self._names.setdefault(name, name)

    def _with_merged(self, done: Open) -> dict[str, Value]:
        """Merge as PyYAML does: own values win, then values of a list's first mapping, then values of the last `<<`."""
        merged: dict[str, Value] = {}
        for source, event in done.merged:
            for mapping in reversed(source) if isinstance(source, list) else (source,):
                if isinstance(mapping, dict):
                    self._count(len(mapping), 0, event)  # they are copied, in contrast to those of an alias
                    merged |= mapping
                else:
                    self._leave_out("'<<' merges something that is no mapping", event)
        return merged | cast("dict[str, Value]", done.value)

    # ----------------------------------------------------------------- the limits

    def _note_end(self, event: yaml.Event) -> None:
        if self._end and event.end_mark.line == self._last_line and event.end_mark.column >= self._end:
            self._cut_at = tuple(above.key for above in self.stack if isinstance(above.key, str))

    def _count(self, values: int, characters: int, event: yaml.Event) -> None:
        self.values += values
        self._characters += characters
        most_bytes, most = self._limits
        if self.values > most or self._characters > most_bytes:
            raise GarbledError(
                f"it holds too much: more than {most} values, or {most_bytes} bytes, with its aliases written out",
                _line(event),
            )

    def _check_depth(self, height: int, event: yaml.Event) -> None:
        if len(self.stack) + height > MAX_DEPTH:
            raise GarbledError(f"nested deeper than {MAX_DEPTH} levels", _line(event))

    def _leave_out(self, message: str, event: yaml.Event) -> None:
        self._left_out += 1
        if self._left_out <= MAX_TOLD:
            self._odd.append(Odd(_line(event), f"{message}: it is left out"))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1
