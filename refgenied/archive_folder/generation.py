"""A number that each publish and each removal raises, in the archive folder and in the database.

When the two differ, one of them came from a backup. The folder's number is raised first, with the name of the asset
that is about to change; the database's with the record. So a crash between the two leaves a difference of one and the
name of the only asset that has to be looked at.
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum
from pathlib import Path

import msgspec

from refgenied.files.durable import save_atomically, writing
from refgenied.files.regular import read_regular, reading
from refgenied.model import AssetKey, UnreadableError

NAME = ".refgenied.generation"
"""In the archive folder, beside the file with its id."""
MOST_UNSETTLED = 100
"""More assets whose changes never reached the database are not listed: then all of them are looked at."""
_LARGEST = 1 << 20


class Generation(msgspec.Struct, frozen=True):
    """What the archive folder says of itself."""

    number: int
    """Raised by one before anything changes."""
    unsettled: tuple[AssetKey, ...] = ()
    """The assets that a database with this number, or the one before, may still know otherwise; none after an orderly
    end, so that then also a database that lacks a single change is known to be older."""

    def next(self, key: AssetKey, *, recorded: int | None, failed: Container[AssetKey] = ()) -> Generation:
        """With one change more. `recorded`: the database's number; when it is the same, what went before is settled,
        but for the `failed` changes, which it never heard of.
        """
        before = [one for one in self.unsettled if recorded != self.number or one in failed]
        unsettled = tuple(dict.fromkeys((*before, key)))
        if len(unsettled) > MOST_UNSETTLED:
            return Generation(self.number + 2, (key,))
        return Generation(self.number + 1, unsettled)


class Age(Enum):
    """What the two numbers say of the database."""

    SAME = "same"  # but for the unsettled assets it says what the folder says
    OLDER = "older"  # it came from a backup
    NEWER = "newer"  # the archive folder came from one


def age(folder: Generation | None, recorded: int | None) -> Age:
    """Compare the archive folder's generation with the database's number; None: it has none yet (of refgenied 0.1)."""
    there, known = folder.number if folder else 0, recorded or 0
    if known < there - 1 or (folder and 1 < there == known + 1 and not folder.unsettled):
        return Age.OLDER
    return Age.NEWER if known > there else Age.SAME


def read(folder: str) -> Generation | None:
    """None when there is none, or one that nobody can read: then all is compared. UnreadableError, ShortageError."""
    path = Path(folder, NAME)
    try:
        with reading(path):
            return msgspec.json.decode(read_regular(path, _LARGEST), type=Generation)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    except UnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def write(folder: str, generation: Generation) -> None:
    """Durably. NoSpaceError, ShortageError, WriteError."""
    path = Path(folder, NAME)
    with writing(path):
        save_atomically(path, msgspec.json.encode(generation) + b"\n")
