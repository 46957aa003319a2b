"""YAML of other people: read as refgenconf reads it, and never more than we can bear."""

import itertools
import math
import time
import tracemalloc

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from refgenied.genomes import yaml_reader
from refgenied.genomes.yaml_limits import MAX_BYTES
from refgenied.genomes.yaml_reader import MAX_DEPTH, GarbledError, read
from refgenied.genomes.yaml_scalars import text_of

yacman = pytest.importorskip("yacman.yacman", reason="refgenconf's reader (PyPI: refgenie) is not installed")


def as_refgenconf(text: str) -> object:
    return yaml.load(text, yacman.YacmanLoader)  # noqa: S506 - a safe loader


def same(ours: object, theirs: object) -> bool:
    """Theirs has dates and nothing as names, too."""
    if isinstance(theirs, dict):
        named = {str(name): value for name, value in theirs.items() if name is not None}
        return (
            isinstance(ours, dict)
            and list(ours) == list(named)
            and all(same(ours[name], value) for name, value in named.items())
        )
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, float) and math.isnan(theirs):
        return isinstance(ours, float) and math.isnan(ours)
    return type(ours) is type(theirs) and ours == theirs


NUMBERS = "2.5 2.50 1e3 1.0e+3 010 0x1F 1_000 1:30 0b11 .inf -.5 .nan 12345678901234567890 2024-01-01"
SIGNS = "hg38 yes No on true null ~ = << é #no *a &a !t %d @x `x` [1]"
WORDS = [*NUMBERS.split(), *SIGNS.split(), "2024-01-01 10:00:00", "", "a b", "d'or", '"q"', "a: b", "- x", "a\nb", "\t"]

