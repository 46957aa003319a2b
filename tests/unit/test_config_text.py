"""A config read again at the cost of what has changed in it: always as if all of it was read."""

import copy
import random

import pytest
from config_edits import BASES, config, edited, edits
from hypothesis import given, settings
from hypothesis import strategies as st

from refgenied.genomes import text_changes
from refgenied.genomes.config_text import ConfigText, Part
from refgenied.genomes.yaml_limits import Limits
from refgenied.genomes.yaml_reader import Document, GarbledError, read


def applied(document: Document, parts: list[Part]) -> object:
    """The value that the parts make of the old one."""
    value = copy.deepcopy(document.value)
    for part in parts:
        into = value["genomes"] if part.digest is None else value["genomes"][part.digest]["assets"]
        for name, old in part.before.items():
            assert repr(into.pop(name)) == repr(old)
        assert not into.keys() & part.now.keys()
        into.update(part.now)
    return value


def reread(text: ConfigText, document: Document, new: bytes) -> tuple[ConfigText, Document] | None:
    """Read a new text again; whatever comes back is checked against a whole read."""
    again = text.reread(new)
    if again is None or new == text.text:
        return None
    whole = read(new)
    assert not whole.odd
    assert whole.cut_at is None
    assert sorted_names(applied(document, again[1])) == sorted_names(whole.value), (text.text, new)
    return again[0], whole


def sorted_names(value: object) -> str:
    if isinstance(value, dict):
        return repr([(name, sorted_names(value[name])) for name in sorted(value)])
    return repr(value)


@pytest.fixture(params=[1 << 14, 40], ids=["one window", "several windows"])
def short(request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_changes, "_SHORT", request.param)
    monkeypatch.setattr(text_changes, "_CHUNK", 64)


@pytest.mark.usefixtures("short")
def test_after_any_edits_it_is_as_if_all_was_read() -> None:
    again = 0

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from(BASES), st.lists(edits, min_size=1, max_size=3))
    def check(base: bytes, rounds: list) -> None:
        nonlocal again
        text, document = ConfigText.read(base)
        for each in rounds:
            new = text.text
            for edit in each:
                new = edited(new, *edit)
            found = reread(text, document, new)
            if found is not None:
                again += 1
                text, document = found

    check()
    assert again > 30, "hardly any edit was read as a window"


@pytest.mark.usefixtures("short")
def test_builds_that_come_and_go_are_read_alone() -> None:
    """Each of many changes in a row is read as windows, and the places after them stay right."""
    choose = random.Random(1)
    now = {name: [f"g{n}" for n in range(0, 60, 2)] for name in ("aaa", "bbb", "ccc", "ddd")}
    text, document = ConfigText.read(config(**now))
    for _ in range(60):
        name = choose.choice(list(now))
        groups = set(now[name])
        if len(groups) > 5 and choose.random() < 0.4:
            groups.discard(choose.choice(sorted(groups)))
        else:
            groups.add(f"g{choose.randrange(1000)}")
        if choose.random() < 0.2:
            now[f"e{choose.randrange(1000)}"] = ["f"]
        now = {**now, name: sorted(groups)}
        found = reread(text, document, config(**dict(sorted(now.items()))))
        if found is not None:
            text, document = found
    assert text.text == config(**dict(sorted(now.items())))


def names_read(old: bytes, new: bytes) -> list[tuple[str | None, list[str], list[str]]] | None:
    again = ConfigText.read(old)[0].reread(new)
    return again and [(part.digest, list(part.before), list(part.now)) for part in again[1]]


