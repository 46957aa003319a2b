"""The files that a build leaves beside an asset: pypiper's status flags, the commands, the recipe, the log."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple, cast

import msgspec

from refgenied.files.regular import is_shortage
from refgenied.genomes.enclosure import shown, translated
from refgenied.genomes.small_files import open_folder, read_small, some_names
from refgenied.model import BuildRecord, RefgeniedError, ShortageError, UnreadableError

BUILD_FOLDER = "_refgenie_build"
MAP_CONFIG = "_map_build.yaml"
_MAP_CONFIG_AT_WORK = "_locked_map_build.yaml"
_COMMANDS = "refgenie_commands.sh"
_MAX_FILE_BYTES = 1 << 20
"""The most bytes that are read of the commands, of the recipe and of `MAP_CONFIG`."""
MAX_LOG_BYTES = 256 << 10
_MAX_COMMANDS = 10_000
MAX_BUILD_NAMES = 100_000
"""The most names in one build folder."""


class Flag(NamedTuple):
    """A completed flag. Every build touches it anew, so its identity tells two builds apart."""

    path: str
    inode: int
    mtime_ns: int


class Flags(NamedTuple):
    """The status flags of all build folders of one asset together."""

    found: bool
    """Whether there is a build folder at all."""
    completed: tuple[Flag, ...]
    failed: str
    """Name of a failed flag, or ""."""
    log: str
    """Path of refgenie's log, or ""."""
    working: str
    """Name of a file that only a running or a stopped build leaves, or ""."""
    mapped: bool
    """Whether it was built with `--map`, and `--reduce` has not used the result yet."""

    @property
    def built_at(self) -> float | None:
        """When the last build finished, Unix seconds."""
        return max(flag.mtime_ns for flag in self.completed) / 1e9 if self.completed else None


class Seen(NamedTuple):
    """The flags at one moment."""

    flags: Flags
    names: list[list[str] | None]
    """All names in each build folder; None when there is no such folder."""


def read_flags(folders: Sequence[str]) -> Seen:
    """The flags in these build folders; some of the folders may be missing. OSError, UnreadableError.

    A flag's name holds the tag of the build, and `refgenie tag` may have changed the tag later. So only the end of the
    name is compared.
    """
    mapped = False
    completed: list[Flag] = []
    failed: list[str] = []
    working: list[tuple[bool, str]] = []
    logs: list[str] = []
    listed = [_names(folder) for folder in folders]
    for folder, names in zip(folders, listed, strict=True):
        for name in names or ():
            is_lock = name.startswith(("lock.", "recover."))
            if is_lock or name == _MAP_CONFIG_AT_WORK:
                working.append((is_lock, name))
            elif name == MAP_CONFIG:
                mapped = True
            elif not name.endswith((".flag", "log.md")):
                continue
            elif name.endswith("_completed.flag"):
                path = f"{folder}/{name}"
                info = os.lstat(path)
                completed.append(Flag(path, info.st_ino, info.st_mtime_ns))
            elif name.endswith("_failed.flag"):
                failed.append(name)
            elif _is_log(name):
                logs.append(f"{folder}/{name}")
            elif name.endswith(("_running.flag", "_waiting.flag", "_partial.flag")):
                working.append((False, name))
    found = any(names is not None for names in listed)
    _, at_work = min(working, default=(False, ""))  # for a reader, a status flag says more than a lock
    flags = Flags(found, tuple(sorted(completed)), min(failed, default=""), min(logs, default=""), at_work, mapped)
    return Seen(flags, listed)


def flags_differ(folders: Sequence[str], seen: Seen) -> bool:
    """Whether the flags are no longer as they were seen. OSError, UnreadableError."""
    if [_names(folder) for folder in folders] != seen.names:
        return read_flags(folders).flags != seen.flags
    for flag in seen.flags.completed:
        info = os.lstat(flag.path)
        if (info.st_ino, info.st_mtime_ns) != (flag.inode, flag.mtime_ns):
            return True
    return False


def _names(folder: str) -> list[str] | None:
    """The names in a folder; None when there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in islice(entries, MAX_BUILD_NAMES + 1)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(found) > MAX_BUILD_NAMES:
        raise UnreadableError(f"{shown(folder)} holds more than {MAX_BUILD_NAMES} names")
    return found


def moved_lately(paths: Iterable[str], now: float, within: float) -> bool:
    """Whether anything in these folders (or files) was made, written or renamed in the `within` seconds before `now`
    (Unix seconds). A time that far in the future comes from a wrong clock and does not count.
    """
    return any(abs(now - moment) <= within for info in _infos(list(paths)) for moment in (info.st_mtime, info.st_ctime))


def _infos(pending: list[str]) -> Iterator[os.stat_result]:
    """The stat of each of these paths and of everything below them. OSError when the machine is short of something."""
    while pending:
        path = pending.pop()
        try:
            yield os.lstat(path)
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        yield entry.stat(follow_symlinks=False)
        except OSError as error:
            if is_shortage(error):  # otherwise a running build would look dead
                raise


def read_build_record(folders: Iterable[str], within: str) -> BuildRecord:
    """The commands, recipe and log, each from the first of these build folders that has it. ShortageError."""
    commands: tuple[str, ...] = ()
    recipe: dict[str, Any] | None = None
    log_name: str | None = None
    log = ""
    for folder in folders:
        try:
            with open_folder(folder, within=within) as fd:
                names = some_names(fd, MAX_BUILD_NAMES)
                commands = commands or _commands(fd)
                recipe = recipe or _recipe(fd, names)
                logs = list(filter(_is_log, names))
                if log_name is None and logs:
                    log_name, log = logs[0], _text(fd, logs[0], MAX_LOG_BYTES)
        except ShortageError:
            raise
        except RefgeniedError:
            continue
    return BuildRecord(commands, recipe, log_name, log)


def map_config(folders: Iterable[str], within: str) -> bytes:
    """The config that `build --map` has left for `--reduce`, from the first of these folders that has it; else b""."""
    for folder in folders:
        with suppress(RefgeniedError), open_folder(folder, within=within) as fd:
            if text := read_small(fd, MAP_CONFIG, _MAX_FILE_BYTES):
                return text
    return b""


def why_unreadable(error: OSError, path: str) -> str:
    """One line about a folder or file that could not be read. ShortageError when the machine is short of memory or
    descriptors, because otherwise everything below it would seem to be gone.
    """
    said = translated(error, error.filename or path)
    if isinstance(said, ShortageError):
        raise said from error
    return said.message


def _is_log(name: str) -> bool:
    return name.startswith("refgenie_") and name.endswith("log.md")


def _text(folder: int, name: str, limit: int) -> str:
    return (read_small(folder, name, limit) or b"").decode("utf-8", "replace")


def _commands(folder: int) -> tuple[str, ...]:
    lines = (line.strip() for line in _text(folder, _COMMANDS, _MAX_FILE_BYTES).splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))[:_MAX_COMMANDS]


def _recipe(folder: int, names: list[str]) -> dict[str, Any] | None:
    for name in names:
        if name.startswith("build_recipe_") and name.endswith(".json"):
            try:
                recipe: object = msgspec.json.decode(read_small(folder, name, _MAX_FILE_BYTES) or b"")
            except (msgspec.DecodeError, RecursionError):
                continue
            if isinstance(recipe, dict):
                return cast("dict[str, Any]", recipe)
    return None
