"""Tables. Their rows are printed as they come, so the first page of rows decides the widths of the columns.

In a pipe nothing is cut, and a later cell that is longer only pushes the cells after it. On a terminal the frame is
drawn in pieces: head, rows of each page, foot. A cell that is longer than its column is then folded over several lines.
It is cut only in a column that was cut on the first page too, because the terminal has no room for all of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from refgenied.client import words
from refgenied.shared import output


class Column(NamedTuple):
    title: str
    least: int = 0
    """The column is never cut to fewer characters; 0: it is never cut."""
    cut: Callable[[str, int], str] | None = None
    """The function that cuts a text. None: the text is wrapped between words."""
    right: bool = False
    usual: int = 0
    """The width that later pages may need, if the first one does not."""


DIGEST = Column("Digest", 7, words.middle)
ASSET_NAME = Column("Asset name", 17, words.registry_path, usual=80)
PATH = Column("Path", 10, words.middle, usual=120)
SIZE = Column("Size", right=True, usual=9)
PULLS = Column("Pulls", right=True, usual=6)

Cells = Sequence[str]


class Page(NamedTuple):
    rows: Sequence[Cells]
    more: bool = False
    """Whether another page follows."""


_STYLES = {"archived": 32, "complete": 32, "succeeded": 32, "failed": 31, "stale": 33}
"""The colours of some cells, as a terminal knows them: green, red, yellow."""
_BOLD = 1
_ROUNDED = ("╭─┬╮", "├─┼┤", "╰─┴╯", "│")
_ASCII = ("+--+", "|-+|", "+--+", "|")
"""The lines above the head, below the head and below the last row: left end, line, crossing, right end; and the bar."""


def table(title: str, columns: Sequence[Column], pages: Iterable[Page], *, none: str = "") -> None:
    """Print a table, at most as wide as the terminal; without a terminal it is not cut. `none`: for no rows.

    Each page is printed before the next one is taken.
    """
    left = iter(pages)
    first = next(left)
    if not first.rows and none:
        output.say(none)
        return
    title, *_ = _spelled([title])
    spelled = (Page([_spelled(row) for row in page.rows], page.more) for page in chain([first], left))
    lines = _drawn if output.on_terminal() else _plain
    for page in lines(title, columns, next(spelled), spelled):
        output.say_all(page)


def _spelled(texts: Cells) -> list[str]:
    return [output.spelled(text, output.encoding()) for text in texts]


Lines = Iterator[list[str]]
"""The printed lines of each page."""


def _plain(title: str, columns: Sequence[Column], first: Page, others: Iterable[Page]) -> Lines:
    head = [column.title for column in columns]
    widths = [max(output.columns(row[n]) for row in [head, *first.rows]) for n in range(len(columns))]

    def line(row: Cells) -> str:
        cells = (_padded(text, width, column) for text, width, column in zip(row, widths, columns, strict=True))
        return "  ".join(cells).rstrip()

    yield [title, line(head), *map(line, first.rows)]
    for page in others:
        yield [line(row) for row in page.rows]


def _padded(text: str, width: int, column: Column) -> str:
    space = " " * (width - output.columns(text))
    return f"{space}{text}" if column.right else f"{text}{space}"


# --------------------------------------------------------------------------- on a terminal


def _drawn(title: str, columns: Sequence[Column], first: Page, others: Iterable[Page]) -> Lines:
    width = output.width()
    room = width - 3 * len(columns) - 1
    widths = fitted(columns, first.rows, room, more=first.more)
    if sum(widths) > room:
        yield from _stacked(title, columns, first, others)
        return
    frame = _Frame(columns, widths, first.rows)
    wide = sum(widths) + 3 * len(columns) + 1
    titles = [frame.styled(line.center(wide).rstrip(), _BOLD) for line in folded(title, wide)]
    yield [*titles, *frame.head(), *(line for row in first.rows for line in frame.row(row))]
    for page in others:
        yield [line for row in page.rows for line in frame.row(row)]
    yield [frame.foot]


class _Frame:
    """Draws the pieces of one table."""

    def __init__(self, columns: Sequence[Column], widths: Sequence[int], first: Sequence[Cells]) -> None:
        self._columns = columns
        self._widths = widths
        self._narrow = [any(output.columns(row[n]) > width for row in first) for n, width in enumerate(widths)]
        """Whether the column was too narrow for the first page already."""
        self._coloured = output.coloured(sys.stdout)
        self._bold = not output.dumb()
        above, below, end, self._bar = _ROUNDED if output.fits(_ROUNDED[0], output.encoding()) else _ASCII
        self._above, self._below, self.foot = map(self._line, (above, below, end))

    def _line(self, piece: str) -> str:
        left, line, crossing, right = piece
        return left + crossing.join(line * (width + 2) for width in self._widths) + right

    def head(self) -> list[str]:
        titles = [folded(column.title, width) for column, width in zip(self._columns, self._widths, strict=True)]
        return [self._above, *self._cells(titles, _BOLD), self._below]

    def row(self, row: Cells) -> list[str]:
        return self._cells([self._fitting(n, text) for n, text in enumerate(row)])

    def _fitting(self, n: int, text: str) -> list[str]:
        column, width = self._columns[n], self._widths[n]
        if output.columns(text) <= width:
            return [text]
        if column.cut and self._narrow[n]:
            return [output.spelled(column.cut(text, width), output.encoding())]
        return folded(text, width)

    def _cells(self, cells: Sequence[Sequence[str]], style: int = 0) -> list[str]:
        """The lines of one row, from the lines of its cells."""
        bar = self._bar
        lines: list[str] = []
        for number in range(max(map(len, cells))):
            texts = [cell[number] if number < len(cell) else "" for cell in cells]
            shown = (
                self.styled(_padded(text, width, column), style or _STYLES.get(text, 0))
                for text, width, column in zip(texts, self._widths, self._columns, strict=True)
            )
            lines.append(f"{bar} {f' {bar} '.join(shown)} {bar}")
        return lines

    def styled(self, text: str, style: int) -> str:
        wanted = self._bold if style == _BOLD else self._coloured
        return f"\x1b[{style}m{text}\x1b[0m" if style and wanted else text


def folded(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns: broken between words, and inside a word that is too long."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if output.columns(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        line = word
        while output.columns(line) > width:
            part = output.head(line, width) or line[0]
            lines.append(part)
            line = line[len(part) :]
    return [*lines, line] if line or not lines else lines


def _stacked(title: str, columns: Sequence[Column], first: Page, others: Iterable[Page]) -> Lines:
    """One line for each cell, without cuts, for a terminal that is too narrow for a table."""
    widest = max(len(column.title) for column in columns)
    yield [title]
    for page in chain([first], others):
        lines: list[str] = []
        for row in page.rows:
            lines.append("")
            for column, text in zip(columns, row, strict=True):
                if text:
                    lines += output.wrapped(f"{column.title:<{widest}}  {text}", output.width(), widest + 2)
        yield lines


def fitted(columns: Sequence[Column], rows: Sequence[Cells], room: int, *, more: bool = False) -> list[int]:
    """Widths of the columns that fit into `room` characters. The widest column that may be cut is cut first.

    `more`: other rows follow, with cells that may be longer. They get what is left of the room.
    """
    needed = [
        max([output.columns(column.title), *(output.columns(row[n]) for row in rows)], default=0)
        for n, column in enumerate(columns)
    ]
    least = [column.least or width for column, width in zip(columns, needed, strict=True)]
    if not more:
        return _shrunk(needed, least, room)
    widths = needed
    if sum(needed) > room:  # something is cut anyway, so each column gets its least
        widths = _shrunk(_shrunk([*map(max, needed, least)], least, room), [*map(min, needed, least)], room)
    for wanted in (least, [column.usual if not column.least else 0 for column in columns], [c.usual for c in columns]):
        for n, width in enumerate(wanted):
            widths[n] += max(0, min(width - widths[n], room - sum(widths)))
    return widths


def _shrunk(widths: list[int], least: Sequence[int], room: int) -> list[int]:
    """The widths, made smaller from the widest on until they fit, but none below `least`."""
    widths = [*widths]
    while sum(widths) > room:
        shrinkable = [n for n, width in enumerate(widths) if width > least[n]]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda n: widths[n])
        widths[widest] -= 1
    return widths
