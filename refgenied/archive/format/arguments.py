"""Checks the arguments of the library before anything is done. BadArgumentError names the bad argument and the reason.

Programs often pass on values that they did not check. So a value must be exactly of the right kind: `-1` does not
count from the end, one text is not a list of names, and an empty path is not the current folder.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import cast

from refgenied.model import BadArgumentError

MANIFEST = ".json"


def path_of(value: object, name: str) -> Path:
    """A path as text or `os.PathLike`; not empty, and one that a file can have."""
    try:
        text: object = os.fspath(cast("str", value))
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise BadArgumentError(f"{name} must be a path, not {_shown(value)}")
    if not text:
        raise BadArgumentError(f"{name} is empty: name a file or folder ('.' is the current one)")
    with suppress(UnicodeEncodeError):
        if b"\0" not in os.fsencode(text):
            return Path(text)
    raise BadArgumentError(f"{name} is {text!r}, which cannot be the name of a file")


def archive_of(value: object) -> Path:
    """The path of an archive to read (not of its manifest, not of a folder)."""
    path = path_of(value, "archive")
    if not path.name:
        raise BadArgumentError(f"archive is {str(path)!r}, a folder: name a .tgz in it")
    if path.suffix == MANIFEST:
        raise BadArgumentError(f"{path} is a manifest: name the archive that it describes, {path.with_suffix('.tgz')}")
    return path


def member_path_of(value: object, name: str = "member") -> bytes:
    """A member's path in the asset, as the archive has it: bytes without a slash at its ends."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise BadArgumentError(f"{name} must be the path of a member, not {_shown(value)}")
    try:
        path = os.fsencode(cast("str | bytes | os.PathLike[str]", value)).strip(b"/")
    except UnicodeEncodeError:
        raise BadArgumentError(f"{name} is {value!r}, which cannot be the name of a file") from None
    if not path:
        raise BadArgumentError(f"{name} is empty: name a member by its path in the asset")
    return path


def member_paths_of(values: object, name: str) -> tuple[bytes, ...]:
    """Paths of members. A single text is refused: Python would read it as a list of letters."""
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise BadArgumentError(f"{name} must be a list of members' paths, not {_shown(cast('object', values))}")
    found = enumerate(cast("Iterable[object]", values))
    return tuple(member_path_of(value, f"{name}[{number}]") for number, value in found)


def count_of(value: object, name: str) -> int:
    """A number of bytes or of threads: 0 or more."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadArgumentError(f"{name} must be a whole number, not {_shown(value)}")
    if value < 0:
        raise BadArgumentError(f"{name} is {value}, and must be 0 or more")
    return value


def threads_of(value: object) -> int:
    """How many threads; 0 means one for each core that this process may use."""
    return count_of(value, "threads") or len(os.sched_getaffinity(0))


def require_switch(value: object, name: str) -> None:
    """Refuse anything but True and False: the text `"no"` would count as yes."""
    if not isinstance(value, bool):
        raise BadArgumentError(f"{name} must be True or False, not {_shown(value)}")


def require_callable(value: object, name: str) -> None:
    if not callable(value):
        raise BadArgumentError(f"{name} must be a function, not {_shown(value)}")


def _shown(value: object) -> str:
    """The value when it is short, else its type: an error is one line."""
    text = repr(value)
    return text if len(text) <= 60 and text.isprintable() else f"a {type(value).__name__}"
