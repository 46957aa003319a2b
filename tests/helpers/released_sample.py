"""The samples of released versions (`released/make.py` made them), and a copy of one in a lab."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import tarfile
from hashlib import blake2b, md5
from pathlib import Path
from typing import Any

import yaml
from lab import Lab

SAMPLES = sorted((Path(__file__).parents[1] / "released").glob("*.tar.xz"))
BUILD = "_refgenie_build"


class Sample:
    """A copy of a genome folder, an archive folder and a database as a released version left them."""

    def __init__(self, lab: Lab, sample: Path) -> None:
        self.lab = lab
        with tarfile.open(sample) as tar:
            tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)  # not in Debian's Python 3.11.2
            tar.extractall(lab.root)  # noqa: S202 (our own)
        self.expected: dict[str, Any] = json.loads((lab.root / "expected.json").read_text())
        for folder in (lab.genomes, lab.archives):  # the only two files that know where they are
            path = folder / "genome_config.yaml"
            path.write_text(self.here(path.read_text()))
        self.database = lab.state / "refgenied.sqlite3"
        self.served = yaml.safe_load((lab.archives / "genome_config.yaml").read_text())

    def here(self, text: str) -> str:
        """With the paths of this copy."""
        return text.replace(self.expected["root"], str(self.lab.root))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What `archive list` said."""
        return [row | {"path": self.here(row["path"])} for row in self.expected["archives"]]

    def archive_files(self) -> dict[str, tuple[str, int]]:
        """md5 and inode of every archive in the archive folder."""
        return {
            str(path.relative_to(self.lab.archives)): (md5(path.read_bytes()).hexdigest(), path.stat().st_ino)
            for path in sorted(self.lab.archives.rglob("*.tgz"))
        }

    def stay_in_place(self) -> None:
        """As if the copy were the original: the database gets the stamps of the copied files.

        A stamp covers inodes and ctimes, which no copy keeps.
        """
        genomes = yaml.safe_load((self.lab.genomes / "genome_config.yaml").read_text())["genomes"]
        with sqlite3.connect(self.database) as database:
            for digest, genome in genomes.items():
                for group, body in genome["assets"].items():
                    for asset, entry in body["tags"].items():
                        folder = self.lab.genomes / "data" / digest / group / asset
                        if folder.exists():
                            self._stamp(database, (digest, group, asset), folder, entry)
        database.close()

    @staticmethod
    def _stamp(database: sqlite3.Connection, key: tuple[str, str, str], folder: Path, entry: dict[str, Any]) -> None:
        files = files_stamp(folder)
        stamp = whole_stamp(files, folder / BUILD, entry)
        where = "WHERE (genome_digest, asset_group, asset) = (?, ?, ?)"
        database.execute(f"UPDATE archive SET stamp = ?, files_stamp = ? {where}", (stamp, files, *key))  # noqa: S608
        database.execute(f"UPDATE removal SET stamp = ? {where}", (stamp, *key))  # noqa: S608
        database.execute(f"UPDATE job SET stamp = ? {where}", (stamp, *key))  # noqa: S608


def files_stamp(folder: Path) -> str:
    """The stamp of an asset's files as version 0.1.0 had it. With any other every asset would be read again after
    an upgrade, and what a user removed would come back.
    """
    digest = blake2b(digest_size=16)

    def add(path: Path, name: str) -> None:
        info = path.lstat()
        kind = "folder" if stat.S_ISDIR(info.st_mode) else "link" if stat.S_ISLNK(info.st_mode) else "file"
        size = info.st_size if kind == "file" else 0
        numbers = (stat.S_IMODE(info.st_mode), size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        target = os.readlink(path) if kind == "link" else ""
        digest.update(f"{name}\0{kind}{numbers}0\0{target}\0".encode())
        if kind == "folder":
            folders = {entry.name: f"{entry.name}/" * entry.is_dir(follow_symlinks=False) for entry in os.scandir(path)}
            for below in sorted(folders, key=lambda entry: folders[entry] or entry):
                if name or below != BUILD:
                    add(path / below, f"{name}/{below}" if name else below)

    add(folder, "")
    return digest.hexdigest()


def whole_stamp(files: str, build: Path, entry: dict[str, Any]) -> str:
    """The stamp of an asset as version 0.1.0 had it: its files, its completed flag, refgenie's entry."""
    (flag,) = build.glob("*_completed.flag")
    info = flag.lstat()
    flags = f"(Flag(path={str(flag)!r}, inode={info.st_ino}, mtime_ns={info.st_mtime_ns}),)"
    said = f"({files!r}, {flags}, {entry['asset_digest']!r}, {sorted(entry['seek_keys'].items())!r})"
    return blake2b(said.encode(), digest_size=16).hexdigest()
