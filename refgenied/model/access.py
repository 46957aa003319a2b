"""Who may read an asset's files, and therefore its archive."""

from __future__ import annotations

from enum import StrEnum


class Access(StrEnum):
    """The largest group of users that may read every file and folder of an asset, by their permission bits."""

    EVERYONE = "everyone"
    GROUP = "group"
    OWNER = "owner"  # only its owner may read some file or folder: the asset is private

    @property
    def private(self) -> bool:
        return self is Access.OWNER

    @property
    def file_mode(self) -> int:
        """Permission bits of a file that these users may read and its owner may write."""
        return _FILE_MODES[self]

    @property
    def folder_mode(self) -> int:
        """Permission bits of a folder with such files."""
        mode = self.file_mode
        return mode | (mode & 0o444) >> 2

    @classmethod
    def of(cls, mode: int, *, folder: bool) -> Access:
        """Who may read one file, or list and enter one folder, with these permission bits."""
        needed = 0o55 if folder else 0o44
        if mode & needed == needed:
            return cls.EVERYONE
        return cls.GROUP if mode & needed & 0o70 == needed & 0o70 else cls.OWNER

    def narrowed(self, other: Access) -> Access:
        """Who may read both this and the other."""
        return min(self, other, key=lambda access: access.file_mode)


_FILE_MODES = {Access.EVERYONE: 0o644, Access.GROUP: 0o640, Access.OWNER: 0o600}
