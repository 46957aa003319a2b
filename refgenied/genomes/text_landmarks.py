"""Where in the text of a config each genome and each asset group begins, as the YAML parser's events tell it."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

from refgenied.genomes.yaml_limits import OF_PEOPLE, Limits
from refgenied.genomes.yaml_reader import Builder, Mark, Open
from refgenied.genomes.yaml_scalars import Value

_AT_TOP, _AT_GENOMES, _AT_GENOME, _AT_GROUPS = 2, 3, 4, 5
"""How many lists and mappings are open at the file's names, at the genomes, in one genome, and at its groups."""
_FEW = 10


class Block(NamedTuple):
    """The keys of one block mapping. Places count from the text's begin; those of groups, from their genome's line."""

    column: int
    names: list[str]
    starts: array[int]
    """Where the line of each key begins."""
    end: int
    """Where the line of what follows the mapping begins."""
    above: int
    """Where the line with the mapping's own name begins."""

    def place(self, index: int) -> int:
        """Where the line of a key begins; for the number of keys: where what follows begins."""
        return self.starts[index] if index < len(self.starts) else self.end

    def last_before(self, text: bytes, base: int, since: int, until: int) -> int | None:
        """The last key whose whole line lies from `since` to `until`, places in `text`; `base` is added to our own.

        Or the first key, if all text from the line with the mapping's name to the key's line lies there.
        """
        index = bisect_right(self.starts, until - base) - 1
        if index >= 0 and _line_end(text, base + self.starts[index]) > until:
            index -= 1
        if index >= 0 and base + self.starts[index] >= since:
            return index
        above = base + self.above
        is_whole = above > since or above == since == 0
        return 0 if is_whole and base + self.starts[0] <= until else None

    def first_after(self, text: bytes, base: int, since: int, until: int) -> int | None:
        """The first key whose whole line lies from `since` to `until`; or the number of keys, if what follows does."""
        index = bisect_left(self.starts, since - base)
        place = base + self.place(index)
        return index if since <= place and _line_end(text, place) <= until else None

    def replaced(self, first: int, last: int, now: Block | None, shift: int, grown: int) -> Block | None:
        """The mapping after its keys from `first` to before `last` became those of `now` (None: no keys).

        `shift` is added to the places in `now`, `grown` to those behind. None: a name occurs twice, or none is left.
        """
        names, starts = (now.names, now.starts) if now else ([], array("Q"))
        outside = self.names[:first] + self.names[last:]
        known = set(outside) if len(names) > _FEW else outside
        if not (outside or names) or any(name in known for name in names):
            return None
        return self._replace(
            names=[*self.names[:first], *names, *self.names[last:]],
            starts=self.starts[:first] + _moved(starts, shift) + _moved(self.starts[last:], grown),
            end=self.end + grown,
        )


class Landmarks(NamedTuple):
    genomes: Block
    groups: list[Block | None]
    """The asset groups of each genome; None: they are not a block mapping."""

    def genome_at(self, place: int) -> int | None:
        """The genome whose lines hold this place."""
        index = bisect_right(self.genomes.starts, place) - 1
        return index if index >= 0 else None

    def lines_from(self, place: int) -> Iterator[int]:
        """Where the next genomes and groups begin, from a place on."""
        for genome in range(self.genome_at(place) or 0, len(self.groups)):
            base, groups = self.genomes.starts[genome], self.groups[genome]
            starts = groups.starts if groups else array("Q")
            yield from (base + start for start in (0, *starts[bisect_left(starts, place - base) :][:_FEW]))

    def with_genomes(self, genomes: Block, first: int, last: int, now: list[Block | None]) -> Landmarks:
        """After the genomes from `first` to before `last` were replaced."""
        return Landmarks(genomes, [*self.groups[:first], *now, *self.groups[last:]])

    def with_groups(self, genome: int, groups: Block, grown: int) -> Landmarks:
        """After groups of one genome were replaced, and its text has grown."""
        starts = self.genomes.starts
        genomes = self.genomes._replace(
            starts=starts[: genome + 1] + _moved(starts[genome + 1 :], grown), end=self.genomes.end + grown
        )
        return Landmarks(genomes, [*self.groups[:genome], groups, *self.groups[genome + 1 :]])


@dataclass(slots=True)
class _Noted:
    """A block mapping whose end has not come yet."""

    opened: Open
    column: int
    above: int
    names: list[str] = field(default_factory=list[str])
    starts: array[int] = field(default_factory=lambda: array("Q"))
    end: int = 0

    def block(self) -> Block:
        return Block(self.column, self.names, self.starts, self.end, self.above)


