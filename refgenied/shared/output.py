"""Prints the texts of both commands for people. They fit the terminal and its encoding, and cannot control it.

Names, messages and file lists are text of other people. `spelled` makes them harmless, and all printing goes through
`say` and `complain`. This file uses only the standard library, because `refgeniectl` must start in milliseconds.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from contextlib import suppress
from io import TextIOWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

PLAIN = {"…": "~", "·": "-"}
"""Our own marks, and their replacements for encodings that do not have them. Each is one column wide."""
WORD = re.compile(r"(?:`[^`]*`|\S)+")
"""A word, a path or a command in backquotes. It is never broken over two lines, so people can copy it."""


class _Mode:
    as_json = False


def set_up(*, as_json: bool = False) -> None:
    """Call this once, before anything is printed. `as_json`: each message on stderr is one JSON object in one line.

    A closed standard stream leads to /dev/null from now on. Otherwise the next opened file would get its number.
    """
    _Mode.as_json = as_json
    for number, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
        if (sys.stdin, sys.stdout, sys.stderr)[number] is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 (it lives as long as the process)
            setattr(sys, ("stdin", "stdout", "stderr")[number], stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # other streams (in tests) take any character
            stream.reconfigure(errors="backslashreplace")


# --------------------------------------------------------------------------- text


def spelled(text: str, encoding: str | None = "utf-8") -> str:
    r"""The text as one printable line: a character that cannot be printed is written as `\x1b` or `\u202e`.

    Such characters are: those that the encoding does not have, and those that Python calls not printable. These are
    control and format characters (some change the writing direction), half surrogates (bytes of a name that is not
    UTF-8), odd spaces and line separators.
    """
    if text.isprintable() and (text.isascii() or fits(text, encoding)):
        return text
    return "".join(c if c.isprintable() and fits(c, encoding) else _spelled(c) for c in text)


def fits(text: str, encoding: str | None = "utf-8") -> bool:
    """Whether the text can be written in this encoding."""
    try:
        text.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _spelled(character: str) -> str:
    return PLAIN.get(character) or character.encode("unicode_escape").decode("ascii")


def moment(at: float, now: float | None = None) -> str:
    """Local time: `14:03:07` today, `2025-11-21 14:03` on another day. `now`: None for the clock's time."""
    then, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def columns(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    from unicodedata import category, east_asian_width  # noqa: PLC0415 (most names are ASCII)

    if category(character) in ("Mn", "Me"):  # drawn over the character before it
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def head(text: str, width: int) -> str:
    """The longest start of the text that takes at most this many columns."""
    if text.isascii():
        return text[: max(0, width)]
    taken = 0
    for number, character in enumerate(text):
        taken += _columns(character)
        if taken > width:
            return text[:number]
    return text


def tail(text: str, width: int) -> str:
    """The longest end of the text that takes at most this many columns."""
    return head(text[::-1], width)[::-1]


def wrapped(text: str, width: int, indent: int = 0, *, words: re.Pattern[str] = WORD) -> list[str]:
    """Lines of at most `width` columns, all but the first indented.

    A word that is too long is not broken here: the terminal breaks it, and people can still copy it.
    """
    if columns(text) <= width:
        return [text]
    lines: list[str] = []
    begin = end = 0
    room, later = width, max(width // 2, width - indent)
    for word in words.finditer(text):
        over = columns(text[begin : word.end()]) > room
        if over and end and (columns(word.group()) <= later or columns(text[begin:end]) > room):
            lines.append(text[begin:end])
            begin = word.start()
            room = later
        end = word.end()
    lines.append(text[begin:end])
    return [lines[0], *(" " * indent + line for line in lines[1:])]


# --------------------------------------------------------------------------- streams


def encoding() -> str | None:
    """The encoding of stdout."""
    return _real(sys.stdout).encoding


def on_terminal() -> bool:
    return _real(sys.stdout).isatty()


def _real(stream: TextIO) -> TextIO:
    """The stream itself. While rich draws a bar, it replaces the stream by an object that prints lines above the bar
    and says that it is not a terminal.
    """
    return getattr(stream, "rich_proxied_file", stream)


def coloured(stream: TextIO) -> bool:
    """Whether the stream shows colours and the user wants them (https://no-color.org)."""
    return stream.isatty() and not dumb() and not os.environ.get("NO_COLOR")


def plain_again() -> None:
    """End a colour in which a line was cut off."""
    with suppress(OSError):
        if coloured(sys.stdout):
            sys.stdout.write("\x1b[0m")
            sys.stdout.flush()


def dumb() -> bool:
    """Whether the terminal can only print lines."""
    return os.environ.get("TERM", "") in ("", "dumb", "unknown")


def width() -> int:
    """Columns of the terminal, or $COLUMNS when it is set."""
    import shutil  # noqa: PLC0415 (it takes milliseconds, and a pipe has no width)

    return shutil.get_terminal_size().columns


def say(text: str, *, indent: int = 2) -> None:
    """Print one line on stdout at once. A narrow terminal gets several lines; all but the first are indented."""
    print("\n".join(_lines(text, sys.stdout, indent)), flush=True)


def say_all(lines: Iterable[str]) -> None:
    """Print lines on stdout that fit it already, all at once."""
    text = "\n".join(lines)
    if text:
        print(text, flush=True)


def complain(program: str, message: str, hint: str = "", *, kind: str = "error") -> None:
    """Print on stderr an error and what to do."""
    _tell(complaint(program, message, hint, kind=kind))


def complaint(program: str, message: str, hint: str = "", *, kind: str = "error") -> str:
    """The text that `complain` prints."""
    if _Mode.as_json:
        return json.dumps({"error": {"kind": kind, "message": message, "hint": hint}})
    lines = _lines(f"{program}: {message}", sys.stderr, 2)
    if hint:
        lines += _lines(f"hint: {hint}", sys.stderr, 6)
    return "\n".join(lines)


def note(program: str, message: str, *, below: bool = False) -> None:
    """Print on stderr a note that is not an error. `below`: on a new line, below the `^C` that a terminal shows."""
    if _Mode.as_json:
        _tell(json.dumps({"note": message}))
        return
    start = "\n" if below and sys.stderr.isatty() else ""
    _tell(start + "\n".join(_lines(f"{program}: {message}", sys.stderr, 2)))


def _tell(lines: str) -> None:
    """Print on stderr. When nobody reads it, or its disk is full, the exit status stays the same."""
    try:
        print(lines, file=sys.stderr, flush=True)
    except OSError:
        let_go_of(sys.stderr)


def let_go_of(stream: TextIO) -> None:
    """Throw away text that could not be written. Otherwise Python tries again at its end, and prints an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_json(*rows: object, indent: int | None = None) -> None:
    """Print JSON for programs: one line in ASCII for each row. So even a name that is not UTF-8 can be printed."""
    print("\n".join(json.dumps(row, indent=indent) for row in rows), flush=True)


def _lines(text: str, stream: TextIO, indent: int) -> list[str]:
    text = spelled(text, _real(stream).encoding)
    return wrapped(text, width(), indent) if _real(stream).isatty() else [text]
