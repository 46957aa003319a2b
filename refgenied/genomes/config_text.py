"""Reads a config again at the cost of what has changed in it, with exactly the result of reading all of it.

refgenie writes the whole file for each build, and 10,000 assets take 0.75 s of CPU to parse. So `ConfigText` keeps the
last text, and where in it each genome and each asset group begins. It compares a new text with the last one at C speed,
parses only the groups (or genomes) around each difference, each such window as a document of its own, and says what was
in the window before and what is in it now.

*Why the result is the same.* YAML is parsed from left to right. A window begins at the line of a key of a block
mapping, and this line and the text before it, back to the last window, are unchanged: so the parser comes to this line
in the same state as before. The window ends before a line with a key of the same mapping or of one around it, and this
line is unchanged, too. Its indentation ends every block of the window. Nothing else can be open there: a quoted text or
a flow collection without an end is an error in the window alone. So behind the window the parser goes on in the same
state as before. In the window the mapping's keys stand in the column where they stood, and no line begins left of it,
so the window cannot end the mapping. Constructs that reach further make it read the whole text: anchors, aliases, `<<`,
a name that occurs twice, a value that is left out, other line breaks than LF, document markers, no newline at the end,
and limits that might be exceeded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import yaml

from refgenied.genomes.text_changes import Change, as_one, changes
from refgenied.genomes.text_landmarks import Block, Landmarks, MarkingBuilder
from refgenied.genomes.yaml_limits import OF_PEOPLE, Limits
from refgenied.genomes.yaml_reader import Document, GarbledError, events
from refgenied.genomes.yaml_scalars import Value

_FAR = (b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\n---", b"\n...", b"\n%")
"""Other line breaks, document markers and directives."""
_SMALL = 1 << 18
"""Windows of fewer bytes are read, however small the whole text is."""
_FAR_AT_BEGIN = (b"---", b"...", b"%", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""The same, and the marks of an encoding."""
_OUTDENTED = re.compile(rb"^[^ #\n]|\r|\xc2\x85|\xe2\x80[\xa8\xa9]", re.MULTILINE)


class Part(NamedTuple):
    """What was read again: genomes, or asset groups of one genome. All others are as they were."""

    digest: str | None
    """The genome whose groups were read; None: genomes were read."""
    before: dict[str, Value]
    """Name → value in the old text. What `now` lacks is gone."""
    now: dict[str, Value]
    """Name → value in the new text; some may be as before."""


class ConfigText:
    """A text of the shape `genomes > DIGEST > assets > GROUP`, as refgenie and the catalog write it:

        text, document = ConfigText.read(first)      # the whole document; GarbledError, as `yaml_reader.read`
        again = text.reread(second)
        if again is None:                            # it cannot tell what has changed
            text, document = ConfigText.read(second)
        else:
            text, parts = again                      # apply the parts in their order; [] when nothing has changed

    All values outside of the parts are as they were, and no value was left out (`Document.odd` is empty). An object
    never changes, so the old one stays good when a new text proves to be half written. It keeps the text, and about 20
    bytes for each group, but no values.
    """

    def __init__(self, text: bytes, marks: Landmarks | None, values: int, limits: Limits = OF_PEOPLE) -> None:
        self.text = text
        self._limits = limits
        self._marks = marks
        """None: something reaches beyond each window, so the next text is read whole."""
        self._values = values
        """The text has at most this many values."""

    @classmethod
    def read(cls, text: bytes, limits: Limits = OF_PEOPLE) -> tuple[ConfigText, Document]:
        """Read all of a text. The limits hold for the next texts too. GarbledError."""
        stream = events(text, limits)
        builder = MarkingBuilder(text, limits=limits)
        builder.fill(stream)
        plain = text.endswith(b"\n") and not text.startswith(_FAR_AT_BEGIN) and not any(far in text for far in _FAR)
        marks = builder.landmarks() if plain and _is_over(stream) else None
        return cls(text, marks, builder.values, limits), builder.document()

    def reread(self, text: bytes) -> tuple[ConfigText, list[Part]] | None:
        """What differs in a new text; None when all of it must be read. Never raises an error."""
        if text == self.text:
            return self, []
        marks = self._marks
        if marks is None or not text.endswith(b"\n") or len(text) > self._limits.max_bytes:
            return None
        found = changes(self.text, text, marks.lines_from)
        again = self._reread(marks, text, found)
        return self._reread(marks, text, [as_one(found)]) if again is None and len(found) > 1 else again

    def _reread(self, marks: Landmarks, text: bytes, found: list[Change]) -> tuple[ConfigText, list[Part]] | None:
        ends = [0, *(change.old_end for change in found)]
        begins = [*(change.old for change in found), len(self.text)]
        windows = [
            _window(marks, self.text, text, change, ends[number], begins[number + 1])
            for number, change in enumerate(found)
        ]
        sure = [window for window in windows if window is not None]
        if len(sure) < len(found) or any(one.old_end > other.old for one, other in pairwise(sure)):
            return None
        if sum(window.old_end - window.old + window.new_end - window.new for window in sure) > max(len(text), _SMALL):
            return None  # to read all of it is less work
        parts: list[Part] = []
        values = self._values
        for window in reversed(sure):  # so that the places before a window stay as they are
            before = window.read(self.text[window.old : window.old_end])
            now = window.read(text[window.new : window.new_end])
            following = window.marked(marks, now) if before is not None and now is not None else None
            if before is None or now is None or following is None:
                return None
            marks = following
            values += now.amount
            parts.append(Part(window.digest, before.values, now.values))
        most = self._limits.max_values
        return (ConfigText(text, marks, values, self._limits), parts[::-1]) if values <= most else None


