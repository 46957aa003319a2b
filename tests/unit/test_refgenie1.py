"""refgenie 1: three variants of its folders, without any YAML."""

import os
import time
from pathlib import Path

import pytest
from genome_trees import GENOME, VARIANTS, Tree1

from refgenied.genomes import alias_links
from refgenied.genomes.folder import GenomeFolder
from refgenied.genomes.registry_path import resolve
from refgenied.model import AssetKey, AssetState


@pytest.fixture(params=VARIANTS)
def tree(request, tmp_path: Path) -> Tree1:
    return Tree1(tmp_path / "genomes", request.param)


KEY = AssetKey(GENOME, "fasta", "default")


def test_complete(tree: Tree1) -> None:
    folder = tree.asset()
    tree.link()
    tree.link(alias="human")
    asset = tree.only()
    assert (asset.key, asset.state, asset.folder) == (KEY, AssetState.COMPLETE, str(folder))
    assert asset.aliases == ("hg38", "human")
    assert asset.stamp
    assert asset.asset_digest is None
    assert asset.built_at is not None
    look = tree.folder().look(time.time())
    assert look.problems == ()
    assert look.layout == "refgenie 1"
    assert look.genomes[GENOME].aliases == ("hg38", "human")
    assert resolve(look, "human/fasta") == KEY
    record = tree.folder().build_record(asset)
    assert record.commands == ("cp a b",)
    assert record.log_name == "refgenie_hg38_fasta_default_log.md"
    with tree.folder().tree(asset) as files:
        assert [m.path for m in files] == [b"", b"sub", b"sub/y", b"x.fa"]


@pytest.mark.parametrize(
    ("flags", "now", "later"),
    [
        (("failed",), "failed", "failed"),
        (("completed", "failed"), "failed", "failed"),
        (("running",), "building", "interrupted"),
        (("completed", "running"), "building", "interrupted"),
        (("completed", "waiting"), "building", "interrupted"),
        (("completed", "lock.hg38_fasta__default.flag"), "building", "interrupted"),
        (("completed", "recover.x"), "building", "interrupted"),
        (("partial",), "building", "interrupted"),
    ],
)
def test_flags_that_speak_against_it(tree: Tree1, flags, now, later) -> None:
    tree.asset(flags=flags)
    tree.link()
    assert tree.only().state == now
    assert tree.only().stamp == ""
    assert tree.only(later=1900.0).state == later
    build = str(tree.build())
    assert (build in tree.folder().look(time.time()).watch) is (now == "building")


def test_the_first_build_of_a_genome(tree: Tree1) -> None:
    tree.asset(flags=("running",))
    assert (tree.only().key, tree.only().state) == (KEY, AssetState.BUILDING)
    assert str(tree.build()) in tree.folder().look(time.time()).watch
    tree.flags("fasta", "default", "failed")
    assert tree.only().state is AssetState.FAILED


def test_the_links_come_last(tree: Tree1) -> None:
    tree.asset("gtf")  # makes the genome's alias known
    if tree.variant == "digest":
        tree.place("gtf").rename(tree.place("gtf").with_name("default"))
    alias = tree.root / "alias" / "hg38" / "gtf" / "default"
    alias.mkdir(parents=True)
    (alias / "x").symlink_to(tree.root / "data" / GENOME / "gtf" / "default" / "x.fa")
    tree.asset()
    assets = tree.folder().look(time.time()).assets
    assert assets[AssetKey(GENOME, "gtf", "default")].state is AssetState.COMPLETE
    assert assets[KEY].state is AssetState.BUILDING
    assert "no links" in assets[KEY].reason
    assets = tree.folder().look(time.time() + 1900).assets
    assert assets[KEY].state is AssetState.UNREGISTERED
    tree.link()
    assert tree.folder().asset(KEY, time.time()).state is AssetState.COMPLETE


def test_links_that_lead_elsewhere_or_nowhere(tree: Tree1) -> None:
    tree.asset()
    links = tree.link()
    (links / "gone").symlink_to("../../../../data/x")
    assert tree.only().state is AssetState.BUILDING
    assert "gone leads nowhere" in tree.only(later=1900.0).reason
    (links / "gone").unlink()
    other = tree.root / "data" / GENOME / "fasta" / "other"
    other.mkdir()
    (other / "z").touch()
    (links / "z").symlink_to(os.path.relpath(other / "z", links))
    assets = tree.folder().look(time.time()).assets
    assert AssetState.COMPLETE not in {asset.state for asset in assets.values()}


def test_pulled(tree: Tree1) -> None:
    tree.asset(flags=())
    assert tree.only().state is AssetState.BUILDING
    assert tree.only(later=1900.0).state is AssetState.INTERRUPTED
    tree.link()
    assert tree.only().state is AssetState.PULLED
    assert tree.only().stamp
    assert tree.only().built_at is None


def test_the_alias_folder_may_be_one_link(tree: Tree1) -> None:
    folder = tree.asset()
    alias = tree.root / "alias" / "hg38" / "fasta" / "default"
    alias.parent.mkdir(parents=True)
    alias.symlink_to(os.path.relpath(folder, alias.parent))
    assert tree.only().state is AssetState.COMPLETE


def test_links_without_end_are_left_out(tree: Tree1, monkeypatch) -> None:
    monkeypatch.setattr(alias_links, "MAX_LINKS_IN_ALIAS", 50)
    tree.asset()
    for number in range(60):
        (tree.root / "alias/hg38/fasta/default").mkdir(parents=True, exist_ok=True)
        (tree.root / f"alias/hg38/fasta/default/{number}").symlink_to("nowhere")
    look = GenomeFolder(str(tree.root), config=None).look(time.time())
    assert AssetState.COMPLETE not in {asset.state for asset in look.assets.values()}
    assert any("holds more than 50 links" in problem.message for problem in look.problems), look.problems


