"""The config in parts: byte for byte what PyYAML makes of the whole, whatever the names, and whatever came before."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from refgenied.catalog.entry import ServedEntry
from refgenied.catalog.parted import Parted
from refgenied.catalog.parts import Head
from refgenied.catalog.rendering import opened, render_config, rendered
from refgenied.catalog.server_config import parse_server_config
from refgenied.catalog.sound import Sound
from refgenied.model import AssetKey, Genome

ODD = [
    *(
        "",
        " ",
        "~",
        "null",
        "yes",
        "on",
        "12",
        "1.5",
        "0x1f",
        "0b01",
        "1:30",
        "2024-01-01",
        "1e3",
        "1.e+3",
        "1_000",
        "=",
        "<<",
    ),
    *(
        "a b",
        "a: b",
        "a:b",
        "a:",
        "#a",
        "a #b",
        "- a",
        "-",
        "...",
        "---",
        "...a",
        "%a",
        "@a",
        "`a",
        "*a",
        "&a",
        "!a",
        "?",
        "? a",
    ),
    *(
        "a\nb",
        "a\n",
        "\n",
        "a\n\nb",
        "\ta",
        " a",
        "a ",
        "a\rb",
        "é",
        "日本語" * 50,
        "\u2028",
        "\x85",
        "\x07",
        "'a'",
        '"a"',
        "[a]",
    ),
    *(
        "b" * 32,
        "1" * 32,
        "d1" * 24 + "/bwa_index:default",
        "9.00 MB",
        "(a)",
        "a (b)",
        "a, b",
        "x" * 100,
        "x" * 101,
        "x" * 129,
    ),
]
TEXTS = (
    st.sampled_from(ODD) | st.text(st.characters(codec="utf-8"), max_size=6) | st.text("ab1 :#-_/.+e0x\n'", max_size=8)
)
SCALARS = TEXTS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


@settings(deadline=None)
@given(TEXTS, TEXTS, st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3), VALUES)
def test_joined_parts_are_the_whole(name: str, text: str, parts: dict[str, Any], more: Any) -> None:
    body = {"text": text, "parts": parts, "more": more}
    pieces = [b"top:\n  in:\n", opened({name: {"text": text, "parts": {}}}, 2)]
    pieces += [rendered({one: value}, 4) for one, value in parts.items()]
    pieces.append(rendered({"more": more}, 3))
    assert b"".join(pieces) == render_config({"top": {"in": {name: body}}})


# --------------------------------------------------------------------- changes, one after the other

DIGESTS = ("d1" * 24, "e2" * 24)
GROUPS = ("fasta", "1000", "g" * 130)
TAGS = ("default", "2.5", "foreign", "t\nt")
KEYS = st.builds(AssetKey, st.sampled_from(DIGESTS), st.sampled_from(GROUPS), st.sampled_from(TAGS))
RELATIVES = st.lists(st.sampled_from([f"{DIGESTS[0]}/fasta:default", "odd one", ""]), max_size=2).map(tuple)
ENTRIES = st.builds(
    ServedEntry,
    key=KEYS,
    description=st.sampled_from(["", "sequences", "two\nlines", "ü: 1"]),
    archive_digest=st.sampled_from(["a" * 32, "1" * 32]),
    archive_size=st.integers(0, 10**9),
    asset_digest=st.just("b" * 32),
    asset_size=st.integers(0, 10**9),
    seek_keys=st.dictionaries(TEXTS, TEXTS, max_size=2),
    parents=RELATIVES,
    children=RELATIVES,
)
GENOMES = st.builds(
    Genome,
    digest=st.sampled_from(DIGESTS),
    aliases=st.lists(st.sampled_from(["hg38", "12", "x", ""]), max_size=2).map(tuple),
    description=st.sampled_from(["", "human", "a\n\nb"]),
    default_assets=st.dictionaries(st.sampled_from(GROUPS), st.sampled_from([*TAGS, "nothing"]), max_size=2),
)
OTHERS = st.dictionaries(st.sampled_from(["contact", "5", "x: y"]), VALUES, max_size=2)
EDITS = st.fixed_dictionaries(
    {},
    optional={
        "top": OTHERS,
        "genome": OTHERS,
        "group": OTHERS,
        "tag": OTHERS,
        "text": st.sampled_from(["theirs", "sequences", "", 5]),
        "default": st.sampled_from([*TAGS, 5]),
        "foreign": st.sampled_from(
            [{}, {"archive_digest": "0" * 32, "archive_size": "1 B", "mine": 1}, {"archive_digest": 5}]
        ),
        "remotes": st.sampled_from([None, {"http": {"prefix": "https://x"}}, {"bad": {}}]),
        "gone": st.booleans(),
    },
)
HEADS = st.builds(Head, st.just("/g"), st.just("/a"), st.sampled_from([{}, {"http": "https://ours/"}]))
STEPS = st.one_of(
    st.tuples(st.just("put"), ENTRIES),
    st.tuples(st.just("drop"), KEYS),
    st.tuples(st.just("name"), GENOMES),
    st.tuples(st.just("edit"), EDITS),
    st.tuples(st.just("head"), HEADS),
)


def edited(tree: dict[str, Any], edit: dict[str, Any]) -> dict[str, Any]:
    """The tree as a person leaves it."""
    tree = {**tree, **edit.get("top", {})}
    if "remotes" in edit:
        tree["remotes"] = edit["remotes"]
    for genome in tree["genomes"].values():
        genome.update(edit.get("genome", {}))
        for group in genome["assets"].values():
            group.update(edit.get("group", {}))
            if "text" in edit:
                group["asset_description"] = edit["text"]
            if "default" in edit:
                group["default_tag"] = edit["default"]
            for tag in group["tags"].values():
                tag.update(edit.get("tag", {}))
            if "foreign" in edit:
                group["tags"].setdefault("foreign", dict(edit["foreign"]))
        if edit.get("gone"):
            genome["assets"].popitem()
    return tree


def settled(
    tree: dict[str, Any], entries: dict[AssetKey, ServedEntry], genomes: dict[str, Genome], head: Head
) -> bytes:
    """The text that is made from nothing but the file and these entries."""
    content = Parted()
    content.take_in(tree)
    follow(content, entries)
    for genome in genomes.values():
        content.name(genome)
    content.settle(head)
    return content.joined()


def follow(content: Parted, entries: dict[AssetKey, ServedEntry]) -> None:
    """All that a whole refresh does. An entry named `foreign` is another program's."""
    for key in content.keys() | entries.keys():
        part = content.at(key)
        if key in entries:
            if part is None or not part.ours or not part.made_of:
                content.put(entries[key], 1, paged=True)
        elif part is not None and not part.ours and key.asset == "foreign":
            content.stay(key)
        else:
            content.drop(key)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_a_change_gives_the_same_bytes_as_all_from_nothing(steps: list[tuple[str, Any]]) -> None:
    head, entries, genomes = Head("/g", "/a", {}), dict[AssetKey, ServedEntry](), dict[str, Genome]()
    content = Parted()
    content.take_in({})
    content.settle(head)
    before = content.joined()
    for what, value in steps:
        tree, odd = parse_server_config(before)
        assert not odd
        match what:
            case "put":
                entries[value.key] = value
                content.put(value, 1, paged=True)
            case "drop":
                entries.pop(value, None)
                content.drop(value)
                tree["genomes"] = without(tree["genomes"], value)
            case "name":
                genomes[value.digest] = value
            case "head":
                head = value
            case _:
                tree = parse_server_config(render_config(edited(tree, value)))[0]
                content.take_in(tree)
                follow(content, entries)
        for genome in genomes.values():
            content.name(genome)
        content.settle(head)
        now = content.joined()
        assert now == settled(tree, entries, genomes, head)
        whole = parse_server_config(now)[0]
        assert render_config(whole) == now
        assert Sound(whole).tree == whole, "refgenieserver can show all of it"
        assert yaml.safe_load(now) is not None
        before = now


def without(genomes: dict[str, Any], key: AssetKey) -> dict[str, Any]:
    """The genomes without one entry, which is in no file after our next write."""
    assets = genomes.get(key.genome_digest, {}).get("assets", {})
    assets.get(key.asset_group, {}).get("tags", {}).pop(key.asset, None)
    return genomes
