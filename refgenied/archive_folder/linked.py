"""An asset's real files beside its archive: a folder with a link to each, so that the server's file paths lead there.

refgenie's own build folder is not among them: its logs and commands are nobody's to download.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from refgenied.genomes.build_folder import BUILD_FOLDER
from refgenied.genomes.small_files import some_names

MOST_LINKS = 100_000
"""Names in an asset's folder; of more only the first are linked."""


class LinkedFiles:
    """What stands under one name in the archive folder. `genomes`: the genome folder, into which our links lead."""

    def __init__(self, path: Path, genomes: str) -> None:
        self.path = path
        self._genomes = genomes

    def lead_to(self, folder: str) -> bool:
        """Link what is in this folder; with "" nothing. What is not ours stays. Whether anything changed. OSError."""
        changed = False
        if self._is_own(self.path):  # as refgenied 0.1 made it: one link to the whole folder
            self.path.unlink()
            changed = True
        if not folder and not os.path.lexists(self.path):
            return changed
        if self.path.is_symlink() or (os.path.lexists(self.path) and not self.path.is_dir()):
            return changed
        there = self._there()
        wanted = {} if not folder or None in there.values() else _wanted(folder)
        for name in sorted(there.keys() - {name for name, target in there.items() if target is None}):
            if wanted.get(name) != there[name]:
                (self.path / name).unlink()
                changed = True
        missing = {name: target for name, target in wanted.items() if there.get(name) != target}
        if missing:
            self.path.mkdir(exist_ok=True)
        for name, target in missing.items():
            os.symlink(target, self.path / name)
        if not wanted:
            with suppress(OSError):  # somebody else has something in it
                self.path.rmdir()
                changed = True
        return changed or bool(missing)

    def _there(self) -> dict[str, str | None]:
        """Name → where our link leads; None for what is not ours: an unpacked copy, another group's archives."""
        if not os.path.lexists(self.path):
            return {}
        names = some_names(os.fspath(self.path), MOST_LINKS)
        return {name: os.readlink(path) if self._is_own(path := self.path / name) else None for name in names}

    def _is_own(self, path: Path) -> bool:
        """A link that leads nowhere counts as one of ours, from where the genome folder was before."""
        if not path.is_symlink():
            return False
        target = os.path.normpath(os.readlink(path))
        return (bool(self._genomes) and Path(target).is_relative_to(self._genomes)) or not path.exists()


def _wanted(folder: str) -> dict[str, str]:
    return {name: os.path.join(folder, name) for name in some_names(folder, MOST_LINKS) if name != BUILD_FOLDER}
