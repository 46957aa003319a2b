"""The manifest and the list of members: written for people, read with care."""

import datetime as dt
import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from packing import KEY, make_tree, publish

from refgenied.archive.format import entries as entries_module
from refgenied.archive.format import seal
from refgenied.archive.format.entries import Entry, EntryList, Sidecar, sidecar_entries
from refgenied.archive.format.manifest import (
    MAX_MANIFEST_BYTES,
    About,
    BrokenSealError,
    encode,
    iter_files,
    read_manifest,
)
from refgenied.archive.place import Place
from refgenied.archive.presence import settle
from refgenied.genomes.member import Kind
from refgenied.model import (
    ArchiveNotFoundError,
    AssetKey,
    BadRegistryPathError,
    BuildRecord,
    DamagedArchiveError,
    UnreadableError,
)

INLINE = 100

ABOUT = About(
    created_at=1.25,
    aliases=("hg38", "GRCh38"),
    description="the genome",
    seek_keys={"fasta": "a.fa", "dir": "."},
    parents=("p/q:r",),
    children=("c/d:e",),
    build=BuildRecord(commands=("cp a b",), recipe={"name": "fasta", "nested": {"x": [1, None]}}, log_name="log.md"),
    stamp="stamp",
    files_stamp="files stamp",
    requested_by="root",
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    source = make_tree(tmp_path / "source", {b"a.fa": b"ACGT", b"odd\xff": b"x", b"link": "a.fa"})
    return publish(source, tmp_path / "archives", about=ABOUT).place


@pytest.fixture
def many(tmp_path: Path, monkeypatch) -> Place:
    monkeypatch.setattr(entries_module, "MAX_INLINE_ENTRIES", INLINE)
    source = make_tree(tmp_path / "source", {b"%05d" % number: b"%d" % number for number in range(INLINE + 1)})
    return publish(source, tmp_path / "archives", about=ABOUT).place


def test_it_comes_back_as_it_was_written(place, tmp_path):
    manifest = read_manifest(place.manifest)
    assert place.manifest.read_bytes() == encode(manifest)
    assert manifest.build == ABOUT.build
    assert manifest.key == KEY
    assert (manifest.seek_keys, manifest.parents, manifest.children) == (ABOUT.seek_keys, ABOUT.parents, ABOUT.children)
    assert manifest.codec.name == "balanced"


def test_it_is_json_with_a_key_a_line_and_a_member_a_line(place):
    lines = place.manifest.read_text().splitlines()
    whole = json.loads(place.manifest.read_text())
    assert list(whole)[:4] == ["format", "genome_digest", "asset_group", "asset"]
    assert len(lines) == len(whole) + len(whole["entries"]) + 3
    assert [json.loads(line.rstrip(",")) for line in lines if line.startswith("    ")] == whole["entries"]


def test_names_that_are_not_utf8_are_exact_and_shown(place):
    entries = {entry.raw_path: entry for entry in iter_files(place.manifest)}
    assert entries[b"odd\xff"].path == "odd\\xff"
    assert entries[b"a.fa"].path_b64 == ""
    assert entries[b"link"].raw_target == b"a.fa"


def test_fields_of_a_later_version_are_passed_over(place):
    whole = json.loads(place.manifest.read_text())
    whole["new"] = {"a": 1}
    whole["entries"][0]["new"] = 2
    del whole["seal"]
    body = json.dumps(whole, indent=2).removesuffix("\n}").encode()
    place.manifest.write_bytes(seal.sealed(body))
    assert read_manifest(place.manifest).key == KEY
    place.manifest.write_bytes(seal.sealed(body).replace(b'"a": 1', b'"a": 2'))  # the seal covers what we don't know
    with pytest.raises(BrokenSealError):
        read_manifest(place.manifest)


def test_one_changed_byte_anywhere_is_noticed(place):
    text = place.manifest.read_bytes()
    name = range(text.rindex(b'"seal"') + 1, text.rindex(b'"seal"') + 5)  # another name of it: as if there were none
    for at in set(range(len(text))) - set(name):
        place.manifest.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        with pytest.raises(DamagedArchiveError):
            read_manifest(place.manifest)


def test_one_of_a_version_that_knew_no_seal_is_valid_and_gets_one_when_it_is_written_again(place):
    sealed = place.manifest.read_bytes()
    place.manifest.write_bytes(sealed.partition(b',\n  "seal"')[0] + b"\n}\n")
    manifest = read_manifest(place.manifest)
    assert manifest.seal == ""
    assert manifest.record("x").seal is None
    assert encode(manifest) == sealed


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"format": 1}', b'{"format": "1"}', b"\0" * 4096],
)
def test_garbage_is_a_damaged_archive_that_names_the_file(text, place):
    place.manifest.write_bytes(text)
    with pytest.raises(DamagedArchiveError, match=r"fasta__default\.json is not a manifest"):
        read_manifest(place.manifest)


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path)]
)
def test_something_else_than_a_file_is_a_damaged_archive_too(make, place):
    place.manifest.unlink()
    make(place.manifest)
    with pytest.raises(DamagedArchiveError, match=r"fasta__default\.json is not a manifest"):
        read_manifest(place.manifest)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mode":"0644"', '"mode":"06x4"'),
        ('"mtime":', '"mtime":99999999999999999999'),
        ('"offset":', '"offset":-'),
        ('"size":4', '"size":-4'),
        ('"path_b64":"', '"path_b64":"='),
        ('"path":"a.fa"', '"path":"\\ud800"'),
        ('"blocks": {"size":1048576', '"blocks": {"size":0'),
        ('"compressed":[', '"compressed":[-1,'),
        ('"compressed":[', '"compressed":[1000000000000,'),
        ('"source_size":', '"source_size":99999999999999999999'),
    ],
)
def test_values_that_nothing_could_work_with_are_damage(old, new, place):
    text = place.manifest.read_text()
    assert old in text
    place.manifest.write_text(text.replace(old, new, 1))
    with pytest.raises(DamagedArchiveError):
        read_manifest(place.manifest)


