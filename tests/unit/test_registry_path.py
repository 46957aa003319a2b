"""Registry paths as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgenied.genomes.registry_path import RegistryPath, check_pattern, matches, parse, resolve
from refgenied.model import (
    Asset,
    AssetKey,
    AssetNotFoundError,
    AssetState,
    BadRegistryPathError,
    Genome,
    Look,
)

HG38 = "2230c535660fb4774114bfa966a62f823fdb6d21acf138d4"
MM10 = "0f10d83b1050c08dd53189986f60970b92a315aa7a16a6f1"


def an_asset(digest: str, group: str, asset: str, *aliases: str) -> Asset:
    return Asset(AssetKey(digest, group, asset), AssetState.COMPLETE, "", "/", aliases)


def a_look(*assets: Asset, genomes: list[Genome] | None = None) -> Look:
    known = genomes or [
        Genome(HG38, ("hg38", "human"), default_assets={"fasta": "default", "gone": "was"}),
        Genome(MM10),
    ]
    return Look({a.key: a for a in assets}, {g.digest: g for g in known}, (), "", (1, 1), ())


LOOK = a_look(
    an_asset(HG38, "fasta", "default"),
    an_asset(HG38, "fasta", "2.5"),
    an_asset(HG38, "gtf", "v1"),
    an_asset(HG38, "star", "a"),
    an_asset(HG38, "star", "b"),
    an_asset(HG38, "gone", "is"),
    an_asset(MM10, "fasta", "default"),
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hg38/fasta", ("hg38", "fasta", None)),
        ("hg38/fasta:default", ("hg38", "fasta", "default")),
        (" hg38/fasta:2.5 \n", ("hg38", "fasta", "2.5")),
        (f"{HG38}/bwa-index:a+b", (HG38, "bwa-index", "a+b")),
    ],
)
def test_parse(text, parts) -> None:
    assert parse(text) == RegistryPath(*parts)


@pytest.mark.parametrize(
    "text",
    ["", "hg38", "/", "hg38/", "/fasta", "hg38/fasta:", "hg38/a/b", "hg38/fasta:a:b", "../x", "a/..:b",
     "a/b:.", "a /b", "a/ b", "a/b :c", "a/b: c", "a/b\n:c", "a/" + "b" * 300, "hg38:fasta", "a/b:\udcff"],
)  # fmt: skip
def test_not_a_registry_path(text) -> None:
    with pytest.raises(BadRegistryPathError) as caught:
        parse(text)
    assert "hg38/fasta:default" in caught.value.hint
    assert caught.value.message.isprintable()


@given(st.text())
def test_any_text_parses_or_is_refused(text) -> None:
    try:
        path = parse(text)
    except BadRegistryPathError:
        return
    assert "/" not in path.asset_group
    assert path.genome not in {"", ".", ".."}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("hg38/fasta", AssetKey(HG38, "fasta", "default")),
        ("human/fasta:2.5", AssetKey(HG38, "fasta", "2.5")),
        (f"{HG38}/fasta:default", AssetKey(HG38, "fasta", "default")),
        ("hg38/gtf", AssetKey(HG38, "gtf", "v1")),
        (f"{MM10}/fasta", AssetKey(MM10, "fasta", "default")),
    ],
)
def test_resolve(text, key) -> None:
    assert resolve(LOOK, text) == key


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("hg39/fasta", "no genome 'hg39'", f"known genomes: hg38, {MM10}, human"),
        ("hg38/fastaa", "no asset group 'fastaa'", "its asset groups: fasta, "),
        ("hg38/fasta:3", "no asset '3'", "assets of this group: 2.5, default"),
        ("hg38/star", "no default asset", "name one of its assets: a, b"),
        ("hg38/gone", "no asset 'was'", "assets of this group: is"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(text, says, hint) -> None:
    with pytest.raises(AssetNotFoundError, match=says) as caught:
        resolve(LOOK, text)
    assert caught.value.hint.startswith(hint)


def test_a_seek_key_is_told_apart() -> None:
    with pytest.raises(BadRegistryPathError, match="seek key 'fai'") as caught:
        resolve(LOOK, "hg38/fasta.fai:default")
    assert caught.value.hint == "write hg38/fasta:default"


def test_an_alias_of_two_genomes_and_an_empty_folder() -> None:
    both = [Genome(HG38, ("g",)), Genome(MM10, ("g",))]
    with pytest.raises(BadRegistryPathError, match="belongs to 2 genomes"):
        resolve(a_look(an_asset(HG38, "fasta", "x"), genomes=both), "g/fasta")
    with pytest.raises(AssetNotFoundError) as caught:
        resolve(Look({}, {}, (), "", (1, 1), ()), "hg38/fasta")
    assert caught.value.hint == "known genomes: none yet"


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("hg38/*", True),
        ("*/fasta", True),
        ("*/fasta:default", True),
        ("*/fasta:d*", True),
        (f"{HG38}/fasta:default", True),
        ("human/fast?", True),
        ("*/*:*", True),
        ("mm10/*", False),
        ("*/fasta:2.5", False),
        ("*/bwa*", False),
        ("HG38/fasta", False),
    ],
)
def test_patterns(pattern, covered) -> None:
    check_pattern(pattern)
    assert matches(pattern, an_asset(HG38, "fasta", "default", "hg38", "human")) is covered


@pytest.mark.parametrize("pattern", ["", "*", "hg38", "hg38/", "/x", "a/b/c", "hg38/ fasta", "hg38/fasta:"])
def test_patterns_that_match_nothing_are_refused(pattern) -> None:
    with pytest.raises(BadRegistryPathError, match="not a pattern"):
        check_pattern(pattern)
