"""The invariants of ARCHITECTURE.md that can be seen from outside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from lab import Lab
from proof import prove
from refgenie_cli import Refgenie, recipe_of

pytestmark = pytest.mark.needs("refgenie")


def listing(folder: Path) -> dict[str, tuple[int, ...]]:
    """Everything that a write would change: mode, inode, links, owner, size, mtime, ctime. (Reading changes atime.)"""
    found: dict[str, tuple[int, ...]] = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files, "."):
            path = os.path.join(top, name)
            stat = os.lstat(path)
            found[path] = (
                stat.st_mode,
                stat.st_ino,
                stat.st_nlink,
                stat.st_uid,
                stat.st_size,
                stat.st_mtime_ns,
                stat.st_ctime_ns,
            )
    return found


def test_the_genome_folder_is_never_written(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts"))
    refgenie.rounds("demo/broken", 1, recipe=recipe_of(tmp_path, "broken", fails=True), check=False)
    before = listing(lab.genomes)
    daemon = lab.start()
    for path in ("demo/fasta", "demo/parts"):
        lab.archived(path)
    assert lab.ctl("archive", "create", "--force", "demo/parts").code == 0
    assert lab.ctl("archive", "remove", "demo/parts", "--delete-file").code == 0
    assert lab.ctl("scan").code == 0
    assert daemon.stop() == 0
    assert listing(lab.genomes) == before


def test_a_lost_database_is_read_anew_from_the_manifests(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    daemon = lab.start()
    recipe = recipe_of(tmp_path, "parts")
    refgenie.rounds("demo/parts", 1, recipe=recipe)
    refgenie.rounds("demo/unwanted", 1, recipe=recipe_of(tmp_path, "unwanted"))
    for path in ("demo/fasta", "demo/parts", "demo/unwanted"):
        lab.archived(path)
    assert lab.ctl("archive", "remove", "demo/unwanted").code == 0
    before = lab.rows("archive", "list")
    inodes = {row["path"]: Path(row["path"]).stat().st_ino for row in before}
    assert daemon.stop() == 0
    shutil.rmtree(lab.state)

    lab.start()
    assert lab.ctl("scan").code == 0
    for path in ("demo/fasta", "demo/parts"):
        assert lab.wait(path).code == 0
    lasting = ("registry_path", "digest", "size", "asset_digest", "content_digest", "files", "created_at", "aliases")
    assert [[row[name] for name in lasting] for row in lab.rows("archive", "list")] == [
        [row[name] for name in lasting] for row in before
    ]
    assert {row["path"]: Path(row["path"]).stat().st_ino for row in before} == inodes, "nothing was made anew"
    assert lab.events("archive.published") == []
    said = lab.wait("demo/unwanted")
    assert said.code == 1
    assert "removed" in said.err

    refgenie.rounds("demo/unwanted", 2, "-N", recipe=recipe_of(tmp_path, "unwanted"))
    prove(lab.archived("demo/unwanted"), lab.archives, refgenie.folder("demo/unwanted"))


def test_a_removed_archive_stays_removed(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    daemon = lab.start()
    path = Path(lab.archived("demo/fasta")["path"])
    said = lab.ctl("archive", "remove", "demo/fasta")
    assert said.code == 0
    assert str(path) in said.out
    assert path.exists()
    assert lab.rows("archive", "list") == []
    assert daemon.stop() == 0
    daemon = lab.start()
    assert lab.ctl("scan").code == 0
    assert lab.rows("archive", "list") == []
    assert lab.rows("queue", "list") == []

    assert lab.ctl("archive", "create", "demo/fasta").code == 0
    prove(lab.archive("demo/fasta"), lab.archives, refgenie.folder("demo/fasta"))
    assert lab.ctl("archive", "remove", "demo/fasta", "--delete-file").code == 0
    assert not path.exists()
    assert lab.ctl("archive", "show", "demo/fasta").code == 1


def test_the_same_asset_gives_the_same_bytes(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts", size=3_000_000))
    digests: set[str] = set()
    for threads in (1, 2, 8):
        lab.configure(archive={"threads": threads})
        daemon = lab.start()
        lab.archived("demo/parts")
        assert lab.ctl("archive", "create", "--force", "demo/parts").code == 0
        digests.add(lab.archive("demo/parts")["digest"])
        assert daemon.stop() == 0
    assert len(digests) == 1


def test_a_damaged_or_missing_file_is_made_anew(lab: Lab, refgenie: Refgenie) -> None:
    lab.start()
    row = lab.archived("demo/fasta")
    path = Path(row["path"])
    os.truncate(path, row["size"] // 2)
    assert prove(lab.archived("demo/fasta"), lab.archives)
    path.unlink()
    again = lab.archived("demo/fasta")
    prove(again, lab.archives, refgenie.folder("demo/fasta"))
    assert again["digest"] == row["digest"]


def test_without_an_archive_folder_it_reports_and_refuses(lab: Lab, refgenie: Refgenie) -> None:
    lab.configure(refgenie={"genome_archive_folder": ""})
    lab.start()
    assert lab.asset("demo/fasta")["state"] == "complete"
    said = lab.ctl("archive", "create", "demo/fasta")
    assert said.code == 1
    assert "genome_archive_folder" in said.err