def test_a_list_with_a_name_that_no_file_has_is_damage(many):
    text = many.manifest.read_text()
    name = read_manifest(many.manifest).entries_file.name
    many.manifest.write_text(text.replace(name, "a\\u0000b"))
    with pytest.raises(DamagedArchiveError):
        read_manifest(many.manifest)


@pytest.mark.parametrize("future", [{}, {"entries": "in another way"}], ids=["alike", "quite different"])
def test_a_format_of_the_future_is_refused_and_is_no_damage(place, future):
    whole = json.loads(place.manifest.read_text()) | {"format": 2} | future
    place.manifest.write_text(json.dumps(whole))
    with pytest.raises(UnreadableError, match=r"has format 2, .*a newer refgenied wrote it"):
        read_manifest(place.manifest)
    with pytest.raises(UnreadableError, match="has format 2"):
        settle(place)


def test_a_missing_one_is_not_found(tmp_path):
    with pytest.raises(ArchiveNotFoundError):
        read_manifest(tmp_path / "none.json")
    with pytest.raises(UnreadableError):
        read_manifest(tmp_path / ("x" * 300))


def test_a_recipe_with_dates_does_not_stop_an_archive(tmp_path):
    about = About(created_at=0.0, build=BuildRecord(recipe={"on": [dt.date(2026, 1, 2), "x"], 3: float("nan")}))
    place = publish(make_tree(tmp_path / "source", {b"a": b""}), tmp_path / "archives", about=about).place
    assert read_manifest(place.manifest).build.recipe == {"on": ["2026-01-02", "x"], "3": None}


def test_half_characters_do_not_stop_an_archive(tmp_path):
    about = About(created_at=0.0, description="bad \ud800", build=BuildRecord(recipe={"\udfff": ["\ud800"]}))
    place = publish(make_tree(tmp_path / "source", {b"a": b""}), tmp_path / "archives", about=about).place
    assert read_manifest(place.manifest).description == "bad ?"
    assert read_manifest(place.manifest).build.recipe == {"?": ["?"]}


# ------------------------------------------------------------------ long lists


def test_a_long_list_stands_beside_the_manifest(many):
    manifest = read_manifest(many.manifest)
    assert manifest.entries is None
    assert manifest.entries_file.entries == INLINE + 2  # the folder itself
    assert manifest.entries_file.size == many.entries.stat().st_size
    entries = list(iter_files(many.manifest))
    assert [entry.path for entry in entries] == ["", *(f"{number:05}" for number in range(INLINE + 1))]
    with gzip.open(many.entries) as lines:
        assert [json.loads(line)["path"] for line in lines] == [entry.path for entry in entries]


@pytest.mark.parametrize("damage", ["missing", "cut", "byte", "other", "garbage"])
def test_a_damaged_list_is_a_damaged_archive(damage, many):
    data = many.entries.read_bytes()
    if damage == "missing":
        many.entries.unlink()
    elif damage == "cut":
        many.entries.write_bytes(data[:-20])
    elif damage == "byte":
        many.entries.write_bytes(data[:300] + bytes([data[300] ^ 1]) + data[301:])
    elif damage == "other":
        many.entries.write_bytes(gzip.compress(gzip.decompress(data).replace(b'"0644"', b'"0666"')))
    else:
        many.entries.write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(DamagedArchiveError, match=r"files\.jsonl\.gz"):
        list(iter_files(many.manifest))


def test_a_long_list_needs_little_memory(tmp_path):
    tracemalloc.start()
    with EntryList("list", tmp_path / "list") as entries:
        for number in range(30_000):
            path = f"a/rather/long/path/to/a/file/{number}"
            entries.add([Entry(path=path, type=Kind.FILE, mode="0644", mtime=0, size=number, md5=f"{number:032x}")])
        inline, sidecar = entries.finish()
    assert inline is None
    assert sum(1 for _ in sidecar_entries(tmp_path / "list", sidecar)) == 30_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


# ------------------------------------------------------------------ places


def test_the_path_is_refgenie_1s(tmp_path):
    place = Place(tmp_path, AssetKey("digest", "bowtie2_index", "v2.5"))
    assert place.relative == "digest/bowtie2_index/v2.5/bowtie2_index__v2.5.tgz"
    assert place.archive == tmp_path / place.relative
    assert place.manifest.name == "bowtie2_index__v2.5.json"
    assert place.archive_partial.name == ".bowtie2_index__v2.5.tgz.partial"


@pytest.mark.parametrize("bad", ["", ".", "..", "../x", "a/b", "/a", "a\0b", ".hidden", "a\nb", "\udcff"])
@pytest.mark.parametrize("where", range(3))
def test_names_that_lead_elsewhere_are_refused(bad, where, tmp_path):
    parts = ["genome", "group", "asset"]
    parts[where] = bad
    with pytest.raises(BadRegistryPathError):
        Place(tmp_path, AssetKey(*parts))


def test_neither_a_manifest_nor_its_list_is_read_without_a_bound(tmp_path):
    path = tmp_path / "fasta__default.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DamagedArchiveError, match=f"it has {1 << 40} bytes, and at most {MAX_MANIFEST_BYTES} are read"):
        read_manifest(path)
    listing = tmp_path / "list.gz"
    with gzip.open(listing, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(b" " * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedArchiveError):
            list(sidecar_entries(listing, Sidecar(name="list.gz", entries=1, size=1, md5="0" * 32)))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