def test_only_what_is_beside_a_change_is_read() -> None:
    base = BASES[0]
    assert names_read(base, base) == []
    assert names_read(base, config(aaa=["f", "g", "h"], bbb=["f", "new"], ccc=["f", "q"])) == [
        ("bbb", ["f"], ["f", "new"])
    ]
    assert names_read(base, config(aaa=["e", "f", "g", "h"], bbb=["f"], ccc=["f", "q"])) == [("aaa", [], ["e"])]
    assert names_read(base, config(aaa=["f", "h"], bbb=["f"], ccc=["f", "q"])) == [("aaa", ["f", "g"], ["f"])]
    assert names_read(base, config(aaa=["f", "g", "h"], bbb=["f"], c=["x"], ccc=["f", "q"])) == [
        (None, ["bbb"], ["bbb", "c"])
    ]
    ends = base[: base.index(b"genome_servers")]
    assert names_read(ends, ends + b"  ddd:\n    assets:\n      f: 1\n") == [(None, ["ccc"], ["ccc", "ddd"])]
    assert names_read(base, base.replace(b"- bbbx", b"- bbbx\n    - second")) == [(None, ["bbb"], ["bbb"])]


def test_two_changes_far_apart_are_two_windows() -> None:
    groups = [f"g{n:04}" for n in range(400)]
    base = config(all=groups)
    new = config(all=[*groups[:100], "g0099b", *groups[100:300], "g0299b", *groups[300:]])
    assert names_read(base, new) == [
        ("all", ["g0099"], ["g0099", "g0099b"]),
        ("all", ["g0299"], ["g0299", "g0299b"]),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("it''s", "it''s &a"),  # fine: a text
        ("      g:\n", "      g: &a\n"),
        ("      g:\n", "      *a :\n"),
        ("      g:\n", "      <<: {x: y}\n      g:\n"),
        ("      g:\n", "      f:\n"),
        ("      g:\n", "      !odd g:\n"),
        ("      g:\n", "      g:\r\n"),
        ("      g:\n", "---\n      g:\n"),
        ("      g:\n", "      x: '\n      g:\n"),
        ("      g:\n", "      x: {\n      g:\n"),
        ("      g:\n", "      x: |\n       t\n      g:\n"),
        ("      g:\n", "      x: |1\n      g:\n"),
        ("      g:\n", "   g:\n"),
        ("      g:\n", "    g:\n"),
        ("      g:\n", "       g:\n"),
        ("      g:\n", "  ddd:\n    assets:\n      g:\n"),
        ("      g:\n", "    assets:\n      g:\n"),
        ("      g:\n", "genomes:\n  ddd:\n    assets:\n      g:\n"),
        ("      g:\n", "      a: 2020-99-99\n      g:\n"),
        ("      g:\n", "      - g\n      g:\n"),
        ("      g:\n", "      'x' y\n      g:\n"),
        ("of it\n", "of it\n..."),
    ],
)
def test_what_reaches_beyond_a_window(old: str, new: str) -> None:
    base = BASES[0]
    changed = base.replace(old.encode(), new.encode(), 1)
    assert changed != base
    text, document = ConfigText.read(base)
    try:
        read(changed)
    except GarbledError:
        assert text.reread(changed) is None
    else:
        reread(text, document, changed)
    for begin in (base.replace(b"folded", b"&a folded"), changed):  # and in the old text
        try:
            text, document = ConfigText.read(begin)
        except GarbledError:
            continue
        reread(text, document, base)
        reread(text, document, begin.replace(b"      k:\n", b"      hh:\n"))


@pytest.mark.parametrize("end", [b"", b"x: y", b"# end"])
def test_without_a_newline_at_the_end_all_is_read(end: bytes) -> None:
    base = BASES[0]
    changed = base.replace(b"      g:\n", b"      gg:\n")
    assert ConfigText.read(base)[0].reread(changed.rstrip(b"\n") + end) is None
    assert ConfigText.read(base.rstrip(b"\n") + end)[0].reread(changed) is None


@pytest.mark.parametrize("limits", [Limits(1 << 20, 164), Limits(len(BASES[0]), 1000)])
def test_limits_hold_for_many_small_changes_too(limits: Limits) -> None:
    base = BASES[0]
    changed = base.replace(b"      g:\n", b"      gg: [1" + b", 1" * 40 + b"]\n      g:\n")
    text, _ = ConfigText.read(base)
    assert text.reread(changed) is not None
    text, _ = ConfigText.read(base, limits)
    assert text.reread(base.replace(b"      g:\n", b"      k:\n")) is not None
    assert text.reread(changed) is None
