"""refgenie's config as other people may leave it: odd, huge, older, cut, a link, or no file at all."""

import os
import time
import warnings
from pathlib import Path

import pytest
import yaml
from genome_trees import DIGEST, LONG_AGO, Tree013, key
from hypothesis import given, settings
from hypothesis import strategies as st

from refgenied.genomes import build_folder, config_reader, genome_config
from refgenied.genomes.yaml_limits import MAX_BYTES
from refgenied.model import AssetState


def test_one_odd_value_never_takes_the_whole_config(tree: Tree013) -> None:
    tree.asset()
    tree.entry()
    whole = yaml.safe_load(tree.text())
    whole["genomes"][DIGEST]["assets"]["odd"] = "HERE"
    text = yaml.safe_dump(whole).encode()
    inside = b"""
        tags:
          a: {asset_path: 2020-13-45, seek_keys: {a: 1}}
          ? [1, 2]
          : {}
          c: !shop {asset_digest: x}
          d: *nothing
          e: {asset_path: []}
          2.50: {asset_path: odd, seek_keys: {a: 2024-01-01, b: .5}}"""
    tree.write(text.replace(b" HERE", inside))
    look = tree.folder().look(time.time())
    assert look.assets[key()].state is AssetState.COMPLETE
    assert {k.asset for k in look.assets if k.asset_group == "odd"} == {"a", "2.5"}
    assert look.assets[key("odd", "2.5")].seek_keys == {"a": "2024-01-01", "b": "0.5"}
    told = " ".join(problem.message for problem in look.problems)
    for words in ("2020-13-45", "where a name should", "!shop", "*nothing", "e.asset_path should be a path"):
        assert words in told, told


NAMES = ["fasta", "2.50", "1e3", "010", "0x1f", "yes", "v1.0", "1_0", "a b", "ACGT", "'2.50'", '"yes"', "1:30"]
names = st.sampled_from(NAMES)
texts = names | st.sampled_from(["~", "[]", "other/place", ".", "''"])
entries = st.fixed_dictionaries(
    {"asset_path": names, "seek_keys": st.dictionaries(names, names, max_size=2)},
    optional={"asset_digest": texts, "asset_parents": st.lists(names, max_size=2)},
)
groups = st.fixed_dictionaries(
    {"tags": st.dictionaries(names, entries, min_size=1, max_size=3)}, optional={"default_tag": names}
)


def as_people_write(value: object, depth: int = 0) -> str:
    """YAML without quotes, but for those that the words themselves have."""
    if isinstance(value, dict):
        rows = (f"{'  ' * depth}{name}: {as_people_write(below, depth + 1)}" for name, below in value.items())
        return "\n" + "\n".join(rows) if value else "{}"
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, groups, max_size=3), st.lists(names, max_size=2))
def test_any_config_has_the_assets_that_refgenconf_finds_in_it(assets: dict, aliases: list[str]) -> None:
    refgenconf = pytest.importorskip("refgenconf")
    yacman = pytest.importorskip("yacman")
    body = {"genomes": {DIGEST: {"aliases": aliases, "assets": assets}}, "config_version": 0.4}
    text = as_people_write(body) + "\n"
    theirs = refgenconf.RefGenConf(entries=yaml.load(text, yacman.yacman.YacmanLoader))  # noqa: S506 - a safe loader
    found = theirs["genomes"][DIGEST]["assets"] or {}
    ours = genome_config.parse_config(text.encode(), "c.yaml")
    tags = [(str(group), str(tag)) for group, below in found.items() for tag in below["tags"]]
    assert [(k.asset_group, k.asset) for k in ours.entries] == tags
    for entry_key, entry in ours.entries.items():
        there = next(
            tag
            for group, below in found.items()
            for name, tag in below["tags"].items()
            if (str(group), str(name)) == (entry_key.asset_group, entry_key.asset)
        )
        assert entry.asset_path == str(there["asset_path"])
        assert entry.seek_keys == {str(name): str(target) for name, target in there["seek_keys"].items()}
    with warnings.catch_warnings(action="ignore"):  # refgenconf warns of the tag that it takes when none is named
        defaults = {str(group): str(theirs.get_default_tag(DIGEST, group)) for group in found}
    assert ours.genomes[DIGEST].default_assets == defaults
    assert list(ours.genomes[DIGEST].aliases) == list(dict.fromkeys(map(str, theirs["genomes"][DIGEST]["aliases"])))


def test_too_much_of_anything_is_left_out_and_told(tree: Tree013, monkeypatch) -> None:
    tree.asset()
    tree.entry()
    tree.genomes[DIGEST]["aliases"] = ["hg38", "a/b", *(f"alias{n}" for n in range(3000))]
    tree.entry("many", seek_keys={f"key{n:060}": "x" for n in range(2500)})
    for number in range(200):
        tree.entry("wrong", f"a{number}", asset_path=["what"])
    tree.write()
    look = tree.folder().look(time.time())
    assert look.assets[key()].state is AssetState.COMPLETE
    assert key("many") not in look.assets
    assert len(look.genomes[DIGEST].aliases) == 1000
    assert look.genomes[DIGEST].aliases[0] == "hg38"
    assert len(look.problems) == 101
    told = " ".join(problem.message for problem in look.problems)
    for words in ("'a/b'", "2001 of them are left out", "is left out: it has more than", "and 103 more"):
        assert words in told, told
    monkeypatch.setattr(genome_config, "MAX_ASSETS", 1)
    tree.config.touch()
    assert "names 201 more genomes and assets than 1" in " ".join(p.message for p in tree.folder().look(1.0).problems)