scalars = st.one_of(
    st.sampled_from(WORDS), st.text("abc019.:-_+ ", max_size=6), st.integers(), st.floats(), st.booleans(), st.none()
)
trees = st.recursive(
    scalars,
    lambda t: st.lists(t, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.integers(), t, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(tree=trees, flow=st.booleans())
def test_what_yaml_writers_write_is_read_as_refgenconf_reads_it(*, tree: object, flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True)
    document = read(text.encode())
    assert same(document.value, as_refgenconf(text))
    assert all("where a name should" in odd.message for odd in document.odd), document.odd


lines = st.lists(
    st.builds(
        lambda depth, name, value: f"{'  ' * depth}{name}: {value}",
        st.integers(0, 3),
        st.sampled_from([*WORDS, "'2.50'", '"no"', "!!str 1", "<<", "&x k"]),
        st.sampled_from([*WORDS, "'2.50'", "!!str 1", "!!int '3'", "&x 1", "*x", "&y {a: 1}", "*y", "[*y, {b: 2}]"]),
    ),
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(lines.map("\n".join) | st.text("ab01.:-[]{}&*!|>'\"#?, \n", max_size=30))
def test_what_people_write_is_read_as_refgenconf_reads_it(text: str) -> None:
    try:
        theirs = as_refgenconf(text)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        return  # refgenie itself cannot use it
    try:
        document = read(text.encode())
    except GarbledError as error:
        pytest.fail(f"refgenconf reads it as {theirs!r}, and we say {error}")
    assert same(document.value, theirs) or any("contains itself" in odd.message for odd in document.odd)


def levels(number: int, width: int) -> bytes:
    """A few kilobytes that stand for width ** number values."""
    names = [f"a{level}" for level in range(number)]
    rows = [f"{names[0]}: &{names[0]} [{'x,' * width}]"]
    rows += [f"{name}: &{name} [{f'*{before},' * width}]" for before, name in itertools.pairwise(names)]
    return "\n".join(rows).encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (levels(3, 300), "holds too much"),
        (levels(60, 1), "nested deeper"),
        (b"a: &a " + b"x" * 70_000 + b"\nb: [" + b"*a," * 1500 + b"]", "holds too much"),
        (b"a: &a {" + b"".join(b"k%d: ," % n for n in range(3000)) + b"}\nb: [" + b"{<<: *a}," * 900 + b"]", "much"),
        (b"[" * 200_000, "nest"),
        (b"- " * 200_000, "nested deeper"),
        (b"{a: " * 200_000, "nest"),
        (b"a: &a [" * 60 + b"*b", "nested deeper"),
        (b"[" + b"," * 100, "did not find"),
        (b"x" * (MAX_BYTES + 1), "too large"),
        (b"good: 1\nbad: \x00\n", "line 2: control characters are not allowed"),
        (b"good: 1\nbad: \xe4\n", "line 2: "),
    ],
    ids=range(12),
)
def test_more_than_we_can_bear_is_refused_at_once(text: bytes, says: str) -> None:
    tracemalloc.start()
    began = time.thread_time()
    try:
        with pytest.raises(GarbledError) as raised:
            read(text)
        assert says in str(raised.value)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
        assert time.thread_time() - began < 5
    finally:
        tracemalloc.stop()


def test_depth_is_counted_with_aliases_written_out() -> None:
    half = MAX_DEPTH // 2
    deep = b"a: &a " + b"[" * half + b"]" * half + b"\nb: "
    assert read(deep + b"[" * (half - 1) + b"*a" + b"]" * (half - 1)).odd == ()
    with pytest.raises(GarbledError, match="nested deeper"):
        read(deep + b"[" * half + b"*a" + b"]" * half)


def test_a_value_that_means_nothing_is_left_out_and_told_with_its_line() -> None:
    text = (
        b"a: 1\nb: !shop {x: 1}\nc: 2020-13-45\nd: [1, !!int x, 2]\n? [e]\n: 1\nf: &f [*f, 3]\n~: 1\ng: !!binary aa\n"
    )
    document = read(text + b"<<: 5\n")
    assert document.value == {"a": 1, "d": [1, 2], "f": [3]}
    assert [odd.line for odd in document.odd] == [2, 3, 4, 5, 7, 8, 9, 10]
    many = read(b"[" + b"!x 1," * 1000 + b"]")
    assert len(many.odd) == yaml_reader.MAX_TOLD + 1
    assert many.odd[-1].message == f"and {1000 - yaml_reader.MAX_TOLD} more values are left out"


def test_numbers_that_would_take_long_to_compute_stay_text() -> None:
    for text in ("9" * 10_000, ":".join(["1"] * 300_000)):
        assert read(f"a: {text}".encode()).value == {"a": text}
        document = read(f"a: !!int '{text}'\nb: !!str {text}".encode())
        assert (document.value, len(document.odd)) == ({"b": text}, 1)


@pytest.mark.parametrize(
    ("text", "cut_at"),
    [
        ("a: {b: c}\nd:\n  e: f", ("d", "e")),
        ("d:\n  e: f\n", None),
        ("d:\n  e: f\r", None),
        ("a: 1\rd:\r  e: f", ("d", "e")),
        ("d:\n  e: f  ", ("d", "e")),
        ("d:\n  e: 'f", None),
        ("d:\n  e:", ("d", "e")),
        ("d: &x 1\ne: *x", ("e",)),
        ("d:\n  - e\n  - ü", ("d",)),
        ("d: 1 # end", None),
        ("d: {e: f}", None),
        ("", None),
    ],
)
def test_where_a_text_without_a_last_newline_may_be_cut_off(text: str, cut_at: tuple[str, ...] | None) -> None:
    if text.endswith("'f"):
        with pytest.raises(GarbledError):
            read(text.encode())
        return
    assert read(text.encode()).cut_at == cut_at


def test_values_as_refgenconf_makes_names_of_them() -> None:
    document = read(b"[2.50, yes, 010, 2024-01-01, text, ~, [], {}]")
    assert isinstance(document.value, list)
    assert [text_of(value) for value in document.value] == ["2.5", "True", "8", "2024-01-01", "text", None, None, None]
