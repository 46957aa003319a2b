"""Faults of single archives' served files: one line each, with the path and with advice.

One bad file, folder or manifest never stops the other archives. A full disk or a shortage concerns all archives.
"""

import errno
from collections.abc import Sequence

import structlog

from refgenied.files.durable import DISK_FULL_ERRNOS
from refgenied.files.regular import SHORTAGE_ERRNOS
from refgenied.model import AssetKey, NoSpaceError, RefgeniedError, ShortageError

log = structlog.get_logger("serving")

MOST_LINES = 10
"""After this many lines, further lines are only counted."""

_OF_ALL = DISK_FULL_ERRNOS | SHORTAGE_ERRNOS | {errno.EROFS}
_IN_THE_WAY = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EINVAL})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM})
_DISK = frozenset({errno.EIO, errno.ESTALE, errno.EUCLEAN})


class Faults:
    """The faults that the last look at each archive met. A fault that stays is logged once."""

    def __init__(self) -> None:
        self._lines: dict[AssetKey, str] = {}
        self._before: dict[AssetKey, str] = {}
        self._not_served: set[AssetKey] = set()

    def begin(self, key: AssetKey) -> None:
        """Begin to look at this archive again. If its fault is not noted again, it is over."""
        if key in self._lines:
            self._before[key] = self._lines.pop(key)
        self._not_served.discard(key)

    def end(self) -> None:
        """All archives of this refresh were looked at."""
        self._before.clear()

    def note(
        self,
        key: AssetKey,
        error: OSError | RefgeniedError | ValueError,
        *,
        served: bool,
        aliases: Sequence[str] = (),
    ) -> None:
        """Note an error about one archive. An error that concerns all archives is raised again.

        `aliases`: those of its genome.
        """
        if isinstance(error, NoSpaceError | ShortageError) or (isinstance(error, OSError) and error.errno in _OF_ALL):
            raise error
        if not served:
            self._not_served.add(key)
        line = f"{key.named(aliases)}{' (its page only)' if served else ''}: {explained(error)}"
        self._lines[key] = line
        if self._before.get(key) != line:
            log.warning("serving.fault", asset=key.registry_path, served=served, error=explained(error))

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def keys(self) -> frozenset[AssetKey]:
        return frozenset(self._lines)

    @property
    def not_served(self) -> int:
        """How many archives are not served because of a fault. Other faults concern an archive's page only."""
        return len(self._not_served)

    @property
    def lines(self) -> tuple[str, ...]:
        return first_lines([line for _, line in sorted(self._lines.items())])


def first_lines(lines: Sequence[str], unit: str = "more") -> tuple[str, ...]:
    """The first lines, and how many more there are."""
    more = len(lines) - MOST_LINES
    return (*lines[:MOST_LINES], f"and {more} {unit}") if more > 0 else tuple(lines)


def explained(error: OSError | RefgeniedError | ValueError) -> str:
    """One line: the path, the system's error text, and advice."""
    if isinstance(error, RefgeniedError):
        return error.message + (f"; {error.hint}" if error.hint else "")
    if not isinstance(error, OSError):
        return str(error)
    path = error.filename2 or error.filename
    where = f"{path!s}: " if path else ""
    advice = _advice(error.errno)
    return f"{where}{error.strerror or error}{'; ' if advice else ''}{advice}"


def _advice(number: int | None) -> str:
    if number in _IN_THE_WAY:
        return "move away what is there"
    if number in _NOT_ALLOWED:
        return "give the daemon's user the right to write there"
    if number in _DISK:
        return "look at that disk (journalctl -k)"
    if number == errno.ENAMETOOLONG:
        return "a file name has at most 255 bytes; a shorter tag helps (refgenie tag)"
    return ""
