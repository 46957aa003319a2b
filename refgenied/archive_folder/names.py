"""The names that refgenieserver looks for, beside refgenie 1's nested ones.

`{archive_folder}/{genome_digest}/{asset_group}__{asset}.tgz` is another name (a hard link) of the nested archive. When
a new archive gets the nested name, the old archive keeps this flat name until `show` gives it to the new one. After
that the old archive has a hidden name with its digest for a while (`kept`), because clients may still ask for it.
"""

import hashlib
import json
import math
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from refgenied.archive.adopt import REPLACED
from refgenied.archive.format.manifest import Manifest, read_manifest
from refgenied.archive.place import Place
from refgenied.archive_folder.linked import LinkedFiles
from refgenied.files.durable import (
    LONGEST_NAME_BYTES,
    NO_HARD_LINK_ERRNOS,
    keep_beside,
    partial_of,
    sync_folder,
    writing,
)
from refgenied.files.regular import read_regular
from refgenied.model import AssetKey, RefgeniedError

_MD5 = re.compile(r"[0-9a-f]{32}")
_KEPT = re.compile(r"\..+\.[0-9a-f]{32}\.tgz")


def flat_name(key: AssetKey) -> str:
    """The name of the file that refgenieserver 0.8.0 sends, in the genome's folder."""
    return f"{key.asset_group}__{key.asset}.tgz"


def is_kept_name(name: str) -> bool:
    """Whether `ServedNames.kept` has made this name. Only `Kept` deletes such files."""
    return _KEPT.fullmatch(name) is not None


class Shown(NamedTuple):
    """What refgenieserver finds of one archive now."""

    size: int | None
    """Bytes of the archive under its nested name; None: there is none."""
    flat: bool
    """Whether the flat name leads to it."""
    page: bool
    """Whether the list for its page is there."""


def shown(archive_folder: str, key: AssetKey) -> Shown:
    """Look at one archive that was shown before; this costs three system calls. OSError.

    The names are those of `Place` and `ServedNames`, which take much longer to make.
    """
    genome = f"{archive_folder}/{key.genome_digest}"
    name = f"{key.asset_group}__{key.asset}"
    try:
        nested = os.stat(f"{genome}/{key.asset_group}/{key.asset}/{name}.tgz")
    except (FileNotFoundError, NotADirectoryError):
        return Shown(None, flat=False, page=False)
    try:
        flat = os.path.samestat(nested, os.stat(f"{genome}/{name}.tgz"))
    except OSError:
        flat = False
    return Shown(nested.st_size, flat, os.path.exists(f"{genome}/asset_dir_contents_{name}.json"))


def same_named(key: AssetKey) -> list[AssetKey]:
    """The names of other assets that would have the same flat name as this one (`a__b:c` and `a:b__c`)."""
    name = f"{key.asset_group}__{key.asset}"
    if name.count("__") == 1 and "___" not in name:
        return []
    splits = ((name[:at], name[at + 2 :]) for at in range(1, len(name) - 2) if name.startswith("__", at))
    others = (AssetKey(key.genome_digest, group, asset) for group, asset in splits)
    return [other for other in others if other != key]


