"""The command line of both commands: usage is one line and a hint, help fits the terminal."""

from __future__ import annotations

import argparse
import os
import re
import sys

from refgenied.shared import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

USAGE = 2
OPTION = re.compile(r"\[[^\]]*\]+|\S+")
"""What is never broken over two lines of a usage."""
WIDEST = 10_000


class Help(argparse.HelpFormatter):
    """Paragraphs keep their lines. Each is wrapped where the terminal is narrower, and so is the usage."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [line for part in text.splitlines() for line in output.wrapped(part, width, indent=4)]
        return "\n".join(indent + line for line in lines)

    def _format_usage(
        self, usage: str | None, actions: Iterable[Any], groups: Iterable[Any], prefix: str | None
    ) -> str:
        room, self._width = self._width, WIDEST
        try:
            text = super()._format_usage(usage, actions, groups, prefix).strip()
        finally:
            self._width = room
        return "\n".join(output.wrapped(text, room, indent=7, words=OPTION)) + "\n\n"


class Parser(argparse.ArgumentParser):
    def __init__(self, *, prog: str | None = None, **settings: Any) -> None:
        super().__init__(prog=prog, formatter_class=Help, **settings)
        self.color = False
        """Of the help, from Python 3.14 on: it would count as text."""

    def error(self, message: str) -> NoReturn:
        output.complain(self.prog, message, f"{self.prog} --help", kind="usage")
        sys.exit(USAGE)


def require_utf8_names(module: str, words: list[str]) -> None:
    """Names of files are UTF-8, as refgenie writes them, whatever the locale is. Where Python takes them for something
    else, run `module` anew with these words: Python asks the locale once, at its start. What is printed stays in the
    locale's encoding.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    encoding = sys.stdout.encoding if sys.stdout else "ascii"  # None: it is closed
    environment = os.environ | {"PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING") or encoding}
    python = sys.executable
    os.execve(python, [python, "-P", "-X", "utf8", "-m", module, *words], environment)  # noqa: S606
