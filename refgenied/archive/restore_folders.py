"""Makes, locks and removes the hidden folders in which assets are restored, beside the place where they will appear.

A process holds a lock on its own folder while it lives; when the process ends, the system removes the lock. So a folder
without a lock was left by a process that was killed.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from refgenied.files.regular import descriptor
from refgenied.genomes.enclosure import FOLDER_FLAGS

_FOREIGN_LEFTOVER_SECONDS = 7 * 86_400.0
"""A folder of another machine (we may not see its locks) or of refgenied 0.1 (it took no locks) stays for this many
seconds."""


def _beginning(target: Path) -> str:
    return f".{target.name[:100]}.restoring-"


def machine_mark() -> str:
    """The name of this machine, as a part of a folder's name."""
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]


def make(target: Path) -> tuple[Path, int]:
    """A new hidden folder beside `target`, and its descriptor, which holds the lock until it is closed. OSError."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{_beginning(target)}{machine_mark()}-", dir=target.parent))
        try:
            fd = os.open(folder, FOLDER_FLAGS)
        except FileNotFoundError:  # another process removed the folder before we had the lock
            continue
        try:
            if _lock(fd) and _is_still(folder, fd):
                return folder, fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def clear(target: Path) -> int:
    """Remove the folders that killed processes of this user have left beside `target`. Returns the bytes freed.

    A folder that is in use stays. A folder that cannot be judged or removed stays too.
    """
    try:
        with os.scandir(target.parent) as entries:
            left = [entry.path for entry in entries if entry.name.startswith(_beginning(target))]
    except OSError:
        return 0
    return sum(_clear_one(Path(path), target) for path in left)


def _clear_one(folder: Path, target: Path) -> int:
    try:
        opened = os.open(folder, FOLDER_FLAGS)
    except OSError:
        return 0
    with descriptor(opened) as fd:
        info = os.fstat(fd)
        ours = (
            folder.name.startswith(f"{_beginning(target)}{machine_mark()}-")
            or time.time() - info.st_mtime > _FOREIGN_LEFTOVER_SECONDS
        )
        if info.st_uid != os.geteuid() or not ours or not _lock(fd, unsure=False):
            return 0
        size = _size(folder)
        remove_folder(folder)
        return 0 if folder.exists() else size


def _lock(fd: int, *, unsure: bool = True) -> bool:
    """Whether we have the lock now. `unsure`: the answer for a disk that has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unsure
    return True


def _is_still(folder: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _size(folder: Path) -> int:
    total = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


def remove_folder(folder: Path) -> None:
    """Remove a folder of ours, even if its modes do not let us enter it any more."""
    with suppress(OSError):
        os.chmod(folder, 0o700)
    for place, folders, _ in os.walk(folder):
        for path in (os.path.join(place, name) for name in folders):
            if not os.path.islink(path):
                with suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