class MarkingBuilder(Builder):
    """Builds the values of a document, and notes where its genomes and groups begin.

    `inside`: the names that lead to this document's value, if it is a part of a config; then its places count from its
    own begin.
    """

    def __init__(self, text: bytes, inside: tuple[str, ...] = (), limits: Limits = OF_PEOPLE) -> None:
        super().__init__(text, limits)
        self.stack.extend(Open({}, key=name) for name in inside)
        self._text = text
        self._inside = inside
        self._line = self._line_at = 0
        self._sound = True
        self._genomes: _Noted | None = None
        self._groups: list[_Noted | None] = [None] if len(inside) > 1 else []
        self._above_genomes = self._above_groups = -1

    @property
    def sound(self) -> bool:
        """Whether nothing in the document reaches beyond one genome or one group."""
        every = [noted for noted in (self._genomes, *self._groups) if noted]
        return (
            self._sound
            and not self.anchored
            and not self.document().odd
            and all(len(set(noted.names)) == len(noted.names) for noted in every)
        )

    def landmarks(self) -> Landmarks | None:
        """The places in a config; None when it has no genomes or the places are of no use."""
        if not self.sound or self._genomes is None:
            return None
        return Landmarks(self._genomes.block(), self.groups)

    @property
    def groups(self) -> list[Block | None]:
        """The places of each genome's groups."""
        return [noted and noted.block() for noted in self._groups]

    @property
    def inner_block(self) -> Block | None:
        """In a part of a config: the places of its keys; None when it is no block mapping."""
        noted = self._genomes if len(self._inside) == 1 else self._groups[0]
        return noted and noted.block()

    @property
    def inner(self) -> Value:
        """In a part of a config: its value; an empty mapping when there is none."""
        above = self.stack[-1].value
        return above.get(self._inside[-1], {}) if isinstance(above, dict) else None

    # ----------------------------------------------------------------- the events

    def _start(
        self, value: list[Value] | dict[str, Value], event: yaml.CollectionStartEvent, tags: frozenset[str | None]
    ) -> None:
        super()._start(value, event, tags)
        depth = len(self.stack)
        if depth == _AT_GENOMES and self._is_in_genomes(depth):
            self._genomes = self._noted(value, event, self._above_genomes)
            self._sound = self._sound and self._genomes is not None
        elif depth == _AT_GROUPS and self._is_in_groups(depth):
            self._groups[-1] = self._noted(value, event, self._above_groups)

    def _noted(self, value: object, event: yaml.CollectionStartEvent, above: int) -> _Noted | None:
        if not isinstance(value, dict) or event.flow_style:
            return None
        return _Noted(self.stack[-1], event.start_mark.column, above)

    def _close(self, event: yaml.Event) -> None:
        if len(self.stack) in (_AT_GENOMES, _AT_GROUPS):
            for noted in (self._genomes, self._groups[-1] if self._groups else None):
                if noted is not None and noted.opened is self.stack[-1]:
                    noted.end = self._place(event) - (0 if noted is self._genomes else self._base)
        super()._close(event)

    def _key(self, value: Value, event: yaml.Event) -> str | Mark:
        name = super()._key(value, event)
        depth = len(self.stack)
        if depth <= _AT_GROUPS and isinstance(name, str):
            self._note(depth, name, event)
        return name

    def _note(self, depth: int, name: str, event: yaml.Event) -> None:
        if depth == _AT_TOP and name == "genomes":
            self._sound = self._sound and self._above_genomes < 0  # the last of two is taken
            self._above_genomes = self._place(event)
        elif depth == _AT_GENOMES and self._genomes and self._genomes.opened is self.stack[-1]:
            self._note_key(self._genomes, name, event, 0)
            self._groups.append(None)
            self._above_groups = -1
        elif depth == _AT_GENOME and name == "assets" and self._is_in_genomes(depth):
            self._sound = self._sound and self._above_groups < 0
            self._above_groups = self._place(event) - self._base
        elif depth == _AT_GROUPS and self._groups and (noted := self._groups[-1]) and noted.opened is self.stack[-1]:
            self._note_key(noted, name, event, self._base)

    def _note_key(self, noted: _Noted, name: str, event: yaml.Event, base: int) -> None:
        self._sound = self._sound and event.start_mark.column == noted.column
        noted.names.append(name)
        noted.starts.append(self._place(event) - base)

    def _with_merged(self, done: Open) -> dict[str, Value]:
        self._sound = False
        return super()._with_merged(done)

    # ----------------------------------------------------------------- where they are

    @property
    def _base(self) -> int:
        return self._genomes.starts[-1] if self._genomes and self._genomes.starts else 0

    def _is_in_genomes(self, depth: int) -> bool:
        return self.stack[1].key == "genomes" and (depth < _AT_GENOME or self.stack[2].key is not None)

    def _is_in_groups(self, depth: int) -> bool:
        return self.stack[3].key == "assets" and self._is_in_genomes(depth) and bool(self._groups)

    def _place(self, event: yaml.Event) -> int:
        """Where the event's line begins. The parser goes through the lines in their order."""
        line, column = event.start_mark.line, event.start_mark.column
        while self._line < line:
            self._line_at = self._text.find(b"\n", self._line_at) + 1 or len(self._text)
            self._line += 1
        indented = self._text[self._line_at : self._line_at + column]
        self._sound = self._sound and (not indented or indented.isspace()) and b"\t" not in indented
        return self._line_at


def _line_end(text: bytes, place: int) -> int:
    return text.find(b"\n", place) + 1 or len(text)


def _moved(places: array[int], by: int) -> array[int]:
    return array("Q", [place + by for place in places])
