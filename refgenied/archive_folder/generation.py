"""A number that each publish and each removal raises, in the archive folder and in the database.

When the two numbers differ, one of them came from a backup. The folder's number is raised first, together with the
name of the asset that will change; the database's number is raised with the record. So a crash between the two leaves
a difference of one, and the name of the only asset that has to be looked at.
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
"""When the changes of more assets never reached the database, they are not listed, and all assets are looked at."""
_LARGEST_BYTES = 1 << 20
"""Bytes of the file that are read."""


class Generation(msgspec.Struct, frozen=True):
    """What the archive folder says of itself."""

    number: int
    """Raised by one before anything changes."""
    unsettled: tuple[AssetKey, ...] = ()
    """The assets of which a database with this number, or the one before, may have an older record.

    None after an orderly end: then a database that lacks only one change is known to be older, too."""

    def next(self, key: AssetKey, *, recorded: int | None, failed: Container[AssetKey] = ()) -> Generation:
        """The generation after one more change, of `key`.

        `recorded`: the database's number. When it is the same, the database knows all earlier changes except those of
        the `failed` assets.
        """
        before = [one for one in self.unsettled if recorded != self.number or one in failed]
        unsettled = tuple(dict.fromkeys((*before, key)))
        if len(unsettled) > MOST_UNSETTLED:
            return Generation(self.number + 2, (key,))
        return Generation(self.number + 1, unsettled)


class Age(Enum):
    """What the two numbers say of the database."""

    SAME = "same"  # it agrees with the folder, except about the unsettled assets
    OLDER = "older"  # it came from a backup
    NEWER = "newer"  # the archive folder came from one


def age(folder: Generation | None, recorded: int | None) -> Age:
    """Compare the archive folder's generation with the database's number; None: refgenied 0.1 made it."""
    there, known = folder.number if folder else 0, recorded or 0
    if known < there - 1 or (folder and 1 < there == known + 1 and not folder.unsettled):
        return Age.OLDER
    return Age.NEWER if known > there else Age.SAME


def read(folder: str) -> Generation | None:
    """None when there is no such file, or no sound one: then all is compared. UnreadableError, ShortageError."""
    path = Path(folder, NAME)
    try:
        with reading(path):
            return msgspec.json.decode(read_regular(path, _LARGEST_BYTES), type=Generation)
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
