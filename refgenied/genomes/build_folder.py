"""What a build leaves beside an asset: pypiper's status flags, the commands, the recipe, the log."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from refgenied.files.regular import SHORTAGE_ERRNOS
from refgenied.genomes.enclosure import shown, some_names, translated
from refgenied.genomes.walk import open_folder, read_small
from refgenied.model import BuildRecord, RefgeniedError, ShortageError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable

BUILD_FOLDER = "_refgenie_build"
MAP_CONFIG = "_map_build.yaml"
_MAP_CONFIG_AT_WORK = "_locked_map_build.yaml"
_COMMANDS = "refgenie_commands.sh"
_LARGEST_COMMANDS = 1 << 20
_LARGEST_RECIPE = 1 << 20
LARGEST_LOG = 256 << 10
_MOST_COMMANDS = 10_000
_MOST_NAMES = 100_000  # in one build folder


class Flag(NamedTuple):
    """A completed flag. It is touched anew by every build, so its identity tells two builds apart."""

    path: str
    inode: int
    mtime_ns: int


class Flags(NamedTuple):
    """The status flags of one asset's build folders, all of them together."""

    found: bool
    """Whether there is a build folder at all."""
    completed: tuple[Flag, ...]
    failed: str
    """Name of a failed flag, or ""."""
    log: str
    """Path of refgenie's log, or ""."""
    working: str
    """Name of something that only a build at work, or one that was stopped, leaves; or ""."""
    mapped: bool
    """Built with `--map`, and the result not taken away by `--reduce`."""

    @property
    def built_at(self) -> float | None:
        """When the last build finished, Unix seconds."""
        return max(flag.mtime_ns for flag in self.completed) / 1e9 if self.completed else None


def read_flags(folders: Iterable[str]) -> Flags:
    """The flags in these build folders, those that don't exist left out. OSError, UnreadableError.

    The names hold the tag of the build, which `refgenie tag` may have changed since: they are matched by
    their ends, never made up.
    """
    found = mapped = False
    completed: list[Flag] = []
    failed: list[str] = []
    working: list[str] = []
    logs: list[str] = []
    for folder in folders:
        entries = _entries(folder)
        found = found or entries is not None
        for entry in entries or ():
            name = entry.name
            if name.startswith(("lock.", "recover.")) or name == _MAP_CONFIG_AT_WORK:
                working.append(name)
            elif name == MAP_CONFIG:
                mapped = True
            elif name.endswith("_completed.flag"):
                info = entry.stat(follow_symlinks=False)
                completed.append(Flag(entry.path, info.st_ino, info.st_mtime_ns))
            elif name.endswith("_failed.flag"):
                failed.append(name)
            elif _is_log(name):
                logs.append(entry.path)
            elif name.endswith(("_running.flag", "_waiting.flag", "_partial.flag")):
                working.append(name)
    # a status flag says more to a reader than a lock
    working.sort(key=lambda name: (name.startswith(("lock.", "recover.")), name))
    return Flags(
        found,
        tuple(sorted(completed)),
        min(failed, default=""),
        min(logs, default=""),
        next(iter(working), ""),
        mapped,
    )


def _entries(folder: str) -> list[os.DirEntry[str]] | None:
    """None when there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            found = list(islice(entries, _MOST_NAMES + 1))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(found) > _MOST_NAMES:
        raise UnreadableError(f"{shown(folder)} holds more than {_MOST_NAMES} names")
    return found


def moved_lately(paths: Iterable[str], now: float, within: float) -> bool:
    """Whether anything in these folders (or files) was made, written or renamed in the last `within` seconds before
    `now` (Unix seconds). A time as far in the future tells of a clock that was wrong, and of nothing else.
    """

    def lately(info: os.stat_result) -> bool:
        return any(abs(now - moment) <= within for moment in (info.st_mtime, info.st_ctime))

    pending = list(paths)
    while pending:
        path = pending.pop()
        try:
            info = os.lstat(path)
            if lately(info):
                return True
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    if lately(entry.stat(follow_symlinks=False)):
                        return True
        except OSError as error:
            if error.errno in SHORTAGE_ERRNOS:  # it would look as if the build had died
                raise
    return False


def read_build_record(folders: Iterable[str], within: str) -> BuildRecord:
    """The commands, recipe and log name in the first of these build folders that has them. ShortageError."""
    commands: tuple[str, ...] = ()
    recipe: dict[str, Any] | None = None
    log_name: str | None = None
    log = ""
    for folder in folders:
        try:
            fd = open_folder(folder, within=within)
        except ShortageError:
            raise
        except RefgeniedError:
            continue
        try:
            names = some_names(fd, _MOST_NAMES)
            commands = commands or _commands(fd)
            recipe = recipe or _recipe(fd, names)
            logs = list(filter(_is_log, names))
            if log_name is None and logs:
                log_name, log = logs[0], (read_small(fd, logs[0], LARGEST_LOG) or b"").decode("utf-8", "replace")
        except ShortageError:
            raise
        except (OSError, RefgeniedError) as error:
            if isinstance(error, OSError) and error.errno in SHORTAGE_ERRNOS:
                raise translated(error, folder) from error
            continue
        finally:
            os.close(fd)
    return BuildRecord(commands, recipe, log_name, log)


def map_config(folders: Iterable[str], within: str) -> bytes:
    """What `build --map` has left for `--reduce`; b"" without."""
    for folder in folders:
        try:
            fd = open_folder(folder, within=within)
        except RefgeniedError:
            continue
        try:
            text = read_small(fd, MAP_CONFIG, _LARGEST_RECIPE)
        except RefgeniedError:
            text = None
        finally:
            os.close(fd)
        if text:
            return text
    return b""


def unreadable(error: OSError, path: str) -> str:
    """One line about a folder or file that could not be read. ShortageError: nothing is wrong with it."""
    said = translated(error, error.filename or path)
    if isinstance(said, ShortageError):  # else all that is in it would seem to be gone
        raise said from error
    return said.message


def _is_log(name: str) -> bool:
    return name.startswith("refgenie_") and name.endswith("log.md")


def _commands(folder: int) -> tuple[str, ...]:
    text = (read_small(folder, _COMMANDS, _LARGEST_COMMANDS) or b"").decode("utf-8", "replace")
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))[:_MOST_COMMANDS]


def _recipe(folder: int, names: list[str]) -> dict[str, Any] | None:
    for name in names:
        if name.startswith("build_recipe_") and name.endswith(".json"):
            try:
                recipe: object = msgspec.json.decode(read_small(folder, name, _LARGEST_RECIPE) or b"")
            except (msgspec.DecodeError, RecursionError):
                continue
            if isinstance(recipe, dict):
                return cast("dict[str, Any]", recipe)
    return None
