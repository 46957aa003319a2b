"""A number that each publish and each removal raises, in the archive folder and in the database.

When the two numbers differ, one of them came from a backup. The folder's number is raised first, together with the
names of the assets that will change; the database's number is raised with their records. So after a crash between the
two the numbers differ by one, and only the named assets must be looked at.
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
"""The file's name. It lies in the archive folder, beside the file with the folder's id."""
MOST_UNSETTLED = 100
"""If the changes of more assets never reached the database, they are not listed, and all assets are looked at."""
_LARGEST_BYTES = 1 << 20
"""At most this many bytes of the file are read."""


class Generation(msgspec.Struct, frozen=True):
    """The content of the file in the archive folder."""

    number: int
    """It is raised by one before anything changes."""
    unsettled: tuple[AssetKey, ...] = ()
    """Assets whose record may be too old in a database with this number, or with the number before it.

    After an orderly end there are none. Then even a difference of one shows that the database came from a backup.
    """

    def next(self, *keys: AssetKey, recorded: int | None, failed: Container[AssetKey] = ()) -> Generation:
        """The generation after one more change, of these assets together.

        `recorded`: the database's number. When it is the same, the database knows all earlier changes except those of
        the `failed` assets.
        """
        before = [one for one in self.unsettled if recorded != self.number or one in failed]
        unsettled = tuple(dict.fromkeys((*before, *keys)))
        if len(unsettled) > MOST_UNSETTLED:
            return Generation(self.number + 2, keys)
        return Generation(self.number + 1, unsettled)


class Age(Enum):
    """How old the database is, as the two numbers show."""

    SAME = "same"  # it agrees with the folder, except about the unsettled assets
    OLDER = "older"  # it came from a backup
    NEWER = "newer"  # the archive folder came from a backup


def age(folder: Generation | None, recorded: int | None) -> Age:
    """Compare the archive folder's generation with the database's number; None: refgenied 0.1 made it."""
    there, known = folder.number if folder else 0, recorded or 0
    if known < there - 1 or (folder and 1 < there == known + 1 and not folder.unsettled):
        return Age.OLDER
    return Age.NEWER if known > there else Age.SAME


def read(folder: str) -> Generation | None:
    """Read the file. None: missing or not sound, so all manifests are compared. UnreadableError, ShortageError."""
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
    """Write the file durably. NoSpaceError, ShortageError, WriteError."""
    path = Path(folder, NAME)
    with writing(path):
        save_atomically(path, msgspec.json.encode(generation) + b"\n")
