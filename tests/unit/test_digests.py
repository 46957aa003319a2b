"""refgenie's asset digest, against refgenie's own command line and a real build; and the content digest."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packing import FOLDER, draft_of, make_tree, md5, publish

from refgenied.archive.format import digests, sorting
from refgenied.archive.format.digests import asset_digest, matching_order
from refgenied.archive.format.entries import Entry, new_entry
from refgenied.archive.format.manifest import About
from refgenied.archive.format.sorting import sorted_as, sorted_tokens
from refgenied.archive.run import no_check
from refgenied.genomes.member import Kind
from refgenied.model import DigestMismatchError, UnreadableError

# refgenconf 0.13.1, helpers.get_dir_digest, with BUILD_STATS_DIR in place
FIND = "cd {}; find . -type f -not -path './_refgenie_build*' -exec md5sum {{}} \\; "
COMMAND = FIND + "| sort -k 2 | awk '{{print $1}}' | md5sum"
STAR = ("Genome", "SA", "SAindex", "chrLength.txt", "chrName.txt", "exonInfo.tab", "genomeParameters.txt", "Log.out")


def by_refgenie(folder: Path, locale: str = "C") -> str:
    environment = os.environ | {"LC_ALL": locale}
    done = subprocess.run(COMMAND.format(folder), shell=True, capture_output=True, check=True, env=environment)  # noqa: S602
    assert done.stderr == b""
    return done.stdout.split()[0].decode()


@pytest.fixture(scope="session")
def locales(tmp_path_factory) -> Path:
    """A folder with en_US.UTF-8 in it, made here: nothing of the system is changed."""
    folder = tmp_path_factory.mktemp("locales")
    if not shutil.which("localedef"):
        pytest.skip("localedef is not installed")
    done = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "UTF-8", folder / "en_US.UTF-8"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"localedef cannot make en_US.UTF-8 here: {done.stderr.strip()}")
    return folder


@pytest.fixture
def english(locales, monkeypatch) -> None:
    monkeypatch.setenv("LOCPATH", str(locales))


def star(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "star", {name.encode(): name.encode() for name in STAR})


def test_a_real_build_has_the_digest_that_refgenie_recorded():
    """The files of a fasta asset that refgenie 0.13.0 built, and the `asset_digest` in its config."""
    genome = "e4c17e3f47c39de6855bf677014571ce61f6d38c9313acbe"
    sums = {
        "chrom.sizes": "0f0af20b6481d780270c92036b786ed1",
        "fa": "f64f3acd42c29be016a1da043b510eae",
        "fa.fai": "49eaa1e971aac41b79a72e77c2f0611d",
    }
    entries = [
        Entry(path=f"{genome}.{name}", type=Kind.FILE, mode="0644", mtime=0, md5=sum_) for name, sum_ in sums.items()
    ]
    assert asset_digest(entries) == "555c6773540a7b5bd400aa771f5da925"


ODD = {
    b"b": b"1",
    b"a/x": b"2",
    b"a.x": b"3",
    b"a-x": b"4",
    b"new\nline": b"5",
    b"newX": b"5a",
    b"back\\slash": b"6",
    b"carriage\rreturn": b"7",
    b"two  blanks": b"8",
    b"not-\xff-utf8": b"9",
    b"link": "b",
    b"empty": FOLDER,
    b"sub/_refgenie_build/kept": b"10",
    b"_refgenie_build_more/ignored": b"11",
    b"_refgenie_building": b"ignored",
}


def test_names_that_md5sum_escapes_and_top_names_that_refgenie_ignores(tmp_path):
    source = make_tree(tmp_path / "odd", ODD)
    manifest = draft_of(source, tmp_path / "archives").manifest
    assert (manifest.asset_digest, manifest.asset_digest_order) == (by_refgenie(source), "C")


part = st.binary(min_size=1, max_size=8).filter(lambda raw: not set(raw) & set(b"\0/") and raw not in (b".", b".."))
part = part | st.text("aAbB.-_\\\n é1", min_size=1, max_size=6).map(str.encode).filter(
    lambda raw: raw not in (b".", b"..")
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.lists(part, min_size=1, max_size=2).map(b"+/".join), st.binary(max_size=3), max_size=12))
def test_any_names_in_the_order_of_bytes(tmp_path, names):
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    source = make_tree(tmp_path / "source", names)
    assert draft_of(source, tmp_path / "archives").manifest.asset_digest == by_refgenie(source)


def test_foreign_content_is_not_refgenies(tmp_path):
    entries = [
        Entry(path="a", type=Kind.FILE, mode="0644", mtime=0, md5="1" * 32),
        Entry(path="b", type=Kind.FILE, mode="0644", mtime=0, md5="2" * 32, foreign=True),
    ]
    assert asset_digest(entries) == asset_digest(entries[:1])


def test_another_digest_is_an_error_and_leaves_nothing(tmp_path):
    source = star(tmp_path)
    with pytest.raises(DigestMismatchError, match=f"{by_refgenie(source)}, and refgenie's config says {'0' * 32}"):
        draft_of(source, tmp_path / "archives", about=About(created_at=0.0, asset_digest="0" * 32))
    assert list((tmp_path / "archives").iterdir()) == []


def test_a_builder_with_another_locale_is_understood(tmp_path, english):
    source = star(tmp_path)
    recorded = by_refgenie(source, "en_US.UTF-8")
    assert recorded != by_refgenie(source)
    manifest = publish(source, tmp_path / "archives", about=About(created_at=0.0, asset_digest=recorded)).manifest
    assert manifest.asset_digest == manifest.recorded_asset_digest == recorded
    assert manifest.asset_digest_order == "en_US.UTF-8"


def test_a_file_that_was_a_link_where_it_was_built_is_understood(tmp_path):
    """`bwa_index` as `refgenie pull` and `archive restore` leave it."""
    source = make_tree(tmp_path / "source", {b"g.fa": b"ACGT", b"g.fa.bwt": b"1", b"g.fa.sa": b"2"})
    (source / "g.fa").rename(tmp_path / "g.fa")
    recorded = by_refgenie(source)
    (tmp_path / "g.fa").rename(source / "g.fa")
    assert recorded != by_refgenie(source)
    about = About(created_at=0.0, asset_digest=recorded)
    assert publish(source, tmp_path / "archives", about=about).manifest.asset_digest == recorded
    (source / "g.fa.sa").write_bytes(b"3")
    with pytest.raises(DigestMismatchError):
        draft_of(source, tmp_path / "archives", about=about)


def entry_of(name: bytes, content: bytes) -> Entry:
    size, sum_ = len(content), hashlib.md5(content).hexdigest()
    return new_entry(name, Kind.FILE, mode=0o644, mtime=0, size=size, md5=sum_, target=b"", offset=0)


def by_order(entries, locale: str) -> str:
    return digests.digest_of(sorted_as(locale, digests.md5sum_lines(entries, no_check), no_check))


NASTY = [
    b"1+A-.-+",
    b"1+A-",
    b"1A",
    b"1 A",
    b"1-a",
    b"1_A",
    b"\xc3\xa9",
    b"e",
    b"E",
    b"\xff",
    b"a\nb",
    b"a\\nb",
    b"a\rb",
    b"$(x)",
    b"-k",
]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(NASTY) | st.text("aAbBzZ019._-+ ~éÉßд", min_size=1, max_size=8).map(str.encode), max_size=20
    )
)
@example(NASTY)
def test_names_are_ordered_as_refgenie_orders_them_in_a_locale(tmp_path, english, names):
    names = [name for name in dict.fromkeys(names) if name not in (b".", b"..")]
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    source = make_tree(tmp_path / "source", {name: b"%d" % number for number, name in enumerate(names)})
    entries = [entry_of(name, b"%d" % number) for number, name in enumerate(names)]
    recorded = by_refgenie(source, "en_US.UTF-8")
    assert by_order(entries, "en_US.UTF-8") == recorded
    assert recorded == asset_digest(entries) or matching_order(lambda: entries, recorded) == "en_US.UTF-8"


def test_locales_are_told_apart_by_names_from_everywhere(monkeypatch, english):
    monkeypatch.setattr(digests, "SAMPLE_LINES", 20)
    monkeypatch.setattr(digests, "locales", lambda: ["C", "en_US.UTF-8", "en_US.UTF-8"])
    names = [b"A%04d" % number for number in range(1000)] + [b"a%04d" % number for number in range(1000)]
    lines = [(b"%032x" % number, name) for number, name in enumerate(names)]
    ((locale, tokens),) = digests.other_orders(lambda: lines, no_check)
    assert (locale, len(list(tokens))) == ("en_US.UTF-8", 2000)
    assert list(digests.other_orders(lambda: lines[:15], no_check)) == []  # of these all orders are one


def test_without_sort_one_line_says_so(tmp_path, monkeypatch, english):
    source = star(tmp_path)
    recorded = by_refgenie(source, "en_US.UTF-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreadableError, match="`sort`, which knows the others, is not installed"):
        draft_of(source, tmp_path / "archives", about=About(created_at=0.0, asset_digest=recorded))
    assert draft_of(source, tmp_path / "archives").manifest.asset_digest_order == "C"  # who does not need it goes on


def test_a_sort_that_fails_or_hangs_is_told_and_can_be_left(tmp_path, monkeypatch):
    entries = [entry_of(b"a", b"1")]
    program = tmp_path / "sort"
    program.write_text("#!/bin/sh\necho 'no room' >&2\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UnreadableError, match="asked of sort: no room"):
        matching_order(lambda: entries, "0" * 32)
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    calls = iter(range(5))

    def check():
        if next(calls, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matching_order(lambda: entries, "0" * 32, check)


def test_many_names_are_sorted_in_parts(monkeypatch):
    monkeypatch.setattr(sorting, "MOST_IN_MEMORY", 100)
    lines = [(b"%032x" % (number * 7919 % 1000), b"%d" % number) for number in range(1000)]
    expected = [token for token, _ in sorted(lines, key=lambda line: line[1])]
    assert list(sorted_tokens(iter(lines))) == expected


def test_the_search_for_an_order_can_be_cancelled(english):
    entries = [Entry(path=name, type=Kind.FILE, mode="0644", mtime=0, md5="1" * 32) for name in STAR]

    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matching_order(lambda: entries, "0" * 32, check)


# ------------------------------------------------------------------ the content digest

BASE = {b"a": b"content", b"dir/b": b"more", b"link": "a"}


def content_digest(folder: Path) -> str:
    return draft_of(folder, folder.parent / "archives").manifest.content_digest


def test_times_do_not_change_the_content_digest(tmp_path):
    source = make_tree(tmp_path / "source", BASE)
    before = content_digest(source)
    os.utime(source / "a", (5, 5))
    assert content_digest(source) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda source: (source / "a").write_bytes(b"CONTENT"),
        lambda source: (source / "a").chmod(0o600),
        lambda source: (source / "dir/b").rename(source / "dir/c"),
        lambda source: (source / "new").mkdir(),
        lambda source: (source / "empty").touch(),
        lambda source: [(source / "link").unlink(), (source / "link").symlink_to("dir/b")],
        lambda source: [(source / "link").unlink(), (source / "link").write_bytes(b"content")],
    ],
    ids=["content", "mode", "name", "folder", "file", "target", "type"],
)
def test_anything_else_changes_it(change, tmp_path):
    source = make_tree(tmp_path / "source", BASE)
    before = content_digest(source)
    change(source)
    assert content_digest(source) != before


def test_the_content_digest_is_what_its_description_says(tmp_path):
    source = make_tree(tmp_path / "source", {b"a": b"x", b"link": "a"})
    source.chmod(0o755)
    (source / "a").chmod(0o644)
    sums = md5(b"x").encode()
    members = [
        b"folder",
        b"755",
        b"0",
        b"",
        b"",
        b"file",
        b"644",
        b"1",
        sums,
        b"a",
        b"link",
        b"777",
        b"0",
        b"a",
        b"link",
    ]
    text = b"refgenied content 1\0" + b"".join(field + b"\0" for field in members)
    assert content_digest(source) == hashlib.sha256(text).hexdigest()
