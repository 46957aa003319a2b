"""What `refgenied run` would say of the folders of a configuration, found out without making or changing anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refgenied.config.places import LONGEST_SOCKET, may_make, may_read
from refgenied.config.roles import DATABASE, MARKER
from refgenied.config.settings import Settings


class Finding(NamedTuple):
    message: str
    refused: bool
    """Whether `run` does not start; else it starts, and `refgeniectl status` says the same."""


def check_folders(settings: Settings) -> list[Finding]:
    """Folders that are not there, or that this user may not read or write."""
    return [*_genomes(settings), *_archives(settings), *_state(settings), *_socket(settings)]


def _genomes(settings: Settings) -> Iterator[Finding]:
    folder, config = settings.refgenie.genome_folder, settings.refgenie.genome_config
    if folder and (problem := may_read(Path(folder))):
        yield Finding(f"refgenie.genome_folder: {problem}; nothing is archived until it can be", refused=False)
    if config and not os.access(config, os.R_OK):
        what = "cannot be read" if os.path.lexists(config) else "is not there"
        yield Finding(
            f"refgenie.genome_config: {config} {what}; nothing new is archived until it can be", refused=False
        )


def _archives(settings: Settings) -> Iterator[Finding]:
    name = settings.refgenie.genome_archive_folder
    folder = Path(name)
    if not name:
        yield Finding("refgenie.genome_archive_folder is not set: nothing is archived, only reported", refused=False)
    elif problem := may_make(folder):
        # An archive folder that is known may come later, with its disk; a new one must be made at the first start.
        known = (folder / MARKER).exists() or Path(settings.state.folder, DATABASE).exists()
        yield Finding(
            f"refgenie.genome_archive_folder: {problem}; make it writable, or name another folder", refused=not known
        )
    elif not folder.is_dir():
        yield Finding(f"refgenie.genome_archive_folder: {folder} is not there; it is made", refused=False)


def _state(settings: Settings) -> Iterator[Finding]:
    if settings.state.folder and (problem := may_make(Path(settings.state.folder))):
        yield Finding(f"state.folder: {problem}; name another with --state-folder or state.folder", refused=True)
    spool = settings.serving.state_folder
    if spool and settings.origins.get("serving.state_folder") != "default" and (problem := may_make(Path(spool))):
        yield Finding(f"serving.state_folder: {problem}; `refgenied serve` needs it", refused=False)


def _socket(settings: Settings) -> Iterator[Finding]:
    path = settings.control.socket
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        yield Finding(f"control.socket: {path} is longer than {LONGEST_SOCKET} bytes", refused=True)
    elif problem := may_make(Path(path).parent):
        yield Finding(
            f"control.socket: {problem}; set control.socket to a path in a folder that the daemon's user may write to",
            refused=True,
        )
    elif os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        yield Finding(f"control.socket: {path} is there and is not a socket; move it away", refused=True)
