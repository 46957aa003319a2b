"""A server's config that is read by change is the same as one that is read whole."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from refgenied.catalog.parts import Head
from refgenied.catalog.server_config import ConfigFile, UnreadableConfigError, parse_server_config
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.genomes.yaml_limits import OF_PEOPLE
from refgenied.genomes.yaml_reader import GarbledError, read
from refgenied.serve.config_content import ConfigContent

NAMES = st.sampled_from(["a", "b", "c", "d", "1", "no"])
ODD = [10**24, -(10**24), 0.0, -0.0, dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), [10**24, True]]
VALUES = st.sampled_from(["x", "1", 1, True, 1.0, None, "two\nlines", "a: b", ["x"], {"k": "v"}, [], {}, *ODD])
GROUPS = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=5)
GENOMES = st.dictionaries(NAMES, st.fixed_dictionaries({"assets": GROUPS, "aliases": VALUES}), max_size=5)
MARKS = st.none() | st.dictionaries(NAMES, st.dictionaries(NAMES, NAMES, max_size=3), min_size=1, max_size=3)


def text_of(genomes: dict[str, Any], marks: dict[str, Any] | None, *, is_sorted: bool) -> bytes:
    tree: dict[str, Any] = {"config_version": 0.4, "genomes": genomes} | ({"refgenied": marks} if marks else {})
    if is_sorted:
        tree["genomes"] = {name: genomes[name] for name in sorted(genomes)}
    return yaml.safe_dump(tree, sort_keys=False).encode()


@given(st.lists(st.tuples(GENOMES, MARKS, st.booleans()), min_size=2, max_size=5))
def test_it_is_the_same_as_a_whole_reading(versions: list[tuple[dict[str, Any], dict[str, Any] | None, bool]]) -> None:
    content = ConfigContent()
    for genomes, marks, is_sorted in versions:
        text = text_of(genomes, marks, is_sorted=is_sorted)
        whole = parse_server_config(text)[0]
        whole.pop("refgenied", None)
        assert repr(without_marks(content.read(text))) == repr(whole)  # with the order, and 1 is not True


def without_marks(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != "refgenied"}


def config(groups: int, **changed: str) -> bytes:
    names = [f"asset{number}" for number in range(groups)]
    assets = {name: {"asset_description": changed.get(name, "as ever"), "tags": {}} for name in names}
    genomes: dict[str, Any] = {
        name: {"aliases": [name], "assets": {"fasta": {"asset_description": "as ever"}}} for name in ("first", "other")
    }
    genomes["genome"] = {"aliases": ["x"], "assets": assets}
    return yaml.safe_dump({"genomes": genomes, "refgenied": {"descriptions": changed or {"a": "b"}}}).encode()


@pytest.mark.parametrize("value", [*ODD, float("nan"), {"a": [10**30, {"b": 10**30}]}], ids=repr)
def test_a_text_with_any_value_of_a_person_is_read_again(value: object) -> None:
    content = ConfigContent()
    for names in ("bf", "bdf", "bdef", "acdf"):
        text = of({"a": {name: {"lab": value} for name in names}})
        assert repr(content.read(text)) == repr(parse_server_config(text)[0])


def test_more_than_other_people_may_write_is_read_but_not_without_an_end() -> None:
    """The daemon's config with very many archives."""
    most = OF_PEOPLE.max_values // 1000 + 1
    texts = [b"a: &a [%b]\nb: [%b]\n" % (b"1," * 1000, b"*a," * number) for number in (most, most * 4)]
    with pytest.raises(GarbledError):
        read(texts[0])
    for function in (ConfigContent().read, lambda text: parse_server_config(text)[0]):
        assert len(function(texts[0])["b"]) == most
        with pytest.raises(UnreadableConfigError, match="too much"):
            function(texts[1])


def test_a_file_that_is_larger_than_other_peoples_may_be_is_read(tmp_path: Path) -> None:
    path = tmp_path / CONFIG_NAME
    path.write_bytes(b"genomes: {}\nlab: 1\n#" + b" " * OF_PEOPLE.max_bytes + b"\n")
    file = ConfigFile(tmp_path)
    assert file.read()
    file.write(Head("/genomes", str(tmp_path), {}))
    assert b"lab: 1" in path.read_bytes()


