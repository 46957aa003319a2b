"""A database must lie on a disk of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from refgenied.model import StateError

NETWORK_FILE_SYSTEMS = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "ceph-fuse",
        "lustre",
        "gpfs",
        "beegfs",
        "glusterfs",
        "sshfs",
    ]
)
"""As mountinfo names them, also behind `fuse.`."""


def refuse_network_disk(folder: Path) -> None:
    """SQLite's locks are not to be trusted over a network; find the mount that holds the folder."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == number and rest.split()[0].removeprefix("fuse.") in NETWORK_FILE_SYSTEMS:
            raise StateError(
                f"the state folder {folder} lies on a network disk ({rest.split()[0]})",
                hint="set state.folder to a folder on a local disk",
            )
