"""The users and groups of the services: which of them an installation has made, and which files they own."""

import grp
import os
import pwd
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from refgenied.config.roles import MARKER
from refgenied.model import WriteError
from refgenied.systemd.tools import run


class Users(NamedTuple):
    """The names of the services' users. Each user has a group of the same name."""

    daemon: str
    server: str


SERVICE_USERS = Users("refgenied", "refgenied-serve")

_MADE_HERE = "# made here:"


def missing(users: Users, group: str) -> list[str]:
    """The accounts that an installation will make: `user NAME` and `group NAME`."""
    made = [f"user {name}" for name in users if not _is_known(pwd.getpwnam, name)]
    return made + [f"group {name}" for name in (*users, group) if not _is_known(grp.getgrnam, name)]


def _is_known(look_up: Callable[[str], object], name: str) -> bool:
    try:
        look_up(name)
    except KeyError:
        return False
    return True


def noted(sysusers: str, made: Iterable[str]) -> str:
    """The text for sysusers.d, with a line for each account that did not exist before."""
    lines = [f"{_MADE_HERE} {account}" for account in dict.fromkeys(made)]
    return "\n".join([sysusers.rstrip("\n"), *lines]) + "\n"


def made_before(sysusers: str) -> list[str]:
    """The accounts that such a text names as made."""
    return [line.removeprefix(_MADE_HERE).strip() for line in sysusers.splitlines() if line.startswith(_MADE_HERE)]


def take_away(made: Iterable[str]) -> list[str]:
    """Remove these accounts. A group with members stays. Returns one line for each account that stays."""
    left: list[str] = []
    for account in sorted(made, reverse=True):  # users first, because a user's group cannot be removed before the user
        kind, _, name = account.partition(" ")
        with suppress(KeyError):
            members = grp.getgrnam(name).gr_mem if kind == "group" else []
            if kind == "user":
                pwd.getpwnam(name)
            if members:
                left.append(f"the group {name} stays, it has members: {', '.join(members)}")
                continue
            try:
                run(f"{kind}del", name, missing=f"{kind}del is not installed: {name} stays")
            except WriteError as error:  # it may be somebody's primary group; the other accounts are still removed
                left.append(f"the {kind} {name} stays: {error.message}")
    return left


def give(folder: Path, user: str, group: str, *, leave: Path) -> int:
    """Give a folder to a user and a group, with all its files if it is an archive folder already.

    Returns how many owners changed. Links themselves are given, and never followed. `leave`, the genome folder, is left
    out if it lies inside.
    """
    uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    changed = _own(folder, uid, gid)
    if not (folder / MARKER).exists():
        return changed
    for parent, folders, files, fd in os.fwalk(folder):
        folders[:] = [name for name in folders if Path(parent, name) != leave]
        changed += sum(_own(name, uid, gid, fd) for name in (*folders, *files))
    return changed


def hand_over(folder: Path, uid: int) -> int:
    """Give the files of a user that will be removed to root, so no later user gets them. Returns how many changed."""
    changed = 0
    for parent, _, files, fd in os.fwalk(folder):
        for name, within in ((parent, None), *((name, fd) for name in files)):
            if os.stat(name, dir_fd=within, follow_symlinks=False).st_uid == uid:
                os.chown(name, 0, 0, dir_fd=within, follow_symlinks=False)
                changed += 1
    return changed


def _own(path: str | Path, uid: int, gid: int, fd: int | None = None) -> bool:
    """Returns whether the owner changed."""
    info = os.stat(path, dir_fd=fd, follow_symlinks=False)
    if (info.st_uid, info.st_gid) == (uid, gid):
        return False
    os.chown(path, uid, gid, dir_fd=fd, follow_symlinks=False)
    return True
