"""The state folder. It must be on a disk of this machine, and only one daemon at a time uses it."""

import fcntl
import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from refgenied.config.roles import LOCK
from refgenied.files import mounts
from refgenied.files.durable import close_to_others
from refgenied.model import AlreadyRunningError, ConfigError, StateError

NETWORK_FILE_SYSTEM = re.compile(
    r"(fuse\.)?(nfs|nfs4|cifs|smb3|smbfs|9p|afs|ceph|ceph-fuse|lustre|gpfs|beegfs|glusterfs|sshfs)"
)
"""A name in mountinfo."""


def _require_ours(lock: int, path: Path) -> None:
    """StateError: it is another program's file. A file with a part of our text (full disk, crash) is ours."""
    if not re.fullmatch(rb"(p(i(d( \d*)?)?)?)?[\0\s]*", os.pread(lock, 200, 0)):
        raise StateError(f"{path} is a file of something else", hint="set another state.folder")


@contextmanager
def held(state: Path) -> Generator[None]:
    """Make the state folder and hold its lock. ConfigError; AlreadyRunningError says which process holds it."""
    path = state / LOCK
    try:
        state.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the state folder {state} cannot be made: {error.strerror}") from None
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}", hint="look at the rights of the state folder") from None
    try:
        close_to_others(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "an unknown process"
            raise AlreadyRunningError(
                f"another refgenied ({holder}) holds the state folder {state}",
                hint="stop it first, or give this one another state.folder",
            ) from None
        _require_ours(lock, path)
        with suppress(OSError):  # the lock works on a full disk too, but it does not say who holds it
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"pid {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)  # this unlocks it. The file stays, because otherwise two daemons could lock two files


def refuse_network_disk(folder: Path) -> None:
    """StateError: the folder is on a network disk, where SQLite cannot trust the locks."""
    kind = mounts.file_system(folder)
    if NETWORK_FILE_SYSTEM.fullmatch(kind):
        raise StateError(
            f"the state folder {folder} lies on a network disk ({kind})",
            hint="set state.folder to a folder on a local disk",
        )
