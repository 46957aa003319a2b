"""Tables and progress. rich is imported on a terminal only; elsewhere lines are plain, whole and without colour."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from refgenied.client import Json, words


class Column(NamedTuple):
    title: str
    least: int = 0
    """It may be cut down to so many characters; 0: never."""
    cut: Callable[[str, int], str] | None = None
    """How it is cut; None: it is wrapped between words."""
    right: bool = False


DIGEST = Column("Digest", 7, words.middle)
NAME = Column("Asset name", 17, words.registry_path)
PATH = Column("Path", 10, words.middle)
SIZE = Column("Size", right=True)
PULLS = Column("Pulls", right=True)

_STYLES = {"archived": "green", "complete": "green", "succeeded": "green", "failed": "red", "stale": "yellow"}


def on_terminal() -> bool:
    return sys.stdout.isatty()


def table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: as wide as the terminal at most, or whole where there is none."""
    if on_terminal():
        _drawn(title, columns, rows, os.get_terminal_size(sys.stdout.fileno()).columns or 80)
    else:
        _plain(title, columns, rows)


def _plain(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    lines = [[column.title for column in columns], *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    print(title)
    for line in lines:
        cells = (
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        )
        print("  ".join(cells).rstrip())


def _drawn(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> None:
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    widths = fitted(columns, rows, width - 3 * len(columns) - 1)
    if sum(widths) + 3 * len(columns) + 1 > width:
        _stacked(title, columns, rows)
        return
    drawn = Table(title=title, box=box.ROUNDED, title_style="bold", header_style="bold", width=None)
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
            column.cut(text, wide) if column.cut else text
            for text, wide, column in zip(row, widths, columns, strict=True)
        )
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    Console(width=width, highlight=False).print(drawn)


def _stacked(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """For a terminal that is too narrow for a table: a line for each cell, and nothing is cut."""
    print(title)
    widest = max(len(column.title) for column in columns)
    for row in rows:
        print()
        for column, text in zip(columns, row, strict=True):
            if text:
                print(f"{column.title:<{widest}}  {text}")


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths that fit into `room` characters: the widest column that may shrink gives way first."""
    widths = [max([len(column.title), *(len(row[n]) for row in rows)], default=0) for n, column in enumerate(columns)]
    while sum(widths) > room:
        shrinkable = [n for n, column in enumerate(columns) if column.least and widths[n] > column.least]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda n: widths[n])
        widths[widest] -= 1
    return widths


Show = Callable[[Json], None]
"""Takes one reading of progress."""


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Generator[Show]:
    """A bar with source bytes, rate and time left; where there is no terminal, a line for each phase."""
    if quiet:
        yield lambda reading: None  # noqa: ARG005
    elif on_terminal():
        with _bar(label) as show:
            yield show
    else:
        yield _lines(label)


def _lines(label: str) -> Show:
    phase = ""

    def show(reading: Json) -> None:
        nonlocal phase
        if reading["phase"] != phase:
            phase = reading["phase"]
            print(f"{label}: {phase} ({words.size(reading['total'])})", flush=True)

    return show


@contextmanager
def _bar(label: str) -> Generator[Show]:
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415
    from rich.table import Column as Place  # noqa: PLC0415

    told = TextColumn("{task.fields[told]}", table_column=Place(no_wrap=True))
    name = TextColumn("{task.description}", table_column=Place(no_wrap=True))
    with Progress(name, BarColumn(bar_width=None), told, transient=True, expand=True) as bar:
        task = bar.add_task(f"{label} waiting", total=None, told="")

        def show(reading: Json) -> None:
            bar.update(
                task,
                description=f"{label} {reading['phase']}",
                completed=reading["done"],
                total=reading["total"] or None,
                told=_told(reading),
            )

        yield show


def _told(reading: Json) -> str:
    """Source bytes, rate, time left."""
    done, total, rate = reading["done"], reading["total"], reading["rate"]
    left = f" {words.span((total - done) / rate)}" if rate > 0 and done < total else ""
    return f"{words.size(done)}/{words.size(total)} {words.size(rate)}/s{left}"
