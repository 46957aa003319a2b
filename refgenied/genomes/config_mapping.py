"""One mapping of a config whose values may have any type: the sound ones are taken, the others are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refgenied.genomes.registry_path import is_name
from refgenied.genomes.yaml_scalars import Value, text_of


class Mapping:
    """One mapping of the config. A value of the wrong type is reported with the names that lead to it."""

    def __init__(self, values: dict[str, Value], where: str, report: Callable[[str, str], None]) -> None:
        self.values = values
        self._where = where
        self._report = report

    def report(self, name: str, message: str) -> None:
        """Say that something is wrong with the value of this name."""
        self._report(f"{self._where}{name}", message)

    def wrong_type(self, name: str, wanted: str) -> None:
        self.report(name, f"should be {wanted}, not {_kind(self.values.get(name))}")

    def mapping(self, name: str) -> Mapping | None:
        """The mapping of this name; None, and a reported problem, when there is no mapping."""
        value = self.values.get(name)
        if isinstance(value, dict):
            return Mapping(value, f"{self._where}{name}.", self._report)
        self.wrong_type(name, "a mapping")
        return None

    def optional(self, name: str) -> Mapping:
        """The same for a mapping that may be missing: it is empty then."""
        found = None if self.values.get(name) is None else self.mapping(name)
        return found or Mapping({}, "", self._report)

    def names(self) -> Iterator[str]:
        """The names that are possible for genomes, groups and assets; the others are reported."""
        for name in self.values:
            if is_name(name):
                yield name
            else:
                self.report(name, "is left out: its name cannot be the name of a folder")

    def text(self, name: str) -> str:
        value = self.values.get(name)
        text = text_of(value)
        if text is None and value is not None:
            self.wrong_type(name, "a text")
        return text or ""

    def folder(self, name: str) -> str:
        text = self.text(name)
        if "\0" in text:
            self.report(name, "has a NUL, as no path has")
            return ""
        return text

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; a single one counts as a list of one."""
        value = self.values.get(name)
        if isinstance(value, dict):
            self.wrong_type(name, "a list")
        texts = map(text_of, value if isinstance(value, list) else [value])
        return tuple(text for text in texts if text is not None)


def _kind(value: Value) -> str:
    """The type of a value, without its text: readers of the message may have no right to read the file."""
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return "nothing" if value is None else f"'{value}'"
