"""Checks the folders of a configuration as `refgenied run` would, but makes and changes nothing."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refgenied.config.places import LONGEST_SOCKET
from refgenied.config.roles import DATABASE, MARKER
from refgenied.config.settings import Settings


class FolderFinding(NamedTuple):
    """One fault of a folder."""

    message: str
    refused: bool
    """Whether `run` refuses to start. If not, it starts, and `refgeniectl status` reports the fault."""


def check_folders(settings: Settings) -> list[FolderFinding]:
    """Folders that do not exist, or that this user may not read or write."""
    return [*_genomes(settings), *_archives(settings), *_state(settings), *_socket(settings)]


def may_make(path: Path) -> str:
    """Why this process cannot make (or use) a folder there; empty when it can. It makes nothing."""
    nearest = path
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        what = "is not writable" if nearest == path else f"cannot be made: {nearest} is not writable"
        return f"{path} {what} for {_user()}"
    return ""


def _may_read(folder: Path) -> str:
    """Why this process cannot read a folder; empty when it can."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError as error:
        return f"{folder} cannot be read by {_user()}: {error.strerror}"
    return ""


def _user() -> str:
    try:
        return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"the user {os.geteuid()}"


def _genomes(settings: Settings) -> Iterator[FolderFinding]:
    folder, config = settings.refgenie.genome_folder, settings.refgenie.genome_config
    if folder and (problem := _may_read(Path(folder))):
        yield FolderFinding(f"refgenie.genome_folder: {problem}; nothing is archived until it can be", refused=False)
    if config and not os.access(config, os.R_OK):
        what = "cannot be read" if os.path.lexists(config) else "is not there"
        yield FolderFinding(
            f"refgenie.genome_config: {config} {what}; nothing new is archived until it can be", refused=False
        )


def _archives(settings: Settings) -> Iterator[FolderFinding]:
    name = settings.refgenie.genome_archive_folder
    folder = Path(name)
    if not name:
        yield FolderFinding(
            "refgenie.genome_archive_folder is not set: nothing is archived, only reported", refused=False
        )
    elif problem := may_make(folder):
        # The disk of a known archive folder may be mounted later; a new archive folder must be made at the first start.
        known = (folder / MARKER).exists() or Path(settings.state.folder, DATABASE).exists()
        yield FolderFinding(
            f"refgenie.genome_archive_folder: {problem}; make it writable, or name another folder", refused=not known
        )
    elif not folder.is_dir():
        yield FolderFinding(f"refgenie.genome_archive_folder: {folder} is not there; it is made", refused=False)


def _state(settings: Settings) -> Iterator[FolderFinding]:
    if settings.state.folder and (problem := may_make(Path(settings.state.folder))):
        yield FolderFinding(f"state.folder: {problem}; name another with --state-folder or state.folder", refused=True)
    spool = settings.serving.state_folder
    if spool and settings.origins.get("serving.state_folder") != "default" and (problem := may_make(Path(spool))):
        yield FolderFinding(f"serving.state_folder: {problem}; `refgenied serve` needs it", refused=False)


def _socket(settings: Settings) -> Iterator[FolderFinding]:
    path = settings.control.socket
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        yield FolderFinding(f"control.socket: {path} is longer than {LONGEST_SOCKET} bytes", refused=True)
    elif problem := may_make(Path(path).parent):
        yield FolderFinding(
            f"control.socket: {problem}; set control.socket to a path in a folder that the daemon's user may write to",
            refused=True,
        )
    elif os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        yield FolderFinding(f"control.socket: {path} is there and is not a socket; move it away", refused=True)
