"""Archives and folders as other programs make them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import yaml
from packing import md5
from synthetic import DIGEST, Genomes

from refgenied.model import AssetKey


def tar(folder: Path, archive: Path) -> Path:
    """As refgenieserver and refgenie 1 pack: GNU tar piped into gzip."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    command = f"tar --exclude _refgenie_build -C {folder.parent} -cf - {folder.name} | gzip > {archive}"
    subprocess.run(["sh", "-c", command], check=True)
    return archive


def server_folder(genomes: Genomes, root: Path, *keys: AssetKey) -> Path:
    """What `refgenieserver archive` leaves: flat names, its config, its sidecars, a copy under the alias."""
    config = yaml.safe_load(genomes.config.read_text())
    for key in keys:
        name = f"{key.asset_group}__{key.asset}"
        archive = tar(genomes.folder(key), root / key.genome_digest / f"{name}.tgz")
        entry = config["genomes"][DIGEST]["assets"][key.asset_group]["tags"][key.asset]
        entry |= {"archive_digest": md5(archive.read_bytes()), "archive_size": "1KB", "asset_size": "1KB"}
        (archive.parent / f"asset_dir_contents_{name}.json").write_text("[]")
        (archive.parent / f"build_recipe_{name}.json").write_text(json.dumps({"name": key.asset_group}))
        (archive.parent / f"build_log_{name}.md").write_text("### log")
        (root / "t7").mkdir(exist_ok=True)
        shutil.copy(archive, root / "t7" / archive.name)
    (root / "genome_config.yaml").write_text(yaml.safe_dump(config))
    return root
