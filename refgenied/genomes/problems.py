"""Problems of the genome folder, with a limit: a million odd entries give a hundred lines and a number."""

from refgenied.genomes.enclosure import shown
from refgenied.model import Problem

MAX_PROBLEMS = 100
_MAX_CHARACTERS = 500
"""The most characters of one message."""


class Problems:
    """Collects problems; the first MAX_PROBLEMS are reported one by one, the rest are counted."""

    def __init__(self) -> None:
        self._told: list[Problem] = []
        self._more = 0

    def add(self, path: str, message: str) -> None:
        if len(self._told) < MAX_PROBLEMS:
            self._told.append(Problem(_cut(shown(path)), _cut(shown(message))))
        else:
            self._more += 1

    def told(self) -> tuple[Problem, ...]:
        if not self._more:
            return tuple(self._told)
        return (*self._told, Problem(self._told[0].path, f"and {self._more} more problems"))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
