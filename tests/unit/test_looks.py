"""Looks at what may have changed: they find what a whole look finds, and their cost follows the change."""

import gc
import os
import shutil
import time
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from config_fuzz import run
from genome_trees import DIGEST, GENOME, VARIANTS, Tree013, Tree1, key
from system_calls import counted

from refgenied.genomes.folder import GenomeFolder
from refgenied.model import AssetKey, AssetState, Look

Tree = Tree013 | Tree1
LAYOUTS = ["0.13", *VARIANTS]


def made(root: Path, layout: str, groups: int) -> Tree:
    tree = Tree013(root) if layout == "0.13" else Tree1(root, layout)
    for number in range(groups):
        build(tree, f"g{number}")
    return tree


def build(tree: Tree, group: str) -> None:
    tree.asset(group)
    register(tree, group)


def register(tree: Tree, group: str) -> None:
    if isinstance(tree, Tree013):
        tree.entry(group)
        tree.write()
    else:
        tree.link(group)


def key_of(tree: Tree, group: str) -> AssetKey:
    return AssetKey(DIGEST if isinstance(tree, Tree013) else GENOME, group, "default")


def place(tree: Tree, group: str) -> Path:
    if isinstance(tree, Tree1):
        return tree.place(group)
    return tree.root / "data" / DIGEST / group / "default"


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    return request.param


