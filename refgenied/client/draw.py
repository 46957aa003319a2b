"""The progress of long work. rich is imported only for a terminal. Otherwise lines are plain and without colour."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from refgenied.client import Json, words
from refgenied.shared import output

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
