"""Keeps archives that were replaced or removed a moment ago, for clients that were told their digests.

`refgenie pull` asks for the digest first and then for the archive. A server may promise the old archive for up to 10
minutes after it was replaced (`serve/editions.py`). The file of the old archive is kept longer than that.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from refgenied.archive_folder.names import ServedNames, is_kept_name
from refgenied.files.durable import NO_HARD_LINK_ERRNOS

log = structlog.get_logger("serving")

KEPT_SECONDS = 900.0


class Kept:
    """The hidden names in one archive folder. Blocking."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._since: dict[Path, float] | None = None
        """Hidden name → when its archive lost the flat name, by the clock; None before the folder was read."""

    def keep(self, names: ServedNames, digest: str) -> None:
        """Give the file under the flat name its hidden name, before the flat name leads to another file. OSError.

        On a file system without hard links nothing can be kept: a server answers 503 until it has read the new config.
        """
        hidden = names.kept(digest)
        if hidden is None or names.archive.is_symlink():
            return
        try:
            _link(names.archive, hidden)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in NO_HARD_LINK_ERRNOS:
                raise
            return
        if self._since is not None:
            self._since[hidden] = self._clock()

    @property
    def waiting(self) -> bool:
        """Whether there are hidden names, or may be (before the folder was read)."""
        return self._since is None or bool(self._since)

    def tidy(self) -> None:
        """Delete the hidden names whose time is over. A name that stays is tried again after that time."""
        if self._since is None:
            self._since = self._found()
        now = self._clock()
        for path in [path for path, since in self._since.items() if now - since >= KEPT_SECONDS]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("serving.kept_stays", path=str(path), error=str(error))
                self._since[path] = now
            else:
                log.info("serving.kept_is_over", path=str(path))
                with suppress(OSError):  # usually the folder is not empty, and stays
                    path.parent.rmdir()
                del self._since[path]

    def _found(self) -> dict[Path, float]:
        """The hidden names that an earlier run of the daemon has left. Their ctime is when they lost the flat name."""
        found: dict[Path, float] = {}
        for genome in _inside(self._folder):
            if os.path.islink(self._folder / genome):
                continue
            for name in _inside(self._folder / genome):
                if is_kept_name(name):
                    path = self._folder / genome / name
                    with suppress(OSError):
                        age = time.time() - path.lstat().st_ctime
                        found[path] = self._clock() - min(max(age, 0.0), KEPT_SECONDS)
        return found


def _link(path: Path, hidden: Path) -> None:
    try:
        os.link(path, hidden, follow_symlinks=False)
    except FileExistsError:
        if not path.samefile(hidden):
            hidden.unlink()
            os.link(path, hidden, follow_symlinks=False)


def _inside(folder: Path) -> list[str]:
    """The names in a folder; none if it cannot be read, because other parts use the folder too, and report it."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