class ServedNames:
    """One asset's files as refgenieserver 0.8.0 names them."""

    def __init__(self, place: Place, genomes: str = "") -> None:
        """`genomes`: the genome folder, into which our links lead."""
        key = place.key
        self.place = place
        self.folder = place.archive_folder / key.genome_digest
        name = flat_name(key).removesuffix(".tgz")
        self.archive = self.folder / flat_name(key)
        self.contents = self.folder / f"asset_dir_contents_{name}.json"
        self.recipe = self.folder / f"build_recipe_{name}.json"
        self.log = self.folder / f"build_log_{name}.md"
        self.files = LinkedFiles(self.folder / name, genomes)
        """The folder where the server looks for unpacked files."""

    def kept(self, digest: str) -> Path | None:
        """The hidden name for an archive with this md5 that has lost its flat name; None: this is not an md5.

        A name that is too long is cut, and a hash of the whole name replaces the rest.
        """
        if not _MD5.fullmatch(digest):
            return None
        stem = self.archive.name.removesuffix(".tgz")
        name = f".{stem}.{digest}.tgz"
        if len(os.fsencode(name)) > LONGEST_NAME_BYTES:
            mark = hashlib.sha256(os.fsencode(stem)).hexdigest()[:16]
            name = f".{os.fsencode(stem)[:180].decode(errors='ignore')}-{mark}.{digest}.tgz"
        return self.folder / name

    def shows(self) -> bool:
        """Whether the archive's flat name leads to its nested one now."""
        return _one_file(self.archive, self.place.archive)

    def show(self) -> None:
        """Make the flat name another name of the nested archive. The caller syncs `folder` later. OSError."""
        try:
            os.link(self.place.archive, self.archive, follow_symlinks=False)  # in one step, if the name is free
        except FileExistsError:
            self._show_instead()
        except OSError as error:
            if error.errno not in NO_HARD_LINK_ERRNOS:
                raise
            self._show_instead()

    def _show_instead(self) -> None:
        if self.shows():
            return
        partial = partial_of(self.archive)
        partial.unlink(missing_ok=True)
        try:
            os.link(self.place.archive, partial, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_HARD_LINK_ERRNOS:
                raise
            os.symlink(os.path.relpath(self.place.archive, self.folder), partial)
        os.rename(partial, self.archive)

    def keep_foreign(self, manifest: Manifest) -> list[Path]:
        """Rename another program's files under these names to `….replaced`, and return the new names.

        Call it before our first archive of the asset is published, while that archive has its partial name. An archive
        that was removed does not count as the first. Files with the same content as the manifest are not kept.
        WriteError.
        """
        if self._is_ours():
            return []
        build = manifest.build
        lost = [
            path
            for path, ours in ((self.recipe, build.recipe), (self.log, build.log))
            if os.path.lexists(path) and not _says(path, ours)
        ]
        nested = (self.place.archive, self.place.archive_partial)
        if os.path.lexists(self.archive) and not any(_one_file(self.archive, path) for path in nested):
            lost += [path for path in (self.archive, self.contents) if os.path.lexists(path)]
        with writing(self.archive):  # a folder is never replaced, so it needs no new name
            return [keep_beside(path, REPLACED) for path in lost if path.is_symlink() or not path.is_dir()]

    def _is_ours(self) -> bool:
        """Whether these names belong to an archive of ours that was not removed."""
        try:
            return read_manifest(self.place.manifest).removed is None
        except RefgeniedError:
            return os.path.lexists(self.place.manifest)

    def hide(self) -> None:
        """Delete every name that shows a private archive; the archive itself stays.

        An older archive from before the asset became private may still have the flat name. It is deleted too. OSError.
        """
        if self.shows() or (self.place.archive.exists() and _older(self.archive, self.place.archive.stat().st_mtime)):
            self.archive.unlink()
        self.clear(before=math.inf)

    def archive_is_over(self, before: float) -> bool:
        """Whether an archive that was removed at `before` has only its flat name left."""
        return not os.path.lexists(self.place.archive) and _older(self.archive, before)

    def clear(self, before: float) -> None:
        """Delete the pages of an archive that was removed at `before` (Unix seconds).

        Its flat name is deleted too when the archive itself is gone. Newer files belong to another program, and stay.
        OSError.
        """
        gone = [path for path in (self.contents, self.recipe, self.log) if _older(path, before)]
        if self.archive_is_over(before):
            gone.append(self.archive)
        for path in gone:
            path.unlink(missing_ok=True)
        if self.files.lead_to("") or gone:
            sync_folder(self.folder)
        with suppress(OSError):
            self.folder.rmdir()


def _one_file(path: Path, other: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), other.stat())
    except OSError:
        return False


def _says(path: Path, ours: dict[str, Any] | str | None) -> bool:
    """Whether a file holds this text, or this value as JSON."""
    try:
        text = read_regular(path, 1 << 20).decode()
        return text == ours if isinstance(ours, str) else json.loads(text) == ours
    except (OSError, ValueError, RecursionError):
        return False


def _older(path: Path, moment: float) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return not stat.S_ISDIR(found.st_mode) and found.st_mtime <= moment
