"""Tables and progress. rich is imported only for a terminal. Otherwise lines are plain, uncut and without colour."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from refgenied.client import Json, words
from refgenied.shared import output


class Column(NamedTuple):
    title: str
    least: int = 0
    """The column is never cut to fewer characters; 0: it is never cut."""
    cut: Callable[[str, int], str] | None = None
    """The function that cuts a text. None: the text is wrapped between words."""
    right: bool = False


DIGEST = Column("Digest", 7, words.middle)
ASSET_NAME = Column("Asset name", 17, words.registry_path)
PATH = Column("Path", 10, words.middle)
SIZE = Column("Size", right=True)
PULLS = Column("Pulls", right=True)

_STYLES = {"archived": "green", "complete": "green", "succeeded": "green", "failed": "red", "stale": "yellow"}


def table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, none: str = "") -> None:
    """Print a table, at most as wide as the terminal; without a terminal it is not cut. `none`: for no rows."""
    if not rows and none:
        output.say(none)
        return
    title, *_ = _spelled([title])
    rows = [_spelled(row) for row in rows]
    if output.on_terminal():
        _drawn(title, columns, rows, output.width())
    else:
        _plain(title, columns, rows)


def _spelled(texts: Sequence[str]) -> list[str]:
    return [output.spelled(text, output.encoding()) for text in texts]


def _plain(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    lines = [[column.title for column in columns], *rows]
    widths = [max(output.columns(line[n]) for line in lines) for n in range(len(columns))]
    output.say(title)
    for line in lines:
        cells = (_padded(text, width, column) for text, width, column in zip(line, widths, columns, strict=True))
        output.say("  ".join(cells).rstrip())


def _padded(text: str, width: int, column: Column) -> str:
    space = " " * (width - output.columns(text))
    return f"{space}{text}" if column.right else f"{text}{space}"


def _drawn(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> None:
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    widths = fitted(columns, rows, width - 3 * len(columns) - 1)
    if sum(widths) + 3 * len(columns) + 1 > width:
        _stacked(title, columns, rows)
        return
    drawn = Table(title=Text(title), box=box.ROUNDED, title_style="bold", header_style="bold", width=None)
    for column, wide in zip(columns, widths, strict=True):
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=column.cut is not None or column.least == 0,
            overflow="fold",
            max_width=wide,
        )
    for row in rows:
        cells = (
            output.spelled(column.cut(text, wide), output.encoding()) if column.cut else text
            for text, wide, column in zip(row, widths, columns, strict=True)
        )
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    # Without a height, rich assumes 80 columns for a terminal that can only print lines.
    Console(width=width, height=25, highlight=False).print(drawn)


def _stacked(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print one line for each cell, without cuts, for a terminal that is too narrow for a table."""
    output.say(title)
    widest = max(len(column.title) for column in columns)
    for row in rows:
        output.say("")
        for column, text in zip(columns, row, strict=True):
            if text:
                output.say(f"{column.title:<{widest}}  {text}", indent=widest + 2)


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths of the columns that fit into `room` characters. The widest column that may be cut is cut first."""
    widths = [
        max([output.columns(column.title), *(output.columns(row[n]) for row in rows)], default=0)
        for n, column in enumerate(columns)
    ]
    while sum(widths) > room:
        shrinkable = [n for n, column in enumerate(columns) if column.least and widths[n] > column.least]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda n: widths[n])
        widths[widest] -= 1
    return widths


Show = Callable[[Json], None]
"""A function that shows one reading: a row with `phase`, `done`, `total` and `rate`, as the daemon sends it."""


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Generator[Show]:
    """Show a bar with source bytes, rate and time left. Without a terminal, or if it can only print lines: show one
    line for each phase.
    """
    label = output.spelled(label, output.encoding())
    if quiet:
        yield lambda reading: None  # noqa: ARG005
    elif output.on_terminal() and not output.dumb():
        with _bar(label) as show:
            yield show
    else:
        yield _lines(label)


@contextmanager
def notices(
    label: str, *, json: bool, tell: Callable[[Json], None] | None = None
) -> Generator[Callable[[str, Json], None]]:
    """Handle the notifications of a long request: draw its progress, and say why it waits.

    The rows of other notifications go to `tell`, or with `json` they are printed for programs.
    """

    def heard(method: str, row: Json) -> None:
        if method == "progress":
            show(row)
        elif method == "waiting":
            output.note("refgeniectl", f"{label} waits: {row['reason']}")
        elif tell and json:
            output.print_json(words.without_watch(row))
        elif tell:
            tell(row)

    with progress(label, quiet=json) as show:
        yield heard


def _lines(label: str) -> Show:
    phase = ""

    def show(reading: Json) -> None:
        nonlocal phase
        if reading["phase"] != phase:
            phase = reading["phase"]
            of = f" ({words.size(reading['total'])})" if reading["total"] else ""
            output.say(f"{label}: {phase}{of}")

    return show


@contextmanager
def _bar(label: str) -> Generator[Show]:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415
    from rich.table import Column as Place  # noqa: PLC0415

    def cell(text: str) -> TextColumn:
        return TextColumn(text, markup=False, table_column=Place(no_wrap=True, overflow="crop"))

    def named(phase: str) -> str:
        room = max(12, output.width() // 2 - len(phase) - 1)
        return output.spelled(f"{words.registry_path(label, room)} {phase}", output.encoding())

    with Bars(
        cell("{task.description}"),
        BarColumn(bar_width=None),
        cell("{task.fields[told]}"),
        console=Console(highlight=False, markup=False, emoji=False),
        transient=True,
        expand=True,
    ) as bars:
        task = bars.add_task(named("waiting"), total=None, told="")

        def show(reading: Json) -> None:
            bars.update(
                task,
                description=named(reading["phase"]),
                completed=reading["done"],
                total=reading["total"] or None,
                told=_told(reading),
            )

        yield show


def _told(reading: Json) -> str:
    """Source bytes, rate and time left; values that are not known are left out."""
    done, total, rate = reading["done"], reading["total"], reading["rate"]
    of = f"/{words.size(total)}" if total else ""
    speed = f" {words.size(rate)}/s" if rate > 0 else ""
    left = f" {words.span((total - done) / rate)}" if rate > 0 and done < total else ""
    return f"{words.size(done)}{of}{speed}{left}"