@pytest.mark.parametrize("level", ["alias", "alias/hg38", "alias/hg38/fasta"])
def test_links_in_place_of_the_alias_folders_are_not_followed_out(tree: Tree1, level: str) -> None:
    tree.asset()
    (tree.root / level).parent.mkdir(parents=True, exist_ok=True)
    (tree.root / level).symlink_to("/proc")  # whose folders lead into one another without end
    look = GenomeFolder(str(tree.root), config=None).look(time.time())
    assert look.assets[KEY].state is not AssetState.COMPLETE
    assert [problem.path for problem in look.problems] == [str(tree.root / level)]


def test_absolute_links_and_a_genome_folder_behind_a_link(tree: Tree1, tmp_path: Path) -> None:
    folder = tree.asset()
    alias = tree.root / "alias" / "hg38" / "fasta" / "default"
    alias.mkdir(parents=True)
    (alias / "hg38.fa").symlink_to(folder / "x.fa")
    (tmp_path / "configured").symlink_to(tree.root)
    asset = GenomeFolder(str(tmp_path / "configured"), config=None).asset(KEY, time.time())
    assert asset is not None
    assert asset.state is AssetState.COMPLETE
    assert asset.folder.startswith(str(tmp_path / "configured"))


def test_data_that_is_gone(tree: Tree1) -> None:
    tree.asset()
    tree.link()
    for path in sorted((tree.root / "data").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for path in sorted((tree.root / "builds").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    asset = tree.only()
    assert (asset.key, asset.state) == (KEY, AssetState.MISSING)


@pytest.mark.parametrize("variant", ["inside", "builds"])
def test_default_assets(tmp_path: Path, variant: str) -> None:
    tree = Tree1(tmp_path / "genomes", variant)
    for asset in ("default", "v2"):
        tree.asset("fasta", asset)
        tree.link("fasta", asset)
    tree.asset("gtf", "v9")
    tree.link("gtf", "v9")
    for asset in ("a", "b"):
        tree.asset("star", asset)
        tree.link("star", asset)
    look = tree.folder().look(time.time())
    assert look.genomes[GENOME].default_assets == {"fasta": "default", "gtf": "v9"}


def test_what_is_watched(tree: Tree1) -> None:
    tree.asset()
    tree.link()
    watch = {str(Path(path).relative_to(tree.root)) for path in tree.folder().look(time.time()).watch}
    expected = {"data", f"data/{GENOME}", f"data/{GENOME}/fasta"}
    if tree.variant != "inside":
        expected |= {"builds", "builds/hg38", "builds/hg38/fasta"}
    assert watch == expected


def test_a_digest_folder_being_built_takes_the_name_of_its_build(tmp_path: Path) -> None:
    tree = Tree1(tmp_path / "genomes", "digest")
    tree.asset("gtf", "default")
    tree.link("gtf", "default")
    tree.asset("fasta", "v3", flags=("running",))
    asset = tree.folder().look(time.time()).assets[AssetKey(GENOME, "fasta", "v3")]
    assert asset.state is AssetState.BUILDING


def test_an_older_build_under_another_digest_stays_apart(tmp_path: Path) -> None:
    tree = Tree1(tmp_path / "genomes", "digest")
    tree.asset()
    tree.link()
    older = tree.place().with_name("d4" * 32)
    older.mkdir()
    (older / "x.fa").touch()
    look = tree.folder().look(time.time() + 1900)
    assert look.assets[KEY].folder == str(tree.place())
    assert look.assets[AssetKey(GENOME, "fasta", "d4" * 32)].state is AssetState.INTERRUPTED


def test_other_things_in_the_folder_are_left_alone(tree: Tree1) -> None:
    tree.asset()
    tree.link()
    (tree.root / "data" / "lost+found").mkdir()
    (tree.root / "data" / "short" / "a" / "b").mkdir(parents=True)
    (tree.root / "data" / GENOME / "fasta" / "bad\nname").mkdir()
    (tree.root / "alias" / "hg38" / "notes.txt").touch()
    look = tree.folder().look(time.time())
    assert set(look.assets) == {KEY}
    assert len(look.problems) == 1
    assert "\n" not in look.problems[0].path + look.problems[0].message


def test_an_empty_folder_and_a_config_that_appears(tmp_path: Path) -> None:
    folder = GenomeFolder(str(tmp_path), config=None)
    look = folder.look(time.time())
    assert (look.ok, look.assets, len(look.problems)) == (True, {}, 1)
    assert "is empty" in look.problems[0].message, "as it is when its disk is not mounted"
    (tmp_path / "genome_config.yaml").write_text("genomes: {}\n")
    assert folder.look(time.time()).layout.startswith("refgenie 0.13")
    (tmp_path / "genome_config.yaml").unlink()
    assert folder.look(time.time()).problems


def test_a_genome_has_no_more_aliases_than_a_listing_can_hold(tmp_path: Path) -> None:
    tree = Tree1(tmp_path / "genomes", "builds")
    tree.asset()
    for number in range(1005):
        tree.link(alias=f"a{number:04}")
    look = tree.folder().look(time.time())
    (asset,) = look.assets.values()
    assert asset.aliases == tuple(f"a{number:04}" for number in range(1000))
    assert [problem.message for problem in look.problems] == [
        f"has too many aliases of {GENOME}: 5 of them are left out"
    ]
