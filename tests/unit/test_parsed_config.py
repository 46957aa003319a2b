"""A config made from the one before it: always what a whole read finds, and what has not changed is the same object."""

from typing import Any

import msgspec
import pytest
from config_edits import BASES, config, edited, edits
from hypothesis import given, settings
from hypothesis import strategies as st

from refgenied.genomes import genome_config, text_changes
from refgenied.genomes.config_text import ConfigText
from refgenied.genomes.genome_config import parse_config
from refgenied.genomes.parsed_config import ParsedConfig
from refgenied.genomes.yaml_reader import GarbledError
from refgenied.model import AssetKey


def parsed(text: bytes, before: ParsedConfig | None = None) -> ParsedConfig | None:
    """As a whole read; whatever comes is compared with it."""
    try:
        whole = parse_config(text, "c.yaml")
    except GarbledError:
        with pytest.raises(GarbledError):
            ParsedConfig.read(text, "c.yaml", before)
        return None
    now = ParsedConfig.read(text, "c.yaml", before)
    assert now.config == whole, text
    if before is not None:
        for key, entry in now.config.entries.items():
            assert entry is before.config.entries.get(key) or entry != before.config.entries.get(key)
        for digest, genome in now.config.genomes.items():
            assert genome is before.config.genomes.get(digest) or genome != before.config.genomes.get(digest)
    return now


@pytest.mark.parametrize("short", [1 << 14, 40])
def test_after_any_edits_it_is_what_a_whole_read_finds(monkeypatch: pytest.MonkeyPatch, short: int) -> None:
    monkeypatch.setattr(text_changes, "_SHORT", short)

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(BASES), st.lists(edits, min_size=1, max_size=3))
    def check(base: bytes, rounds: list) -> None:
        before = parsed(base)
        for each in rounds:
            assert before is not None
            text = before.text.text
            for edit in each:
                text = edited(text, *edit)
            before = parsed(text, before) or before

    check()


BASE = config(aaa=["f", "g", "h"], bbb=["f"], ccc=["f", "q"])


@pytest.fixture
def whole_reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The texts that are read whole."""
    texts: list[bytes] = []
    real = ConfigText.read.__func__

    def noted(cls: Any, text: bytes) -> Any:
        texts.append(text)
        return real(cls, text)

    monkeypatch.setattr(ConfigText, "read", classmethod(noted))
    return texts


@pytest.mark.parametrize(
    "changed",
    [
        config(aaa=["f", "g", "h"], bbb=["f", "new"], ccc=["f", "q"]),
        config(aaa=["f", "h"], bbb=["f"], ccc=["f", "q"]),
        config(aaa=["f", "g", "h"], bbb=["f"], c=["n"], ccc=["f", "q"]),
        config(aaa=["f", "g", "h"], ccc=["f", "q"]),
        BASE.replace(b"- bbbx", b"- bbbx\n    - second"),
        BASE.replace(b"asset_digest: ", b"asset_digest: f", 1),
        BASE.replace(b"'g, it", b"'G, it"),
        BASE,
    ],
)
def test_a_sound_change_is_read_alone(changed: bytes, whole_reads: list[bytes]) -> None:
    before = parsed(BASE)
    parsed(changed, before)
    assert whole_reads == [BASE]


@pytest.mark.parametrize(
    "changed",
    [
        BASE.replace(b"- bbbx", b"- aaax"),  # an alias of two genomes
        BASE.replace(b"- bbbx", b"- aaa"),  # an alias that is a digest
        BASE.replace(b"  bbb:\n", b"  aaax:\n"),  # a digest that is an alias
        BASE.replace(b"      g:\n", b"      g/h:\n"),
        BASE.replace(b"      g:\n        asset_description", b"      g:\n        tags: x\n      h2:\n        tags"),
    ],
)
def test_a_problem_beside_another_genome_is_told_as_in_a_whole_read(changed: bytes) -> None:
    before = parsed(BASE)
    now = parsed(changed, before)
    assert now is not None
    assert now.config.problems
    parsed(BASE, now)


def test_the_limit_of_assets_holds_for_what_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genome_config, "MAX_ASSETS", 6)
    before = parsed(BASE)
    assert before is not None
    assert not before.config.problems
    now = parsed(config(aaa=["f", "g", "h"], bbb=["f", "new"], ccc=["f", "q"]), before)
    assert now is not None
    assert "1 more genomes and assets than 6" in now.config.problems[0].message


def test_entries_share_the_texts_that_many_have() -> None:
    one = config(aaa=["f"]).replace(b"asset_digest", b"asset_parents: [x/f:default]\n            asset_digest")
    two = config(bbb=["f"]).replace(b"asset_digest", b"asset_parents: [x/f:default]\n            asset_digest")
    first, second = parse_config(one, "c.yaml").entries, parse_config(two, "c.yaml").entries
    a, b = first[AssetKey("aaa", "f", "default")], second[AssetKey("bbb", "f", "default")]
    assert a.parents[0] is b.parents[0]
    assert a.asset_path is b.asset_path
    assert msgspec.structs.asdict(a)["seek_keys"].keys() == {"f", "fai"}
