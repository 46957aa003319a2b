"""Looks at a part of refgenie 1's folder when aliases and links come, go and move."""

import os
import shutil
import time
from pathlib import Path

import pytest
from genome_trees import GENOME, VARIANTS, Tree1
from link_fuzz import run
from system_calls import counted

from refgenied.genomes.kept_folder import KeptFolder
from refgenied.model import AssetKey, AssetState, Look

OTHER = "d4" * 32


def key(group: str, asset: str = "default") -> AssetKey:
    return AssetKey(GENOME, group, asset)


def whole(tree: Tree1) -> Look:
    return tree.folder().look(time.time())


@pytest.fixture(params=VARIANTS)
def tree(request, tmp_path: Path) -> Tree1:
    tree = Tree1(tmp_path / "genomes", request.param)
    tree.asset("f")
    tree.link("f")
    return tree


def running(tree: Tree1, group: str, alias: str) -> Path:
    """A build that runs under an alias."""
    build = tree.build(group, alias=alias)
    build.mkdir(parents=True, exist_ok=True)
    (build / f"refgenie_{alias}_{group}_default_running.flag").touch()
    return build


@pytest.mark.parametrize("linked", ["its own links", "those of another asset"])
def test_a_build_under_an_alias_set_since_the_look_is_seen_by_a_job(tree: Tree1, linked: str) -> None:
    tree.asset("g")
    tree.link("g")
    folder = tree.folder()
    folder.look(time.time())
    tree.link("g", alias="hs")
    if linked == "its own links":
        tree.link("f", alias="hs")
    running(tree, "f", "hs")
    asset = folder.asset(key("f"), time.time())
    assert asset.state is AssetState.BUILDING
    if tree.variant != "inside":  # there the alias is of no use for the flags
        assert asset == whole(tree).assets[key("f")]


def test_a_build_folder_that_is_nobodys_does_not_hold_an_asset_up(tree: Tree1) -> None:
    folder = tree.folder()
    folder.look(time.time())
    stray = tree.root / "builds" / "stray" / "f" / "default"
    stray.mkdir(parents=True)
    (stray / "refgenie_stray_f_default_running.flag").touch()
    assert folder.asset(key("f"), time.time()) == whole(tree).assets[key("f")]
    assert folder.asset(key("f"), time.time()).state is AssetState.COMPLETE


def test_a_notice_of_a_build_under_a_new_alias(tree: Tree1) -> None:
    folder = tree.folder()
    look = folder.look(time.time())
    tree.link("f", alias="hs")
    running(tree, "f", "hs")
    noticed = [look.assets[key("f")].folder, str(tree.root / "builds" / "hs")]
    again = folder.look_again(look, time.time(), noticed=noticed)
    assert again.assets == whole(tree).assets
    assert again.genomes[GENOME].aliases == ("hg38", "hs")
    assert set(again.watch) >= set(whole(tree).watch)


def test_a_first_build_under_a_second_alias(tree: Tree1) -> None:
    folder = tree.folder()
    look = folder.look(time.time())
    there = tree.asset("h")
    noticed = [there, there.parent]
    if tree.variant != "inside":
        (tree.root / "builds" / "hs").mkdir()
        shutil.move(tree.root / "builds/hg38/h", tree.root / "builds/hs/h")
        noticed.append(tree.root / "builds" / "hs")
    tree.link("h", alias="hs")
    again = folder.look_again(look, time.time(), noticed=[str(path) for path in noticed])
    assert again.assets == whole(tree).assets
    assert again.assets[key("h")].state is AssetState.COMPLETE


@pytest.mark.parametrize("old", ["goes", "stays"])
def test_a_build_again_into_another_digest_folder(tmp_path: Path, old: str) -> None:
    tree = Tree1(tmp_path / "genomes", "digest")
    there, links = tree.asset(), tree.link()
    folder = tree.folder()
    look = folder.look(time.time())
    new = there.with_name(OTHER)
    shutil.copytree(there, new)
    for link in (links / "hg38.fa", links / "sub" / "y"):
        target = new / os.readlink(link).partition(f"{there.name}/")[2]
        link.unlink()
        link.symlink_to(os.path.relpath(target, link.parent))
    if old == "goes":
        shutil.rmtree(there)
    again = folder.look_again(look, time.time(), noticed=[str(new), *([str(there)] if old == "goes" else [])])
    assert again.assets == whole(tree).assets
    assert again.assets[key("fasta")].folder == str(new)
    assert folder.asset(key("fasta"), time.time()) == again.assets[key("fasta")]


def test_two_folders_with_one_name_do_not_make_each_look_a_whole_one(tmp_path: Path) -> None:
    tree = Tree1(tmp_path / "genomes", "digest")
    there = tree.asset("f", flags=("running",))
    tree.asset("g")
    tree.link("g")
    shutil.copytree(there, there.with_name(OTHER))
    folder = tree.folder()
    look = folder.look(time.time())
    assert look.assets[key("f")].state is AssetState.BUILDING
    assert [problem.path for problem in look.problems] == [str(there.with_name(OTHER))]
    again = folder.look_again(look, time.time())
    assert not again.full
    assert (again.assets, again.problems) == (look.assets, look.problems)
    shutil.rmtree(there)
    again = folder.look_again(again, time.time(), noticed=[str(there)])
    assert again.assets == whole(tree).assets
    assert again.assets[key("f")].folder == str(there.with_name(OTHER))


