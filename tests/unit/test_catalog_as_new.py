"""After any changes the served config is, byte for byte, what a daemon that starts now makes of the same folder."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import yaml
from shelf import Shelf
from synthetic import Genomes

from refgenied.archive.place import Place
from refgenied.archive.publisher import remove
from refgenied.catalog.folder import ServedFolder
from refgenied.catalog.wanted import Wanted
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.model import Access, AssetKey, Genome, Look, Removal

DIGESTS = ["a" * 48, "b" * 48, "1" * 48]
GROUPS = ["f", "g", "g__h", "1e3"]
NAMES = ["default", "v2", "h__t", "t"]
TEXTS = ["", "one", "two: three", "5", "é"]
ALIASES = ["x", "y", "z"]


class World:
    """An archive folder, what is recorded of it, and what the last look has found."""

    def __init__(self, shelf: Shelf, choose: random.Random) -> None:
        self.shelf = shelf
        self.config = shelf.folder / CONFIG_NAME
        self.removals: dict[AssetKey, Removal] = {}
        self.genomes: dict[str, Genome] = {}
        self._choose = choose
        self.look = shelf.wanted().look

    def wanted(self, keys: set[AssetKey] | None = None) -> Wanted:
        removals = {key: one for key, one in self.removals.items() if keys is None or key in keys}
        return self.shelf.wanted(keys, removals=removals, look=self.look)

    def step(self) -> set[AssetKey]:
        """Change something. Returns the assets of which an event tells."""
        steps: list[Callable[[], set[AssetKey]]] = [
            self.publish,
            self.publish,
            self.remove,
            self.close,
            self.find,
            self.name,
            self.edit,
            self.edit,
        ]
        told = self._choose.choice(steps)()
        self.look = Look(dict(self.shelf.assets), dict(self.genomes), (), "", (1, 1), ())
        return told

    def publish(self) -> set[AssetKey]:
        key = AssetKey(*map(self._choose.choice, (DIGESTS, GROUPS, NAMES)))
        record = self.shelf.put(key, description=self._choose.choice(TEXTS))
        self.shelf.records[key] = msgspec.structs.replace(record, aliases=self._some(ALIASES))
        self.removals.pop(key, None)
        return {key}

    def remove(self) -> set[AssetKey]:
        for key in self._some(sorted(self.shelf.records), 1):
            del self.shelf.records[key]
            self.removals[key] = Removal(key, "s", time.time(), "ann")
            whole = self._choose.random() < 0.5
            remove(Place(self.shelf.folder, key), at=time.time(), by="ann", stamp="s", delete_file=whole)
            return {key}
        return set()

    def close(self) -> set[AssetKey]:
        for key in self._some(sorted(self.shelf.records), 1):
            access = self._choose.choice([Access.OWNER, Access.EVERYONE])
            self.shelf.records[key] = msgspec.structs.replace(self.shelf.records[key], access=access)
            self.shelf.assets.pop(key, None)
            return {key}
        return set()

    def find(self) -> set[AssetKey]:
        for key in self._some(sorted(self.shelf.assets)):
            if self._choose.random() < 0.3:
                del self.shelf.assets[key]
            else:
                parents = self._choose.choice([(), ("x/y:z",), ("bad bad",)])
                found = {"description": self._choose.choice(TEXTS), "parents": parents}
                self.shelf.assets[key] = msgspec.structs.replace(self.shelf.assets[key], **found)
        return set()

    def name(self) -> set[AssetKey]:
        digest = self._choose.choice(DIGESTS)
        defaults = {group: self._choose.choice(NAMES) for group in self._some(GROUPS)}
        self.genomes[digest] = Genome(digest, self._some(ALIASES), self._choose.choice(TEXTS), defaults)
        if self._choose.random() < 0.3:
            del self.genomes[digest]
        return set()

    def edit(self) -> set[AssetKey]:
        tree: dict[str, Any] = yaml.safe_load(self.config.read_text()) if self.config.exists() else {}
        if not tree.get("genomes"):
            return set()
        genome = self._choose.choice(list(tree["genomes"].values()))
        group = self._choose.choice(list(genome["assets"].values()))
        tag = self._choose.choice(list(group["tags"]))
        changes: list[Callable[[], Any]] = [
            lambda: tree.update(lab=[1]),
            lambda: tree.update(genome_servers=["http://x", 3]),
            lambda: tree.update(refgenied={}),
            lambda: genome.update(genome_description="mine", lab={"a": 10**30}),
            lambda: genome.update(aliases=self._choose.choice([[], ["x"], [5], "mine", ["y", "mine"]])),
            lambda: group.update(asset_description="mine", lab="x"),
            lambda: group.update(default_tag=self._choose.choice([*NAMES, 3])),
            lambda: group["tags"][tag].update(lab=1),
            lambda: group["tags"].pop(tag),
            lambda: group["tags"].update(theirs={"asset_path": "q", "archive_digest": "d", "archive_size": "1"}),
        ]
        self._choose.choice(changes)()
        self.config.write_text("{" if self._choose.random() < 0.1 else yaml.safe_dump(tree, allow_unicode=True))
        return set()

    def _some(self, things: list[Any], most: int = 2) -> tuple[Any, ...]:
        return tuple(self._choose.sample(things, min(len(things), self._choose.randint(most == 1, most))))


@pytest.mark.parametrize("seed", range(8))
def test_a_folder_that_follows_changes_is_as_one_that_is_made_anew(genomes: Genomes, tmp_path: Path, seed: int) -> None:
    world = World(anyio.run(Shelf.made, genomes, tmp_path / "shelf"), random.Random(seed))
    folder = ServedFolder(str(world.shelf.folder))
    for _ in range(40):
        told = world.step()
        found = folder.begin(world.wanted(), told)
        keys = folder.all_keys().union(world.shelf.records, world.removals) if found is None else found
        folder.bring(world.wanted(keys))
        served = folder.write(world.wanted(keys))
        folder.clear(world.wanted(set(folder.over)))
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(world.shelf.folder, copy, symlinks=True, copy_function=os.link)
        (copy / CONFIG_NAME).unlink()
        shutil.copy(world.config, copy)
        again = ServedFolder(str(copy)).refresh(world.wanted())
        assert (copy / CONFIG_NAME).read_bytes() == world.config.read_bytes()
        assert again.archives == served.archives
