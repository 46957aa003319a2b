"""The archives of a whole genome folder, made by the archive engine alone: what a daemon finds that has done its work.

The engine runs in two processes and syncs nothing: how fast it is this way is a row of `scale`'s table. The archives
are kept beside the genome folder, and each run works on a copy.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path

from genome_folders import GenomeFolder as Folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from refgenied.archive.creator import pack_asset
from refgenied.archive.format.manifest import About
from refgenied.archive.place import Place
from refgenied.archive.run import Run
from refgenied.genomes.folder import GenomeFolder
from refgenied.model import Asset


def archives(folder: Folder) -> Path:
    """The folder with all archives, made at the first call."""
    made = folder.home / "archives"
    if not made.exists():
        pack_all(folder, folder.home / "archives.partial")
        (folder.home / "archives.partial").rename(made)
    return made


def pack_all(folder: Folder, out: Path) -> float:
    """Archive every asset into an empty folder; archives a second, without the look."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    look = GenomeFolder(str(folder.root), config=None).look(time.time())
    tasks = [(str(folder.root), str(out), asset) for asset in look.assets.values()]
    with multiprocessing.Pool(2, os.nice, (0,)) as pool:
        began = time.monotonic()
        for _ in pool.imap_unordered(_pack, tasks, chunksize=50):
            pass
        return len(tasks) / (time.monotonic() - began)


def _pack(task: tuple[str, str, Asset]) -> None:
    root, out, asset = task
    os.fsync = os.fdatasync = lambda _fd: None
    genomes = GenomeFolder(root, config=None)
    about = About.of(asset, genomes.build_record(asset), requested_by="", created_at=time.time())
    with genomes.tree(asset) as tree:
        pack_asset(tree, Place(out, asset.key), about, Run(1)).publish()