def test_a_config_of_an_older_refgenie_is_named(tree: Tree013) -> None:
    tree.write(b"config_version: 0.3\ngenomes: {hg38: {assets: {fasta: {tags: {default: {asset_path: fasta}}}}}}\n")
    look = tree.folder().look(time.time())
    assert look.assets == {}
    assert "config_version 0.3 is of an older refgenie" in look.problems[0].message
    assert "refgenie upgrade" in look.problems[0].message


def test_an_alias_that_is_the_digest_of_another_genome_never_hides_it(tree: Tree013) -> None:
    other = "0" * 48
    tree.asset()
    tree.entry()
    tree.genomes[DIGEST]["aliases"] = ["hg38", other]
    tree.genomes[other] = {"aliases": ["mm10"], "assets": {}}
    tree.write()
    look = tree.folder().look(time.time())
    assert look.genomes[DIGEST].aliases == ("hg38",)
    assert "the digest of a genome itself" in look.problems[0].message


def test_an_alias_of_two_genomes_means_the_one_that_refgenie_takes_it_for(tree: Tree013) -> None:
    refgenconf = pytest.importorskip("refgenconf")
    other = "f" * 48
    tree.asset()
    tree.entry()
    tree.genomes[other] = {"aliases": ["mm10", "hg38"], "assets": {}}
    tree.write()
    look = tree.folder().look(time.time())
    assert refgenconf.RefGenConf.from_yaml_file(str(tree.config)).get_genome_alias_digest("hg38") == other
    assert (look.genomes[DIGEST].aliases, look.genomes[other].aliases) == ((), ("mm10", "hg38"))
    assert f"has 'hg38', which refgenie takes for the genome {other}" in look.problems[0].message


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/tty"), lambda path: path.mkdir(),
                                  lambda path: path.symlink_to(path), lambda path: path.symlink_to("/dev/zero")],
                         ids=["fifo", "tty", "folder", "circle", "endless"])  # fmt: skip
def test_whatever_stands_for_the_config_holds_nobody_up(tree: Tree013, monkeypatch, make) -> None:
    monkeypatch.setattr(config_reader, "LONGEST_READ_SECONDS", 0.01)
    tree.asset()
    make(tree.config)
    look = tree.folder().look(time.time())
    assert look.assets[key()].state is AssetState.UNREGISTERED
    assert "config cannot be read" in look.problems[0].message


def test_a_config_that_is_too_large_is_told_once_read_never(tree: Tree013, monkeypatch) -> None:
    tree.asset()
    with tree.config.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    os.utime(tree.config, (LONG_AGO, LONG_AGO))
    folder = tree.folder()
    assert f"it is too large ({MAX_BYTES + 1} bytes, at most {MAX_BYTES})" in folder.look(1.0).problems[0].message
    opened = []
    monkeypatch.setattr(config_reader, "open_regular", opened.append)
    assert "too large" in folder.look(1.0).problems[0].message
    assert opened == []  # what is at rest and no good is not read at each look


@pytest.mark.parametrize("end", [b"genome_servers: http://one", b"# the end", b"mine: 'x'", b"more: {a: b}"])
def test_a_last_line_that_is_none_of_an_assets_casts_no_doubt(tree: Tree013, end: bytes) -> None:
    tree.asset()
    tree.entry()
    tree.write(tree.text() + end)
    look = tree.folder().look(time.time())
    assert look.assets[key()].state is AssetState.COMPLETE
    assert look.problems == ()
    tree.write(tree.text().removesuffix(b"\n"))
    assert tree.folder().look(time.time()).assets[key()].state is AssetState.UNREGISTERED


def test_a_config_that_is_a_link_is_watched_where_it_leads(tree: Tree013, tmp_path: Path) -> None:
    tree.asset()
    tree.entry()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "two/real.yaml").write_bytes(tree.text())
    (tmp_path / "one/link.yaml").symlink_to("../two/real.yaml")
    tree.config.symlink_to(tmp_path / "one/link.yaml")
    look = tree.folder().look(time.time())
    assert look.assets[key()].state is AssetState.COMPLETE
    assert look.watch == (str(tree.root), str(tmp_path / "one"), str(tmp_path / "two"))


def test_a_build_folder_full_of_names_makes_one_asset_unreadable(tree: Tree013, monkeypatch) -> None:
    monkeypatch.setattr(build_folder, "MAX_BUILD_NAMES", 20)
    tree.asset("bwa")
    build = tree.asset() / "_refgenie_build"
    for number in range(30):
        (build / f"{number}_failed.flag").touch()
    tree.entry()
    tree.entry("bwa")
    tree.write()
    assets = tree.folder().look(time.time()).assets
    assert assets[key("bwa")].state is AssetState.COMPLETE
    assert assets[key()].state is AssetState.UNREADABLE, assets[key()].reason
    assert "more than 20 names" in assets[key()].reason
