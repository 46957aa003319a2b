"""A folder beside an archive with a link to each of the asset's real files. The server's file paths lead into it.

refgenie's own build folder is left out, because nobody should download its logs and commands.
"""

import os
from contextlib import suppress
from pathlib import Path

from refgenied.genomes.build_folder import BUILD_FOLDER
from refgenied.genomes.small_files import some_names

MOST_LINKS = 100_000
"""If an asset's folder has more names, only the first ones are linked."""


class LinkedFiles:
    """One name in the archive folder. `genomes`: the genome folder, into which our links lead."""

    def __init__(self, path: Path, genomes: str) -> None:
        self.path = path
        self._genomes = genomes

    def lead_to(self, folder: str) -> bool:
        """Link the files of this folder; "": link none. Files that are not ours stay. Returns whether anything changed.

        OSError.
        """
        changed = self._is_own(self.path)
        if changed:  # refgenied 0.1 made one link to the whole folder
            self.path.unlink()
        is_there = os.path.lexists(self.path)
        if is_there and (self.path.is_symlink() or not self.path.is_dir()):  # another program made it
            return changed
        if not is_there and not folder:
            return changed
        there = self._there()
        wanted = {} if not folder or None in there.values() else _wanted(folder)
        wrong = [name for name, target in there.items() if target is not None and wanted.get(name) != target]
        for name in wrong:
            (self.path / name).unlink()
        missing = {name: target for name, target in wanted.items() if there.get(name) != target}
        if missing:
            self.path.mkdir(exist_ok=True)
        for name, target in missing.items():
            os.symlink(target, self.path / name)
        if not wanted:
            with suppress(OSError):  # another program's files are in it
                self.path.rmdir()
                changed = True
        return changed or bool(wrong or missing)

    def _there(self) -> dict[str, str | None]:
        """Name → target of our link; None for a file that is not ours (an unpacked copy, another group's archives)."""
        if not os.path.lexists(self.path):
            return {}
        names = some_names(os.fspath(self.path), MOST_LINKS)
        return {name: os.readlink(path) if self._is_own(path := self.path / name) else None for name in names}

    def _is_own(self, path: Path) -> bool:
        """Whether the link is ours. A link without a target counts as ours: the genome folder may have been moved."""
        if not path.is_symlink():
            return False
        target = os.path.normpath(os.readlink(path))
        return (bool(self._genomes) and Path(target).is_relative_to(self._genomes)) or not path.exists()


def _wanted(folder: str) -> dict[str, str]:
    return {name: os.path.join(folder, name) for name in some_names(folder, MOST_LINKS) if name != BUILD_FOLDER}
