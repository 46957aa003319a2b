"""The tests never touch the machine they run on: what is outside of their temporary folder is read-only for them.

As root they get a mount namespace of their own, in which the kernel refuses to write anywhere else, whatever a test or
a program under test does wrong. Who is not root may not write the system anyway. For everybody home, temporary folder
and the folders of the XDG specification are new and empty.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

OPEN = ("/dev", "/proc", "/sys")
"""Not files: devices, processes and control groups are what some tests are about."""
OWN = "refgenied-session-"
YOUNG = 60.0
"""Seconds: a folder that is not older may not be held yet."""
SYSTEM_TOOLS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_CLONE_NEWNS = 0x00020000
_MOUNT_SETATTR = 442  # the number of this system call is the same on all kinds of machine
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_RDONLY = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Fence:
    """`writable`: the only folders that can be written while it stands; they must be there.

    `in_memory`: empty ones below them, whose files are in memory until it is lowered: no test waits for the disk.
    """

    def __init__(self, writable: list[Path], in_memory: tuple[Path, ...] = ()) -> None:
        self.writable = writable
        self.in_memory = in_memory
        self.missing = ""
        """Why there is none; empty while it stands."""

    def raise_(self) -> None:
        """From here on, for this process and all that it starts."""
        if os.geteuid() != 0:
            self.missing = "only root has one: nobody else may write the system"
            return
        try:
            _check(_libc.unshare(_CLONE_NEWNS))
            subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)
            for folder in self.writable:
                subprocess.run(["mount", "--rbind", folder, folder], check=True, capture_output=True)
            _read_only("/", read_only=True)
            for folder in (*OPEN, *self.writable):
                _read_only(folder, read_only=False)
            for folder in self.in_memory:
                subprocess.run(
                    ["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", folder], check=True, capture_output=True
                )
        except (OSError, subprocess.CalledProcessError) as error:
            self.missing = f"no mount namespace can be made here: {error}"
        os.chdir(os.getcwd())  # the folder that is mounted there now

    def lower(self) -> None:
        """After the tests: pytest writes its reports wherever it was told to."""
        if not self.missing:
            here = os.getcwd()
            _read_only("/", read_only=False)
            for folder in (*self.in_memory, *self.writable):
                subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)
            os.chdir(here)


def own_folder() -> tuple[Path, int]:
    """A folder of this session in the system's temporary one, and a descriptor that says that it is in use.

    Those of sessions that were killed go: nobody holds them any more.
    """
    system = Path(tempfile.gettempdir())
    for left in system.glob(f"{OWN}*"):
        try:
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # somebody else's, or gone
            continue
        try:
            if os.fstat(fd).st_uid == os.getuid() and time.time() - os.fstat(fd).st_mtime > YOUNG:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
        except OSError:  # in use
            pass
        finally:
            os.close(fd)
    own = Path(tempfile.mkdtemp(prefix=OWN))
    fd = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return own, fd


def own_environment(folder: Path) -> dict[str, str | None]:
    """Variables for everything that finds its folders by them; None: not set.

    Other users may look into `folder`: some tests are about them.
    """
    folder.chmod(0o755)
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    config = pip_config()
    pip: dict[str, str | None] = {"PIP_CONFIG_FILE": str(config)} if config else {}
    xdg = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")
    return (
        dict.fromkeys(xdg) | {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PATH": whole_path()} | pip
    )


def whole_path() -> str:
    """A plain `su` leaves out the folders of the administrator's tools, web servers among them."""
    return ":".join(dict.fromkeys([*os.environ.get("PATH", "/usr/bin:/bin").split(":"), *SYSTEM_TOOLS]))


def pip_config() -> Path | None:
    """pip is told where packages come from in the home that is left."""
    home = Path.home()
    places = [Path(os.environ.get("XDG_CONFIG_HOME", home / ".config"), "pip/pip.conf"), home / ".pip/pip.conf"]
    return None if "PIP_CONFIG_FILE" in os.environ else next((path for path in places if path.exists()), None)


def set_environment(changes: dict[str, str | None]) -> dict[str, str | None]:
    """Set (or take away) variables; what they were before."""
    before = {name: os.environ.get(name) for name in changes}
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    tempfile.tempdir = None  # Python asks once and keeps the answer
    return before


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


def _read_only(folder: str | Path, *, read_only: bool) -> None:
    """The folder's mount and all below it."""
    wanted = _MountAttributes(_RDONLY, 0) if read_only else _MountAttributes(0, _RDONLY)
    path = os.fsencode(folder)
    _check(_libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, ctypes.byref(wanted), ctypes.sizeof(wanted)))


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