def test_an_alias_that_is_removed(tree: Tree1) -> None:
    tree.asset("g")
    for group in ("f", "g"):
        tree.link(group, alias="hs")
    folder = tree.folder()
    look = folder.look(time.time())
    assert look.genomes[GENOME].aliases == ("hg38", "hs")
    shutil.rmtree(tree.root / "alias" / "hs")
    assert folder.asset(key("f"), time.time()) == whole(tree).assets[key("f")]
    again = folder.look_again(look, time.time(), keys=[key("f")])
    assert again.assets == whole(tree).assets
    assert again.genomes == whole(tree).genomes
    assert again.genomes[GENOME].aliases == ("hg38",)


def test_builds_of_a_new_alias_are_watched(tmp_path: Path) -> None:
    tree = Tree1(tmp_path / "genomes", "builds")
    tree.asset("f")
    tree.link("f")
    folder = tree.folder()
    look = folder.look(time.time())
    (tree.root / "builds" / "new" / "g").mkdir(parents=True)
    (tree.root / "builds" / "hg38" / "empty").mkdir()
    noticed = [str(tree.root / "builds" / "new"), str(tree.root / "builds" / "hg38" / "empty")]
    again = folder.look_again(look, time.time(), noticed=noticed)
    assert not again.full
    assert again.watch == whole(tree).watch


def test_the_cost_of_one_asset_does_not_grow_with_the_aliases(tmp_path: Path) -> None:
    costs = []
    for count in (3, 60):
        tree = Tree1(tmp_path / f"genomes{count}", "builds")
        for number in range(count):
            alias, digest = f"a{number}", f"{number:032}"
            there = tree.place("f", digest=digest)
            there.mkdir(parents=True)
            (there / "x").touch()
            links = tree.root / "alias" / alias / "f" / "default"
            links.mkdir(parents=True)
            (links / "x").symlink_to(os.path.relpath(there / "x", links))
            (tree.root / "builds" / alias / "f" / "default").mkdir(parents=True)
            (tree.root / "builds" / alias / "f" / "default" / "refgenie_x_completed.flag").touch()
        folder = tree.folder()
        look = folder.look(time.time())
        one = AssetKey(f"{1:032}", "f", "default")
        assert look.assets[one].state is AssetState.COMPLETE
        with counted() as calls:
            folder.asset(one, time.time())
            folder.look_again(look, time.time(), noticed=[look.assets[one].folder])
        costs.append(calls)
    assert costs[0] == costs[1]
    assert costs[0].total() > 0


def test_names_that_are_kept_wrongly_are_found_by_a_whole_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refgenied.genomes.kept_folder.CLOCK_SECONDS", -10.0)  # at rest at once
    (tmp_path / "a").mkdir()
    kept = KeptFolder(str(tmp_path))
    names = kept.names()
    assert names == ("a",)
    with counted() as calls:
        assert kept.names() is names
    assert calls.total() <= 1, "it was not read again"
    (tmp_path / "a").rename(tmp_path / "b")
    assert kept.names() == ("b",), "its times tell"
    (tmp_path / "c").symlink_to("../d-later")
    assert kept.names() == ("b",)
    (tmp_path.parent / "d-later").mkdir()  # without a trace in the folder itself
    assert kept.names() == ("b",)
    assert kept.names(anew=True) == ("b", "c")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("notices", ["of all work", "of what is watched"])
@pytest.mark.parametrize("seed", [0, 100])
def test_a_part_is_found_as_by_a_look_at_everything(tmp_path: Path, variant: str, notices: str, seed: int) -> None:
    for number in range(seed, seed + 10):
        run(tmp_path / str(number), variant, number, watched=notices == "of what is watched")


def test_a_folder_that_was_emptied_is_watched_for_the_next_build(tree: Tree1) -> None:
    shutil.rmtree(tree.place("f"))
    shutil.rmtree(tree.root / "alias" / "hg38")
    folder = tree.folder()
    look = folder.look(time.time())
    assert not look.assets
    assert {str(tree.root / "data" / GENOME), str(tree.root / "data" / GENOME / "f")} <= set(look.watch)
    (tree.root / "data" / GENOME / "new").mkdir()
    look = folder.look_again(look, time.time(), noticed=[str(tree.root / "data" / GENOME / "new")])
    assert look.watch == whole(tree).watch


@pytest.mark.parametrize("level", ["genome", "group"])
def test_a_folder_of_a_genome_that_is_renamed_takes_its_assets_with_it(tree: Tree1, level: str) -> None:
    tree.asset("g")
    tree.link("g")
    folder = tree.folder()
    look = folder.look(time.time())
    there = Path(look.assets[key("f")].folder)
    moved = there.parent if level == "group" else there.parent.parent
    moved.rename(moved.with_name("x" * 48 if level == "genome" else "h"))
    again = folder.look_again(
        look, time.time(), noticed=[str(moved), str(moved.parent)] if level == "group" else [str(moved)]
    )
    expected = whole(tree).assets
    assert again.assets.get(key("f")) == expected.get(key("f"))
    assert again.assets.get(key("g")) == expected.get(key("g"))
    assert again.assets[key("f")].state is not AssetState.COMPLETE
