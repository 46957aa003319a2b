"""Finds the files that killed processes have left in an archive folder, in one walk, by names that only refgenied uses.

Nothing is changed here. The caller must know whether a file belongs to work in progress. An asset's own files belong to
its running job, or to the request that has reserved the asset. The files for the server belong to the daemon that holds
the folder's lock.
"""

import os
import re
import stat
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import msgspec

from refgenied.archive.place import Place
from refgenied.archive.presence import PassedOver
from refgenied.files.regular import unreadable
from refgenied.model import AssetKey, BadRegistryPathError

_OF_FOLDER = re.compile(r"\.(\.refgenied.*|genome_config\.yaml.*)\.partial")
_OF_GENOME = re.compile(
    r"\.(.+\.tgz|.+\.tgz\..+|asset_dir_contents_.+\.json|build_recipe_.+\.json|build_log_.+\.md|.+-[0-9a-f]{16})\.partial"
)
PROBE = ".refgenied.probe"
"""A small file that exists for a moment only, to see whether the folder takes writes."""
_PROBE_LASTS_SECONDS = 60.0
"""A probe is written without the lock. If it is older than this, a killed process has left it."""


MOST_ARCHIVES = 500
"""A part of the walk ends with the asset group in which it has found so many archives."""


class Leftovers(msgspec.Struct):
    """The result of one part of the walk."""

    unfinished: list[Place] = []
    """Asset folders with partial files, or with nothing in them."""
    files: list[Path] = []
    """Partial files of the files for the server, and of the folder's own files."""
    archives: list[Place] = []
    """Every asset folder with an archive and a manifest of ours, recorded in the database or not."""


def find_leftovers(archive_folder: str | os.PathLike[str], passed_over: PassedOver) -> Generator[Leftovers]:
    """Walk once over the folder's three levels, in parts; links are not followed. UnreadableError: the folder itself.

    `passed_over` is called for folders below it that cannot be read.
    """
    part = Leftovers()
    root = Path(archive_folder)
    try:
        entries = _entries(root)
    except OSError as error:
        raise unreadable(root, error) from error
    now = time.time()
    part.files += [Path(entry.path) for entry in entries if _is_of_folder(entry, now)]
    for genome in _folders(entries):
        inside = _read(genome, passed_over)
        part.files += [Path(entry.path) for entry in inside if _OF_GENOME.fullmatch(entry.name) and _is_file(entry)]
        for group in _folders(inside):
            for asset in _folders(_read(group, passed_over)):
                try:
                    place = Place(archive_folder, AssetKey(genome.name, group.name, asset.name))
                except BadRegistryPathError:
                    continue
                with _passing_over(passed_over):
                    _judge(place, {entry.name for entry in _entries(asset)}, part)
            if len(part.archives) >= MOST_ARCHIVES:
                yield part
                part = Leftovers()
    yield part


def _judge(place: Place, names: set[str], found: Leftovers) -> None:
    aside = f".{place.archive.name}."  # a copy of another program's archive, cut short on a disk without hard links
    found.files += [place.folder / name for name in sorted(names) if _is_aside(name, aside)]
    if not names or any(partial.name in names for partial in place.partials):
        found.unfinished.append(place)
    if place.manifest.name in names and place.archive.name in names:
        found.archives.append(place)


def _is_aside(name: str, beginning: str) -> bool:
    return name.startswith(beginning) and name.endswith(".partial") and name != f"{beginning}partial"


def size_of(paths: Iterable[Path]) -> int:
    """The bytes that become free when these are deleted. A file that has another name stays, and frees nothing."""
    total = 0
    for path in paths:
        try:
            info = path.lstat()
        except OSError:
            continue
        total += info.st_size if info.st_nlink == 1 and stat.S_ISREG(info.st_mode) else 0
    return total


def _is_of_folder(entry: os.DirEntry[str], now: float) -> bool:
    if not _is_file(entry):
        return False
    if entry.name in (PROBE, f".{PROBE}.partial"):
        return now - entry.stat(follow_symlinks=False).st_mtime > _PROBE_LASTS_SECONDS
    return _OF_FOLDER.fullmatch(entry.name) is not None


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a link: a flat name is a link on file systems without hard links."""
    return entry.is_symlink() or entry.is_file(follow_symlinks=False)


def _entries(folder: os.DirEntry[str] | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _read(folder: os.DirEntry[str], passed_over: PassedOver) -> list[os.DirEntry[str]]:
    with _passing_over(passed_over):
        return _entries(folder)
    return []


@contextmanager
def _passing_over(passed_over: PassedOver) -> Generator[None]:
    try:
        yield
    except FileNotFoundError:  # it was removed during the walk
        return
    except OSError as error:
        passed_over(error)


def _folders(entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
