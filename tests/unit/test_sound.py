"""A sound config out of an earlier one costs what differs, and is the same as one made from nothing."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refgenied.catalog.sound import Sound

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
Config = dict[str, Any]


def group(**fields: object) -> Config:
    return {"asset_description": "", "default_tag": "default", "tags": {"default": TAG | fields}}


def config(genomes: int, groups: int) -> Config:
    made = {
        f"{number:048}": {
            "aliases": [f"g{number}"],
            "genome_description": "",
            "assets": {f"asset{name}": group() for name in range(groups)},
        }
        for number in range(genomes)
    }
    return {"config_version": 0.4, "genomes": made}


def test_what_is_sound_already_is_not_copied() -> None:
    given_ = config(2, 3)
    found = Sound(given_).tree["genomes"]
    assert [found[digest] is body for digest, body in given_["genomes"].items()] == [True, True]


def test_all_groups_but_the_changed_one_are_the_same_objects() -> None:
    first = config(2, 3)
    first["genomes"][f"{0:048}"]["assets"]["asset1"] = group(asset_size=5)
    before = Sound(first)
    changed = copy.copy(first)
    changed["genomes"] = dict(first["genomes"])
    body = dict(first["genomes"][f"{0:048}"])
    body["assets"] = body["assets"] | {"asset2": group(asset_size=7)}
    changed["genomes"][f"{0:048}"] = body
    after = Sound(changed, before)
    old, new = (sound.tree["genomes"][f"{0:048}"]["assets"] for sound in (before, after))
    assert [new[name] is old[name] for name in old] == [True, True, False]
    assert after.tree["genomes"][f"{1:048}"] is before.tree["genomes"][f"{1:048}"]
    assert after.lines == ("entries with values that refgenieserver cannot show are mended (2)",)


WORDS = st.sampled_from(["a", "b", "c"])
TAGS = st.dictionaries(
    WORDS, st.sampled_from([TAG, TAG | {"asset_size": 3}, TAG | {"archive_digest": ""}, None, TAG | {"mine": 1}])
)
GROUPS = st.fixed_dictionaries({"tags": TAGS}, optional={"default_tag": WORDS, "asset_description": st.none() | WORDS})
GENOMES = st.fixed_dictionaries(
    {"assets": st.dictionaries(WORDS, GROUPS | st.none())},
    optional={"aliases": st.lists(WORDS), "genome_digest": WORDS},
)
CONFIGS = st.dictionaries(WORDS, GENOMES | st.none(), max_size=3)


def shared(old: Any, new: Any) -> Any:
    """`new` with the objects of `old` wherever they are equal."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return old if old == new and type(old) is type(new) else new
    made = {name: shared(old.get(name), value) for name, value in new.items()}
    return old if old.keys() == made.keys() and all(old[name] is made[name] for name in old) else made


@given(st.lists(CONFIGS, min_size=2, max_size=4))
def test_it_is_the_same_as_one_made_from_nothing(configs: list[Config]) -> None:
    given_: Config = {}
    before: Sound | None = None
    for genomes in configs:
        given_ = shared(given_, {"genomes": genomes})
        before = Sound(given_, before)
        alone = Sound(copy.deepcopy(given_))
        assert (before.tree, before.lines) == (alone.tree, alone.lines)
