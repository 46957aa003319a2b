"""A database must lie on a disk of this machine."""

from __future__ import annotations

import re
from pathlib import Path

from refgenied.files import mounts
from refgenied.model import StateError

NETWORK_FILE_SYSTEM = re.compile(
    r"(fuse\.)?(nfs|nfs4|cifs|smb3|smbfs|9p|afs|ceph|ceph-fuse|lustre|gpfs|beegfs|glusterfs|sshfs)"
)
"""A name in mountinfo."""


def refuse_network_disk(folder: Path) -> None:
    """StateError when the folder is on a network disk: SQLite cannot trust the locks there."""
    kind = mounts.file_system(folder)
    if NETWORK_FILE_SYSTEM.fullmatch(kind):
        raise StateError(
            f"the state folder {folder} lies on a network disk ({kind})",
            hint="set state.folder to a folder on a local disk",
        )