class _Reading(NamedTuple):
    """The lines of one window, read as a document of its own."""

    values: dict[str, Value]
    amount: int
    block: Block | None
    """Where the keys are; None: there is none."""
    groups: list[Block | None]
    """Of each genome, if the keys are genomes."""


class _Window(NamedTuple):
    """Neighbouring keys of one mapping, and their lines in both texts."""

    genome: int | None
    """The number of the genome to whose groups the keys belong; None: they are genomes."""
    digest: str | None
    block: Block
    base: int
    """Where the places of the mapping count from."""
    first: int
    last: int
    """The keys from `first` to before `last`."""
    old: int
    old_end: int
    new: int
    new_end: int

    def read(self, text: bytes) -> _Reading | None:
        """What these lines hold; None when they are anything else than keys of this mapping."""
        builder = MarkingBuilder(text, ("genomes",) if self.digest is None else ("genomes", self.digest, "assets"))
        try:
            stream = events(text)
            builder.fill(stream)
        except GarbledError:
            return None
        values, block = builder.inner, builder.inner_block
        if _OUTDENTED.search(text) or not _is_over(stream) or not builder.sound or not isinstance(values, dict):
            return None
        if (block is None) is not (builder.values == 0) or (block and block.column != self.block.column):
            return None
        return _Reading(values, builder.values, block, builder.groups)

    def marked(self, marks: Landmarks, now: _Reading) -> Landmarks | None:
        """The landmarks with the new keys; None: a name occurs twice, or no key is left."""
        grown = (self.new_end - self.new) - (self.old_end - self.old)
        block = marks.genomes if self.genome is None else marks.groups[self.genome]
        block = block and block.replaced(self.first, self.last, now.block, self.old - self.base, grown)
        if block is None:
            return None
        if self.genome is None:
            return marks.with_genomes(block, self.first, self.last, now.groups)
        return marks.with_groups(self.genome, block, grown)


def _window(marks: Landmarks, old: bytes, new: bytes, change: Change, since: int, until: int) -> _Window | None:
    """The smallest window around a change, with its borders in unchanged text: from `since` and until `until`."""
    genome = marks.genome_at(change.old)
    levels: list[tuple[int | None, str | None, Block | None, int]] = [(None, None, marks.genomes, 0)]
    if genome is not None:
        base = marks.genomes.starts[genome]
        levels.insert(0, (genome, marks.genomes.names[genome], marks.groups[genome], base))
    for number, digest, block, base in levels:
        first = block.last_before(old, base, since, change.old) if block else None
        last = block.first_after(old, base, change.old_end, until) if block else None
        if block is None or first is None or last is None or first > last:
            continue
        begin, end = base + block.place(first), base + block.place(last)
        new_begin, new_end = begin + change.new - change.old, end + change.shift
        if _left_of(block.column).search(new, new_begin, new_end):
            continue  # a line ends the mapping: it takes the mapping around it
        if all(place == 0 or new[place - 1] == ord("\n") for place in (new_begin, new_end)):
            return _Window(number, digest, block, base, first, last, begin, end, new_begin, new_end)
    return None


@cache
def _left_of(column: int) -> re.Pattern[bytes]:
    """A line that begins left of a column."""
    return re.compile(rb"^ {0,%d}[^ #\n]" % (column - 1), re.MULTILINE) if column else re.compile(rb"")


def _is_over(stream: Iterator[yaml.Event]) -> bool:
    """Whether nothing follows the document."""
    try:
        following = next(stream, None)
    except GarbledError:
        return False
    return following is None or isinstance(following, yaml.StreamEndEvent)