@pytest.mark.parametrize("groups", [3, 300])
def test_all_but_what_has_changed_are_the_same_objects(groups: int) -> None:
    content = ConfigContent()
    before = content.read(config(groups))
    after = content.read(config(groups, asset1="new"))
    old, new = before["genomes"]["genome"]["assets"], after["genomes"]["genome"]["assets"]
    assert [name for name in new if new[name] is not old[name]] == ["asset1"]
    assert all(after["genomes"][name] is before["genomes"][name] for name in ("first", "other"))
    assert old["asset1"] != new["asset1"]


def of(genomes: dict[str, dict[str, object]]) -> bytes:
    """Genome → asset group → its value."""
    return yaml.safe_dump(
        {"genomes": {name: {"assets": groups} for name, groups in genomes.items()}}, sort_keys=False
    ).encode()


BASE = {"b": {"b": 1, "d": 2}, "d": {"b": 3, "d": 4}}


@pytest.mark.parametrize(
    "now",
    [
        {"b": {"a": 0, "b": 1, "d": 2}, "d": {"b": 3, "d": 4}},
        {"b": {"b": 1, "c": 0, "d": 2}, "d": {"b": 3, "d": 4}},
        {"b": {"b": 1, "d": 2, "e": 0}, "d": {"a": 0, "b": 3, "d": 4}},
        {"b": {"d": 2}, "d": {"b": 3}},
        {"a": {"b": 0}, "b": {"b": 1, "d": 2}, "d": {"b": 3, "d": 4}},
        {"b": {"b": 1, "d": 2}, "c": {"b": 0}, "d": {"b": 3, "d": 4}},
        {"b": {"b": 1, "d": 2}, "d": {"b": 3, "d": 4}, "e": {"b": 0}},
        {"d": {"b": 3, "d": 4}},
        {"d": {"b": 3, "d": 4}, "b": {"b": 1, "d": 2}},
        {"b": {"b": True, "d": 2}, "d": {"b": 3, "d": 4}},
        {"b": {"b": 1.0, "d": 2}, "d": {"b": 3, "d": "4"}},
    ],
)
def test_what_is_new_or_gone_stands_where_it_stands_in_the_text(now: dict[str, dict[str, object]]) -> None:
    content = ConfigContent()
    content.read(of(BASE))
    assert repr(content.read(of(now))) == repr(parse_server_config(of(now))[0])


def test_the_neighbours_of_a_new_group_are_the_same_objects() -> None:
    content = ConfigContent()
    groups = {name: {"tags": {}} for name in "bdf"}
    before = content.read(of({"a": dict(groups)}))["genomes"]["a"]["assets"]
    groups = {name: {"tags": {}} for name in "bcdf"}
    after = content.read(of({"a": dict(groups)}))["genomes"]["a"]["assets"]
    assert list(after) == list("bcdf")
    assert all(after[name] is before[name] for name in before)


def test_a_change_in_the_daemons_own_part_is_no_change() -> None:
    content = ConfigContent()
    before = content.read(b"genomes:\n  a:\n    assets:\n      x: 1\nrefgenied:\n  descriptions:\n    a: 1\n")
    assert content.read(b"genomes:\n  a:\n    assets:\n      x: 1\nrefgenied:\n  descriptions:\n    b: 1\n") is before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'a: "\nrefgenied:\n  x"\nb: 1\n', {"a": " refgenied: x", "b": 1}),
        (b'a: "\nrefgenied:\n  x"\n', {"a": " refgenied: x"}),
        (b"a: 1\nrefgenied:\n  x: 1\nb: 2\n", {"a": 1, "refgenied": {"x": 1}, "b": 2}),
        (b"a: 1\nrefgenied:\n  x: 1\rb: 2\n", {"a": 1, "refgenied": {"x": 1}, "b": 2}),
        (b"a: 1\nrefgenied:\n", {"a": 1}),
        (b"a: 1\n", {"a": 1}),
        (b"", {}),
    ],
)
def test_only_what_stands_at_the_end_is_left_out(text: bytes, value: object) -> None:
    assert ConfigContent().read(text) == value


def test_after_a_text_that_cannot_be_read_the_next_one_builds_upon_the_last_good_one() -> None:
    content = ConfigContent()
    before = content.read(config(3))
    for bad in (b"genomes: [", b"- a list\n", b"x: [\n" + config(3)):
        with pytest.raises(UnreadableConfigError):
            content.read(bad)
    assert content.read(config(3)) is before
