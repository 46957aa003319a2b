"""The command line of both commands: an error is one line and a hint, and help fits the terminal."""

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

USAGE_STATUS = 2
OPTION = re.compile(r"\[[^\]]*\]+|\S+")
"""A part of the usage that is never broken over two lines."""
ONE_LINE_WIDTH = 10_000
"""Columns that hold every usage in one line."""


class Help(argparse.HelpFormatter):
    """Paragraphs keep their lines. Lines and usage are wrapped when the terminal is narrower."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [line for part in text.splitlines() for line in output.wrapped(part, width, indent=4)]
        return "\n".join(indent + line for line in lines)

    def _format_usage(
        self, usage: str | None, actions: Iterable[Any], groups: Iterable[Any], prefix: str | None
    ) -> str:
        room, self._width = self._width, ONE_LINE_WIDTH
        try:
            text = super()._format_usage(usage, actions, groups, prefix).strip()
        finally:
            self._width = room
        return "\n".join(output.wrapped(text, room, indent=7, words=OPTION)) + "\n\n"


class Parser(argparse.ArgumentParser):
    def __init__(self, *, prog: str | None = None, **settings: Any) -> None:
        super().__init__(prog=prog, formatter_class=Help, **settings)
        self.color = False
        """Python 3.14 colours the help, and wrongly counts the codes for colours as text."""

    def error(self, message: str) -> NoReturn:
        output.complain(self.prog, message, f"{self.prog} --help", kind="usage")
        sys.exit(USAGE_STATUS)


def require_utf8_names(module: str, words: list[str]) -> None:
    """Start `module` again with these words if Python does not read file names as UTF-8.

    refgenie writes them in UTF-8 in every locale, and Python asks for the locale only once, at its start. Printed text
    stays in the locale's encoding.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    encoding = sys.stdout.encoding if sys.stdout else "ascii"  # None: it is closed
    environment = os.environ | {"PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING") or encoding}
    python = sys.executable
    os.execve(python, [python, "-P", "-X", "utf8", "-m", module, *words], environment)  # noqa: S606
