"""The derived `genome_config.yaml`: what is ours in it, what stays, and that refgenie reads it as meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from refgenied.catalog.entry import ServedEntry, human_size
from refgenied.catalog.faults import MOST_LINES
from refgenied.catalog.parted import Parted
from refgenied.catalog.parts import Head
from refgenied.catalog.server_config import UnreadableConfigError, parse_server_config, why_not_served
from refgenied.catalog.sound import Sound
from refgenied.model import AssetKey, Genome

D = "d1" * 24
E = "e2" * 24
HEAD = Head("/genomes", "/archives", {})


def entry(asset: str = "default", group: str = "fasta", genome: str = D, **fields: Any) -> ServedEntry:
    values: dict[str, Any] = {
        "key": AssetKey(genome, group, asset),
        "description": "sequences",
        "archive_digest": "a" * 32,
        "archive_size": 9_000_000,
        "asset_digest": "b" * 32,
        "asset_size": 123,
        "seek_keys": {"fasta": "x.fa"},
        "parents": (),
        "children": (f"{D}/bwa_index:default",),
    }
    return ServedEntry(**(values | fields))


def written(
    *entries: ServedEntry,
    genomes: Iterable[Genome] = (),
    existing: dict[str, Any] | None = None,
    head: Head = HEAD,
    stays: bool = False,
) -> bytes:
    """The text of a config with these entries, made where there is an existing one."""
    content = Parted()
    content.take_in(existing or {})
    for one in entries:
        content.put(one, 1, paged=True)
    for key in content.keys() - {one.key for one in entries}:
        if stays:
            content.stay(key)
        else:
            content.drop(key)
    for one in genomes:
        content.name(one)
    content.settle(head)
    return content.joined()


def made(
    *entries: ServedEntry, existing: dict[str, Any] | None = None, head: Head = HEAD, stays: bool = False, **genome: Any
) -> dict[str, Any]:
    genomes = [Genome(D, **({"aliases": ("hg38", "human")} | genome))]
    return yaml.safe_load(written(*entries, genomes=genomes, existing=existing, head=head, stays=stays))


def test_every_key_that_server_and_client_want() -> None:
    tree = made(entry(), description="the human genome")
    assert (tree["config_version"], tree["genome_folder"], tree["genome_archive_folder"]) == (
        0.4,
        "/genomes",
        "/archives",
    )
    genome = tree["genomes"][D]
    assert (genome["aliases"], genome["genome_description"]) == (["hg38", "human"], "the human genome")
    assert genome["assets"]["fasta"]["asset_description"] == "sequences"
    assert genome["assets"]["fasta"]["default_tag"] == "default"
    assert genome["assets"]["fasta"]["tags"]["default"] == {
        "asset_path": "fasta",
        "asset_digest": "b" * 32,
        "archive_digest": "a" * 32,
        "asset_size": "123.00 B",
        "archive_size": "8.58 MB",
        "seek_keys": {"fasta": "x.fa"},
        "asset_parents": [],
        "asset_children": [f"{D}/bwa_index:default"],
    }


@pytest.mark.parametrize("tag", ["2.5", "1e3", "on", "no", "null", "2024-01-01", "1_000", "0x1f", "0o17", "12:30", "~"])
def test_a_tag_that_looks_like_something_else_stays_a_text(tag: str) -> None:
    tree = made(entry(tag), default_assets={"fasta": tag})
    assert tree["genomes"][D]["assets"]["fasta"]["default_tag"] == tag
    assert list(tree["genomes"][D]["assets"]["fasta"]["tags"]) == [tag]
    yacman = pytest.importorskip("yacman")
    text = written(entry(tag)).decode()
    read = yacman.YAMLConfigManager.from_yaml_data(text)
    assert list(read["genomes"][D]["assets"]["fasta"]["tags"]) == [tag]


@given(st.integers(min_value=0, max_value=2**70))
def test_sizes_are_written_as_refgenie_writes_them(size: int) -> None:
    ubiquerg = pytest.importorskip("ubiquerg")
    assert human_size(size) == ubiquerg.filesize_to_str(size)


def test_the_default_asset_is_one_that_is_there() -> None:
    both = (entry("v1"), entry("v2"))
    assert made(*both, default_assets={"fasta": "v2"})["genomes"][D]["assets"]["fasta"]["default_tag"] == "v2"
    assert made(*both, default_assets={"fasta": "v3"})["genomes"][D]["assets"]["fasta"]["default_tag"] == "v1"


def test_what_a_person_wrote_stays() -> None:
    tree = made(entry(), description="ours")
    tree["remotes"] = {"http": {"prefix": "https://x"}}
    tree["genome_servers"] = ["https://y"]
    genome = tree["genomes"][D]
    genome["genome_description"] = "theirs"
    genome["contact"] = "ann"
    genome["assets"]["fasta"]["asset_description"] = "their sequences"
    genome["assets"]["fasta"]["tags"]["default"]["tag_description"] = "soft-masked"
    genome["assets"]["fasta"]["tags"]["default"]["archive_digest"] = "not theirs to say"
    again = made(entry(), existing=tree, description="ours, changed")
    assert again["remotes"] == {"http": {"prefix": "https://x"}}
    assert again["genome_servers"] == ["https://y"]
    genome = again["genomes"][D]
    assert (genome["genome_description"], genome["contact"]) == ("theirs", "ann")
    assert genome["assets"]["fasta"]["asset_description"] == "their sequences"
    assert genome["assets"]["fasta"]["tags"]["default"]["tag_description"] == "soft-masked"
    assert genome["assets"]["fasta"]["tags"]["default"]["archive_digest"] == "a" * 32


def test_a_description_of_ours_follows_refgenie() -> None:
    first = made(entry(), description="one")
    second = made(entry(description="new"), existing=first, description="two")
    assert second["genomes"][D]["genome_description"] == "two"
    assert second["genomes"][D]["assets"]["fasta"]["asset_description"] == "new"


def test_remotes_of_the_configuration_come_and_go() -> None:
    head = Head("/genomes", "/archives", {"http": "https://x/archives/"})
    there = made(entry(), head=head)
    assert there["remotes"] == {"http": {"prefix": "https://x/archives"}}
    assert "remotes" not in made(entry(), existing=there)


def test_what_is_not_archived_any_more_goes_and_what_another_program_archived_stays() -> None:
    before = made(entry(), entry("v2"), entry("other", "star"))
    after = made(entry(), existing=before)
    assert list(after["genomes"][D]["assets"]) == ["fasta"]
    assert list(after["genomes"][D]["assets"]["fasta"]["tags"]) == ["default"]
    kept = made(entry(), existing=before, stays=True)
    assert kept["genomes"][D]["assets"]["star"] == before["genomes"][D]["assets"]["star"]
    assert made(existing=before)["genomes"] == {}


def test_a_foreign_group_that_yaml_takes_for_a_number_stays() -> None:
    foreign = {"genomes": {D: {"assets": {1000: {"tags": {2.5: {"archive_digest": "x", "archive_size": 5}}}}}}}
    tree = made(existing=foreign, stays=True)
    (tag,) = tree["genomes"][D]["assets"]["1000"]["tags"].items()
    assert (tag[0], tag[1]["archive_digest"]) == ("2.5", "x")


def test_an_alias_belongs_to_one_genome() -> None:
    tree = yaml.safe_load(written(entry(), entry(genome=E), genomes=[Genome(D, ("x", "y")), Genome(E, ("y", "z"))]))
    assert [genome["aliases"] for genome in tree["genomes"].values()] == [["x", "y"], ["z"]]


def test_the_same_content_is_the_same_bytes() -> None:
    text = written(entry("b"), entry("a"))
    assert written(entry("a"), entry("b"), existing=parse_server_config(text)[0]) == text
    assert b"&id" not in text


def test_what_is_no_config_is_said_to_be_none() -> None:
    for text in (b"a: [", b"- a list", b"\xff\xfe\x00"):
        with pytest.raises(UnreadableConfigError):
            parse_server_config(text)
    assert parse_server_config(b"") == ({}, "")
    assert parse_server_config(b"a: 1\nb: !x 2\n") == ({"a": 1}, "line 2: '2' has the unknown tag '!x': it is left out")


def test_which_names_the_server_cannot_serve() -> None:
    assert not why_not_served(AssetKey(D, "fasta", "default"))
    assert "32-character" in why_not_served(AssetKey("Q" * 32, "fasta", "default"))
    assert "space" in why_not_served(AssetKey(D, "fasta", "my tag"))


# --------------------------------------------------------------------- what a server can take

TAG = {
    "asset_path": "fasta",
    "asset_digest": "b" * 32,
    "archive_digest": "a" * 32,
    "asset_size": "1.00 B",
    "archive_size": "1.00 B",
    "seek_keys": {"fasta": "x.fa"},
    "asset_parents": [],
    "asset_children": [],
}


def genome(alias: str, **fields: Any) -> dict[str, Any]:
    group = {"asset_description": "", "default_tag": "default", "tags": {"default": dict(TAG)}}
    return {"aliases": [alias], "genome_description": "", "assets": {"fasta": group}} | fields


def sound(**genomes: dict[str, Any]) -> Sound:
    return Sound({"config_version": 0.4, "genomes": genomes})


def test_a_config_that_is_sound_stays_as_it_is() -> None:
    tree = {"config_version": 0.4, "mine": [1], "genomes": {D: genome("hg38", mine=2)}}
    assert Sound(tree).tree == tree
    assert list(Sound(tree).tree["genomes"][D]) == list(tree["genomes"][D])
    assert Sound(tree).lines == ()


def test_a_genome_without_an_alias_of_its_own_is_called_by_its_digest() -> None:
    found = sound(**{D: genome("hg38"), E: genome("hg38")})
    assert found.tree["genomes"][E]["aliases"] == [E]
    assert found.lines == (
        f"genome {E}: its alias hg38 belongs to another genome already",
        f"genome {E}: it has no alias of its own, and is called by its digest",
    )
    assert sound(**{D: genome("hg38", aliases=[]), E: genome(D)}).tree["genomes"][E]["aliases"] == [E]


@pytest.mark.parametrize(
    ("field", "odd", "there"),
    [
        ("asset_parents", None, []),
        ("asset_parents", ["", 5, "::", f"{D}/fasta:default"], [f"{D}/fasta:default"]),
        ("seek_keys", {"a": None, "b": 2.5}, {"b": "2.5"}),
        ("asset_digest", None, ""),
        ("asset_size", 5, "5"),
    ],
)
def test_a_value_that_would_break_a_page_is_mended(field: str, odd: object, there: object) -> None:
    group = {"default_tag": "default", "tags": {"default": TAG | {field: odd}}}
    found = sound(**{D: genome("hg38", assets={"fasta": group})})
    assert found.tree["genomes"][D]["assets"]["fasta"]["tags"]["default"] == TAG | {field: there}
    assert found.lines == ("entries with values that refgenieserver cannot show are mended (1)",)


@pytest.mark.parametrize(
    "odd", [None, [], {"assets": None}, {"assets": {"fasta": None}}, {"assets": {"fasta": {"tags": {"default": None}}}}]
)
def test_what_cannot_be_served_is_left_out(odd: Any) -> None:
    assert list(sound(**{D: odd, E: genome("mm10")}).tree["genomes"]) == [E]


def test_lines_are_few() -> None:
    found = sound(**{f"{number:048}": genome("x") for number in range(100)})
    assert len(found.lines) == MOST_LINES + 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=20,
    )
)
def test_whatever_stands_there_a_sound_config_comes_of_it(value: Any) -> None:
    for config in (
        {"genomes": value},
        {"genomes": {D: value}, "remotes": value, "genome_servers": value},
        {"genomes": {D: genome("x", assets={"fasta": value}, genome_description=value, aliases=value)}},
        {"genomes": {D: genome("x", assets={"fasta": {"tags": {"default": dict.fromkeys(TAG, value)}}})}},
    ):
        once = Sound(config).tree
        assert Sound(once).tree == once
