"""Finds out who has connected to the socket, and what that user may do: once, at the connection's start."""

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

from refgenied.model import PermissionDeniedError, Requester

SO_PEERGROUPS = 59
"""The socket option for all groups of the peer (since Linux 4.13); Python has no name for it. SO_PEERCRED has only the
primary group."""
_GROUPS_BYTES = 1024
"""The most bytes that Python's getsockopt takes: 256 groups."""


@dataclass(frozen=True)
class Peer:
    uid: int
    pid: int
    name: str
    """The user's name, or the uid as text if the user has no name."""
    may_write: bool
    group: str
    """The group whose members may write."""
    may_record: bool = False
    """Whether it may report downloads, even if it may not write."""

    @property
    def requester(self) -> Requester:
        return Requester(name=self.name, uid=self.uid, pid=self.pid)

    def require_write(self, verb: str) -> None:
        """PermissionDeniedError unless the peer may give orders."""
        if self.may_write:
            return
        make = f"the group {self.group} does not exist yet: `sudo groupadd {self.group}`, then restart refgenied; "
        how = make if group_id(self.group) is None else ""
        raise PermissionDeniedError(
            f"{verb} is for root, the user {user_name(os.geteuid())} and members of the group {self.group}, "
            f"and {self.name} (uid {self.uid}) is none of them",
            hint=f"{how}join it with `sudo usermod -aG {self.group} {self.name}` and log in again",
        )

    def require_record(self, verb: str) -> None:
        """PermissionDeniedError unless the peer may report downloads."""
        if not (self.may_write or self.may_record):
            raise PermissionDeniedError(
                f"{verb} is for the users in control.download_users and for those who may give orders, "
                f"and {self.name} (uid {self.uid}) is neither",
                hint=f'set control.download_users = ["{self.name}"] in the configuration and reload refgenied',
            )


def credentials(connection: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the process that connected, from the kernel."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid, gid


def identify(connection: socket.socket, group: str, download_users: tuple[str, ...] = ()) -> Peer:
    """Names and rights of the peer. Blocking: the user database may be on the network.

    A user in `download_users` may report downloads. Membership of the group then gives no further right, because the
    user may be in it only to be able to connect.
    """
    pid, uid, gid = credentials(connection)
    wanted = group_id(group)
    name = user_name(uid)
    may_record = name in download_users
    is_member = wanted is not None and (wanted == gid or wanted in _groups(connection, uid, gid))
    may_write = uid in (0, os.geteuid()) or (is_member and not may_record)
    return Peer(uid=uid, pid=pid, name=name, may_write=may_write, group=group, may_record=may_record)


def _groups(connection: socket.socket, uid: int, gid: int) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:  # too many groups, or an old kernel: ask the user database
        name = user_name(uid)
        return frozenset() if name.isdecimal() else frozenset(os.getgrouplist(name, gid))
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
