"""A genome folder as refgenie 0.13 leaves it, written by hand: for tests of our parts, not of refgenie."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import yaml

from refgenied.model import AssetKey

DIGEST = "d1" * 24
ALIAS = "t7"


class Genomes:
    def __init__(self, root: Path, shown: Path | None = None) -> None:
        self.root = root
        self._shown = shown or root  # where it is for the daemon, when that sees it elsewhere
        self.config = root / "genome_config.yaml"
        self.groups: dict[str, dict[str, object]] = {}
        root.mkdir(exist_ok=True)
        self.write_config()

    def folder(self, key: AssetKey) -> Path:
        return self.root / "data" / key.genome_digest / key.asset_group / key.asset

    def build(self, group: str = "fasta", asset: str = "default", **files: bytes) -> AssetKey:
        """A finished build with these files (by default one, named as the group)."""
        key = AssetKey(DIGEST, group, asset)
        files = files or {group: b">chr1\nACGT\n"}
        self.start(key)
        for name, content in files.items():
            (self.folder(key) / name).write_bytes(content)
        self.finish(key)
        return key

    def start(self, key: AssetKey) -> None:
        """The running flag comes, the completed one goes."""
        build = self.folder(key) / "_refgenie_build"
        build.mkdir(parents=True, exist_ok=True)
        (build / "refgenie_X_completed.flag").unlink(missing_ok=True)
        (build / "refgenie_X_running.flag").write_text("running")

    def finish(self, key: AssetKey) -> None:
        """refgenie's order: target flag, config, flags toggle."""
        folder = self.folder(key)
        build = folder / "_refgenie_build"
        flag = f"{key.genome_digest}_{key.asset_group}__{key.asset}.flag"
        (build / (flag if len(flag) < 256 else f"{key.genome_digest}_{key.asset_group}__default.flag")).touch()
        (build / "refgenie_commands.sh").write_text("# Pipeline started\n\ntouch a\n")
        names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink())
        sums = "".join(f"{hashlib.md5((folder / name).read_bytes()).hexdigest()}\n" for name in names)
        tags = self.groups.setdefault(key.asset_group, {})
        tags[key.asset] = {
            "asset_digest": hashlib.md5(sums.encode()).hexdigest(),
            "asset_path": key.asset_group,
            "seek_keys": {key.asset_group: names[0] if names else "."},
        }
        self.write_config()
        (build / "refgenie_X_running.flag").unlink()
        (build / "refgenie_X_completed.flag").write_text("completed")

    def remove(self, key: AssetKey) -> None:
        """As `refgenie remove`: the files go, then the entry."""
        shutil.rmtree(self.folder(key))
        del self.groups[key.asset_group][key.asset]
        if not self.groups[key.asset_group]:
            del self.groups[key.asset_group]
        self.write_config()

    def write_config(self) -> None:
        assets = {group: {"default_tag": next(iter(tags)), "tags": tags} for group, tags in self.groups.items()}
        partial = self.config.with_suffix(".new")
        genomes = {DIGEST: {"aliases": [ALIAS], "assets": assets}} if assets else {}
        partial.write_text(
            yaml.safe_dump({"config_version": "0.4", "genome_folder": str(self._shown), "genomes": genomes})
        )
        os.replace(partial, self.config)