class Looks:
    """Looks again and again at one folder; each is compared with a whole look."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.folder = GenomeFolder(str(tree.root), config=None)
        self.look = self.folder.look(time.time())
        assert self.look.full
        self.whole = GenomeFolder(str(tree.root), config=None)
        self.whole.look(time.time())

    def again(self, *noticed: Path, groups: tuple[str, ...] = (), full: bool = False) -> Look:
        now = time.time()
        before = self.look
        keys = [key_of(self.tree, group) for group in groups]
        self.look = self.folder.look_again(before, now, noticed=[str(path) for path in noticed], keys=keys)
        whole = self.whole.look(now)
        assert msgspec.structs.replace(self.look, full=True, watch=whole.watch) == whole
        assert set(self.look.watch) >= set(
            whole.watch
        )  # a folder that is gone is no longer watched, at the latest then
        assert self.look.full is full
        for k, asset in self.look.assets.items():
            assert asset is before.assets.get(k) or asset != before.assets.get(k)
            assert self.folder.asset(k, now) == asset
        return self.look


@pytest.mark.parametrize("groups", [0, 3])
def test_a_build_from_its_first_file_to_its_last(tmp_path: Path, layout: str, groups: int) -> None:
    tree = made(tmp_path / "genomes", layout, groups)
    if groups == 0:
        (tree.root / "alias").mkdir()
        (tree.root / "data").mkdir(exist_ok=True)
        (tree.root / "builds").mkdir()
    if layout == "0.13":
        tree.write()
    looks = Looks(tree)
    k = key_of(tree, "new")
    tree.asset("new", flags=("running",))
    beside = [tree.build("new").parent] if layout in {"builds", "digest"} else []
    if layout == "digest" and groups == 0:  # its name is not known before its links are
        k = AssetKey(GENOME, "new", "default")
    assert looks.again(place(tree, "new"), *beside).assets[k].state is AssetState.BUILDING
    tree.flags("new", "default", "completed")
    state = looks.again().assets[k].state
    assert state is (AssetState.UNREGISTERED if layout == "0.13" else AssetState.BUILDING)
    register(tree, "new")
    assert looks.again().assets[k].state is AssetState.COMPLETE
    (place(tree, "new") / "more").write_text("x")
    assert looks.again(groups=("new",)).assets[k].size > 3
    shutil.rmtree(place(tree, "new"))
    assert looks.again(place(tree, "new")).assets[k].state in {AssetState.MISSING, AssetState.BUILDING}


def test_a_build_again(tmp_path: Path, layout: str) -> None:
    tree = made(tmp_path / "genomes", layout, 3)
    looks = Looks(tree)
    tree.flags("g1", "default", "running")
    assert looks.again(groups=("g1",)).assets[key_of(tree, "g1")].state is AssetState.BUILDING
    tree.flags("g1", "default", "completed")
    assert looks.again().assets[key_of(tree, "g1")].state is AssetState.COMPLETE


def test_entries_and_aliases_that_change(tmp_path: Path) -> None:
    tree = made(tmp_path / "genomes", "0.13", 3)
    looks = Looks(tree)
    tree.entry("g1", asset_digest="1" * 32, asset_children=["x/y:default"])
    tree.write()
    assert looks.again().assets[key("g1")].children == ("x/y:default",)
    tree.genomes[DIGEST]["aliases"] = ["hg38", "human"]
    tree.write()
    assert looks.again().assets[key("g2")].aliases == ("hg38", "human")
    del tree.genomes[DIGEST]["assets"]["g0"]
    tree.write()
    assert looks.again().assets[key("g0")].state is AssetState.UNREGISTERED
    shutil.rmtree(place(tree, "g0"))
    assert key("g0") not in looks.again(groups=("g0",)).assets
    tree.write(b"[")
    looks.again()
    tree.asset("late")
    assert looks.again(place(tree, "late")).assets[key("late")].state is AssetState.UNREGISTERED
    tree.entry("late")
    tree.write()
    assert looks.again().assets[key("late")].state is AssetState.COMPLETE
    tree.genomes = {}
    tree.write()
    looks.again()


def test_a_config_that_is_written_as_it_was_tells_of_a_build_again(tmp_path: Path) -> None:
    tree = made(tmp_path / "genomes", "0.13", 3)
    looks = Looks(tree)
    before = looks.look.assets[key("g1")]
    tree.flags("g1", "default", "running")
    tree.flags("g1", "default", "completed")
    tree.config.write_bytes(tree.text())
    assert looks.again(tree.config).assets[key("g1")].stamp != before.stamp


@pytest.mark.parametrize("beside", ["a look at another", "a running build"])
def test_a_build_again_is_found_whatever_else_is_looked_at(tmp_path: Path, beside: str) -> None:
    tree = made(tmp_path / "genomes", "0.13", 3)
    if beside == "a running build":
        tree.asset("new", flags=("running",))
    looks = Looks(tree)
    before = looks.look.assets[key("g1")]
    tree.flags("g1", "default", "running")
    tree.flags("g1", "default", "completed")
    tree.config.write_bytes(tree.text())
    looks.again(groups=("g0",) if beside == "a look at another" else ())
    assert looks.again(tree.config).assets[key("g1")].stamp != before.stamp


def test_a_build_again_that_a_new_entry_hid_is_found_with_the_next_one(tmp_path: Path) -> None:
    tree = made(tmp_path / "genomes", "0.13", 3)
    folder = GenomeFolder(str(tree.root), config=None)
    now = time.time()
    look = folder.look(now)
    before = look.assets[key("g1")]
    tree.flags("g1", "default", "running")
    tree.flags("g1", "default", "completed")
    build(tree, "new")
    look = folder.look_again(look, now + 5, noticed=[str(tree.config)])
    assert key("new") in look.assets
    tree.config.write_bytes(tree.text())
    look = folder.look_again(look, now + 10, noticed=[str(tree.config)])
    assert not look.full
    assert look.assets[key("g1")].stamp != before.stamp


def test_a_part_is_found_as_by_a_look_at_everything(tmp_path: Path) -> None:
    for seed in range(5):
        run(tmp_path / str(seed), seed)


def test_a_new_genome(tmp_path: Path, layout: str) -> None:
    if layout == "0.13":
        pytest.skip("its config names them")
    tree = made(tmp_path / "genomes", layout, 2)
    looks = Looks(tree)
    other = "B" * 32
    there = tree.place("fasta", digest=other)
    there.mkdir(parents=True)
    (there / "x.fa").write_text("x")
    looks.again(tree.root / "data" / other)
    links = tree.root / "alias" / "mm10" / "fasta" / "default"
    links.mkdir(parents=True)
    (links / "x.fa").symlink_to(os.path.relpath(there / "x.fa", links))
    assert looks.again().assets[AssetKey(other, "fasta", "default")].state is AssetState.PULLED


@pytest.mark.parametrize("what", ["another look", "another folder", "data"])
def test_where_it_cannot_tell_it_looks_at_all(tmp_path: Path, layout: str, what: str) -> None:
    tree = made(tmp_path / "genomes", layout, 2)
    looks = Looks(tree)
    (place(tree, "g1") / "more").touch()
    noticed: tuple[Path, ...] = ()
    if what == "another look":
        looks.look = msgspec.structs.replace(looks.look)
    elif what == "another folder":
        shutil.copytree(tree.root, tmp_path / "copy", symlinks=True)
        tree.root.rename(tmp_path / "away")
        (tmp_path / "copy").rename(tree.root)
    else:
        noticed = (tree.root / "data",)
    looks.again(*noticed, full=True)


def test_what_a_partial_look_has_not_seen_is_seen_by_a_whole_one(tmp_path: Path, layout: str) -> None:
    """What is kept between looks is only a cache."""
    tree = made(tmp_path / "genomes", layout, 3)
    folder = GenomeFolder(str(tree.root), config=None)
    first = folder.look(time.time())
    (place(tree, "g0") / "more").touch()
    shutil.rmtree(place(tree, "g1"))
    tree.asset("g3")
    if isinstance(tree, Tree1):
        (tree.root / "alias/hg38/g2/default/gone").symlink_to("nowhere")
    partial = folder.look_again(first, time.time())
    assert not partial.full
    assert partial.assets is first.assets
    whole = folder.look(time.time())
    assert whole == GenomeFolder(str(tree.root), config=None).look(time.time())
    assert whole.assets[key_of(tree, "g0")] != first.assets[key_of(tree, "g0")]
    assert whole.assets[key_of(tree, "g1")].state is not AssetState.COMPLETE


@pytest.mark.parametrize("ask", ["asset", "nothing", "key", "noticed"])
def test_the_cost_of_one_asset_does_not_grow_with_the_folder(tmp_path: Path, layout: str, ask: str) -> None:
    costs = []
    for groups in (3, 60):
        tree = made(tmp_path / f"genomes{groups}", layout, groups)
        folder = GenomeFolder(str(tree.root), config=None)
        look = folder.look(time.time())
        k, now = key_of(tree, "g1"), time.time()
        with counted() as calls:
            if ask == "asset":
                folder.asset(k, now)
            else:
                keys, noticed = ([k] if ask == "key" else []), ([look.assets[k].folder] if ask == "noticed" else [])
                folder.look_again(look, now, keys=keys, noticed=noticed)
        costs.append(calls)
    assert costs[0] == costs[1]
    assert costs[0].total() > 0


def test_what_is_kept_for_one_asset_fits_into_two_kilobytes(tmp_path: Path, layout: str) -> None:
    """The asset, its key and entry, the survey, and the config's text and landmarks, with pytest's long paths."""
    kept = []
    for groups in (20, 120):
        tree = made(tmp_path / f"genomes{groups}", layout, groups)
        GenomeFolder(str(tree.root), config=None).look(time.time())  # what is kept once for all
        tracemalloc.start()
        folder = GenomeFolder(str(tree.root), config=None)
        look = folder.look(time.time())
        gc.collect()
        kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(look.assets) == groups
    assert kept[1] - kept[0] < 100 * 2048
