"""Restoring: hostile archives leave nothing, honest ones come back as they were, and nothing is ever overwritten."""

import gzip
import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import msgspec
import pytest
from hostile import archive, bomb, file, folder, link, odd, stream_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packing import FOLDER, below, make_tree, noise, publish

from refgenied.archive import pack, read, restore, verify, vetting
from refgenied.archive.extract import appearing
from refgenied.archive.format.entries import new_entry
from refgenied.archive.format.manifest import encode, read_manifest
from refgenied.archive.format.tar_reader import TarReader
from refgenied.genomes.member import Kind
from refgenied.model import (
    ConflictError,
    DamagedArchiveError,
    MemberNotFoundError,
    NoSpaceError,
    UnsafeTreeError,
)

LONG = "d" * 200


def seen(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything in a folder: kind, mode, seconds, content or target."""
    found: dict[bytes, tuple[object, ...]] = {}
    for place, folders, files in os.walk(os.fsencode(root)):
        for name in [b".", *folders, *files]:
            path = os.path.normpath(os.path.join(place, name))
            info = os.lstat(path)
            what: object = None
            if os.path.islink(path):
                what = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as opened:
                    what = opened.read()
            mode = 0 if os.path.islink(path) else info.st_mode & 0o777
            found[os.path.relpath(path, os.fsencode(root))] = (info.st_mode >> 12, mode, int(info.st_mtime), what)
    return found


def chain(steps: int, name: str) -> list:
    """CVE-2025-4517: folders and links whose resolved path outgrows PATH_MAX: realpath gives up half way."""
    made = [folder("default")]
    at = "default"
    for letter in "abcdefghijklmnop"[:steps]:
        made += [folder(f"{at}/{LONG}"), link(f"{at}/{letter}", LONG)]
        at += f"/{LONG}"
    short = "/".join("abcdefghijklmnop"[:steps])
    made += [
        link(f"default/{short}/{'l' * 254}", "../" * steps),
        link("default/escape", f"{short}/{'l' * 254}/../../../../../../../../{name}"),
        file("default/escape/owned"),
    ]
    return made


HOSTILE = {
    "absolute name": [folder("default"), file("/etc/owned")],
    "absolute name below": [folder("default"), file("default//etc/owned")],
    "two dots": [folder("default"), file("default/../owned")],
    "two dots at the start": [file("../owned")],
    "only two dots": [folder("..")],
    "a dot": [folder("default"), file("default/./owned")],
    "two top folders": [folder("default"), file("other/owned")],
    "top is a file": [file("default")],
    "top is a link": [link("default", "/etc"), file("default/owned")],
    "absolute link": [folder("default"), link("default/l", "/etc")],
    "link out": [folder("default"), link("default/l", "../../x")],
    "link out by a folder": [folder("default"), folder("default/a"), link("default/a/l", "../../x")],
    "link to above": [folder("default"), link("default/l", "..")],
    "file below a link": [folder("default"), link("default/l", "."), file("default/l/owned")],
    "file below a link that comes later": [folder("default"), file("default/l/owned"), link("default/l", "..")],
    "link through a link": [
        folder("default"),
        folder("default/a"),
        folder("default/a/b"),
        link("default/a/b/up", ".."),
        link("default/l", "a/b/up/../.."),
    ],
    "link in a circle": [folder("default"), link("default/a", "b"), link("default/b", "a/x/..")],
    "hard link": [folder("default"), file("default/a"), odd("default/h", tarfile.LNKTYPE, "default/a")],
    "hard link out": [folder("default"), odd("default/h", tarfile.LNKTYPE, "/etc/passwd")],
    "character device": [folder("default"), odd("default/null", tarfile.CHRTYPE)],
    "block device": [folder("default"), odd("default/disk", tarfile.BLKTYPE)],
    "FIFO": [folder("default"), odd("default/pipe", tarfile.FIFOTYPE)],
    "unknown kind": [folder("default"), odd("default/x", b"Z")],
    "twice": [folder("default"), file("default/a", b"1"), file("default/a", b"2")],
    "file and folder": [folder("default"), file("default/a"), folder("default/a")],
    "below a file": [folder("default"), file("default/a"), file("default/a/b")],
    "folder then file": [folder("default"), file("default/a/b"), file("default/a")],
    "too deep": [folder("default"), file("default/" + "d/" * 120 + "f")],
    "name too long": [folder("default"), file("default/" + "n" * 256)],
    "target too long": [folder("default"), link("default/l", "a/" * 2500)],
    "no target": [folder("default"), link("default/l", "")],
    "CVE-2025-4517": chain(16, "etc"),
    "CVE-2025-4517, shorter": chain(3, "etc"),
    "CVE-2025-4138": [folder("default"), link("default/a", "."), link("default/b", "a/../../x")],
    "CVE-2024-12718": [folder("default"), link("default/l", "../../../etc/passwd")],
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(name, form, tmp_path):
    path = archive(tmp_path / "x.tgz", HOSTILE[name], form)
    with pytest.raises(UnsafeTreeError) as caught:
        restore(path, tmp_path / "out" / "deep")
    assert "\n" not in caught.value.message
    assert below(tmp_path) == ["x.tgz"]


GARBLED = {
    "no tar": b"hello" * 200,
    "nothing": b"",
    "a header alone": stream_of([folder("default"), file("default/a", b"x" * 5000)])[:1024],
    "no end": stream_of([folder("default"), file("default/a")])[:1536],
    "something behind the end": stream_of([folder("default")]) + stream_of([file("default/a")]),
    "a wrong checksum": b"dEfault" + stream_of([folder("default")])[7:],
}


@pytest.mark.parametrize("name", GARBLED)
def test_what_is_no_sound_tar_is_refused(name, tmp_path):
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(GARBLED[name]))
    with pytest.raises(DamagedArchiveError):
        restore(path, tmp_path)
    assert below(tmp_path) == ["x.tgz"]


@pytest.mark.parametrize("cut", [1, 9, 40, 100])
def test_a_cut_gzip_is_refused(cut, tmp_path):
    path = archive(tmp_path / "x.tgz", [folder("default"), file("default/a", noise(300))])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DamagedArchiveError):
        restore(path, tmp_path)
    with pytest.raises(DamagedArchiveError):
        verify(path)


def test_a_name_of_ten_gigabytes_is_not_read_into_memory(tmp_path):
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 10 << 30
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(10240)))
    with pytest.raises(DamagedArchiveError, match="header of 10737418240 bytes"):
        restore(path, tmp_path)


def headers(count: int, size: int) -> bytes:
    """So many PAX headers in a row, each full of tiny records of other names."""
    made = b""
    for number in range(count):
        records = b"".join(b"16 %04x%05x=ab\n" % (number, record) for record in range(size // 16))
        head = tarfile.TarInfo("x")
        head.type, head.size = tarfile.XHDTYPE, len(records)
        made += head.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    return made


def test_headers_without_end_are_not_kept_in_memory(tmp_path):
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(headers(3, 500_000) + stream_of([folder("default")])))
    with pytest.raises(DamagedArchiveError, match="in front of one member"):
        restore(path, tmp_path / "out")


def test_a_long_header_is_read_in_one_go(tmp_path):
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(headers(1, 1_000_000) + stream_of([folder("default")])))
    began = time.process_time()
    restore(path, tmp_path / "out")
    assert time.process_time() - began < 1.5  # once it was copied again for each record


def test_names_that_need_too_much_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(vetting, "MAX_NAME_BYTES", 10_000)
    few = [folder("default"), *(file(f"default/{number:0200}") for number in range(40))]
    many = [folder("default"), *(link(f"default/{number}", "x" * 90) for number in range(200))]
    restore(archive(tmp_path / "few.tgz", few), tmp_path / "few")
    with pytest.raises(UnsafeTreeError, match="makes all names together longer than 10000 bytes"):
        restore(archive(tmp_path / "many.tgz", many), tmp_path / "many")


def test_judging_links_can_be_stopped():
    judged = vetting.Vetting("x.tgz")
    judged.add(new_entry(b"link", Kind.LINK, mode=0o777, mtime=1, size=0, target=b"a", offset=0))
    with pytest.raises(StopError):
        judged.finish(stop)


def stop() -> None:
    raise StopError


def test_a_bomb_is_refused_and_leaves_nothing(tmp_path):
    path = bomb(tmp_path / "x.tgz", 80 << 20)
    with pytest.raises(UnsafeTreeError, match="far more than an archive of its size should hold"):
        restore(path, tmp_path / "out")
    assert below(tmp_path) == ["x.tgz"]
    done = restore(path, tmp_path / "out", most=80 << 20)  # who knows what it is may say so
    assert (done.folder / "zeros").stat().st_blocks < 100


def test_a_bomb_that_lies_about_its_size_is_found_by_its_header_alone(tmp_path):
    info = tarfile.TarInfo("default/zeros")
    info.size = 10 << 30
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(stream_of([folder("default")])[:512] + info.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(UnsafeTreeError, match="far more"):
        restore(path, tmp_path / "out")
    assert below(tmp_path) == ["x.tgz"]


def test_more_than_the_disk_has_is_refused_before_anything_is_written(tmp_path):
    draft = publish(make_tree(tmp_path / "default", {b"a": b"1"}), tmp_path / "archives")
    entries = tuple(
        msgspec.structs.replace(entry, size=1 << 60) if entry.type is Kind.FILE else entry
        for entry in draft.manifest.entries
    )
    empty = msgspec.structs.replace(draft.manifest.blocks, compressed=())
    hostile = msgspec.structs.replace(draft.manifest, entries=entries, blocks=empty)
    draft.place.manifest.write_bytes(encode(hostile))
    with pytest.raises(NoSpaceError):
        restore(draft.place.archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_set_id_bits_are_never_given_and_strangers_may_not_write(tmp_path):
    path = archive(tmp_path / "x.tgz", [folder("default", 0o7777), file("default/a", mode=0o6777)])
    done = restore(path, tmp_path)
    assert not done.proved
    assert (done.folder.stat().st_mode & 0o7777, (done.folder / "a").stat().st_mode & 0o7777) == (0o755, 0o755)


def test_zeros_without_end_behind_the_end_are_refused(tmp_path):
    path = tmp_path / "zeros.tgz"
    path.write_bytes(gzip.compress(stream_of([folder("default")]) + bytes(80 << 20), 1))
    with pytest.raises(DamagedArchiveError, match="zeros without end"):
        restore(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", [b"../../evil", b"a/../../../evil", b"/evil", b"./evil"])
def test_a_list_that_is_swapped_after_it_was_judged_does_not_lead_out(path, tmp_path):
    entry = new_entry(path, Kind.FILE, mode=0o644, mtime=1, size=1, md5="", target=b"", offset=0)
    with pytest.raises(UnsafeTreeError), appearing(tmp_path / "in" / "asset") as extraction:
        extraction.file(entry, [memoryview(b"x")])
    assert below(tmp_path) == []


def test_links_that_lead_out_can_be_left_out(tmp_path):
    path = archive(tmp_path / "x.tgz", [folder("default"), file("default/a"), link("default/l", "/data/g/fasta.fa")])
    done = restore(path, tmp_path, leave_out_stray=True)
    assert done.left_out == ("l",)
    assert below(done.folder) == ["a"]


def test_members_without_their_folders_come_back_too(tmp_path):
    path = archive(tmp_path / "x.tgz", [file("./default/a/b/c", b"1"), file("default/d", b"2")])
    done = restore(path, tmp_path)
    assert below(done.folder) == ["a", "a/b", "a/b/c", "d"]
    assert (done.folder / "a").stat().st_mode & 0o777 == 0o755


# --------------------------------------------------------------------------- honest ones

MEMBERS = {
    b"g.fa": noise(2_500_000),
    b"g.fa.fai": b"chr1\t1\n",
    b"empty": b"",
    b"holes": bytes(3_000_000) + b"end" + bytes(200_000),
    b"sub/deep/x": b"x",
    b"sub/link": "deep/x",
    b"nothing": FOLDER,
    b"-rf": b"dash",
    b"new\nline": b"1",
    b"n\xff\xfe": b"2",
    b"l" * 255: b"3",
}


NEEDED = 0 if os.geteuid() == 0 else 0o500
"""What anybody but root needs to read a file or a folder."""


@pytest.mark.parametrize("threads", [1, 3])
def test_what_was_packed_comes_back(threads, tmp_path):
    source = make_tree(tmp_path / "default", MEMBERS)
    os.chmod(source / "g.fa", 0o440)
    os.chmod(source / "sub/deep", 0o500)
    os.chmod(source / "nothing", NEEDED)
    os.utime(source / "sub", (1, 1_000_000_000))
    draft = publish(source, tmp_path / "archives")
    done = restore(draft.place.archive, tmp_path / "out", threads=threads)
    assert done.proved
    assert done.folder == tmp_path / "out/default"
    assert seen(done.folder) == seen(source)
    assert (done.folder / "holes").stat().st_blocks < 3000


def test_it_goes_back_to_where_it_was(tmp_path):
    source = make_tree(tmp_path / "genomes/data/D/fasta/default", {b"a": b"1", b"b": b"2"})
    draft = publish(source, tmp_path / "archives")
    before = seen(source)
    for to in (source, source.parent):
        subprocess.run(["rm", "-r", str(source)], check=True)
        assert restore(draft.place.archive, to).folder == source
        assert seen(source) == before


@pytest.mark.parametrize("there", ["file", "folder", "link", "dangling"])
def test_nothing_is_overwritten(there, tmp_path):
    draft = publish(make_tree(tmp_path / "default", {b"a": b"1"}), tmp_path / "archives")
    target = tmp_path / "out/default"
    target.parent.mkdir()
    if there == "file":
        target.write_bytes(b"mine")
    elif there == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "out" if there == "link" else "nowhere")
    before = seen(tmp_path)
    with pytest.raises(ConflictError, match="in the way"):
        restore(draft.place.archive, target.parent)
    assert seen(tmp_path) == before


def test_some_files_only(tmp_path):
    draft = publish(make_tree(tmp_path / "default", MEMBERS), tmp_path / "archives")
    done = restore(draft.place.archive, tmp_path / "out", ["g.fa.fai", "sub/"])
    assert below(done.folder) == ["g.fa.fai", "sub", "sub/deep", "sub/deep/x", "sub/link"]
    draft.place.manifest.unlink()
    done = restore(draft.place.archive, tmp_path / "again", ["sub/deep"])
    assert below(done.folder) == ["sub", "sub/deep", "sub/deep/x"]
    with pytest.raises(MemberNotFoundError, match="no member nix"):
        restore(draft.place.archive, tmp_path / "never", ["nix"])
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_damaged_archive_leaves_nothing_and_names_the_member(share, tmp_path):
    draft = publish(make_tree(tmp_path / "default", MEMBERS), tmp_path / "archives")
    data = bytearray(draft.place.archive.read_bytes())
    data[int(share * len(data))] ^= 4
    draft.place.archive.write_bytes(data)
    with pytest.raises(DamagedArchiveError, match="member") as caught:
        restore(draft.place.archive, tmp_path / "out")
    assert caught.value.message.count(str(draft.place.archive)) == 1
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_lists_something_else_is_not_believed(tmp_path):
    draft = publish(make_tree(tmp_path / "default", {b"a": b"1", b"b": b"2"}), tmp_path / "archives")
    manifest = read_manifest(draft.place.manifest)
    entries = tuple(
        msgspec.structs.replace(entry, path="c") if entry.path == "b" else entry for entry in manifest.entries
    )
    draft.place.manifest.write_bytes(encode(msgspec.structs.replace(manifest, entries=entries)))
    with pytest.raises(DamagedArchiveError, match="does not list what was packed"):
        restore(draft.place.archive, tmp_path / "out")


class StopError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 5, 8])
def test_a_stop_at_any_moment_leaves_nothing(after, tmp_path):
    draft = publish(make_tree(tmp_path / "default", MEMBERS), tmp_path / "archives")
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > after * 3:
            raise StopError

    before = below(tmp_path)
    with pytest.raises(StopError):
        restore(draft.place.archive, tmp_path / "out/deeper", check=check)
    assert below(tmp_path) == before


def test_more_than_eight_gigabytes_at_the_level_of_headers():
    info = tarfile.TarInfo("default/big")
    info.size = 9 << 30
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        head = stream_of([folder("default")])[:512] + info.tobuf(form)
        members = iter(TarReader(iter([memoryview(head)]), Path("x")))
        assert next(members).kind is Kind.FOLDER
        assert next(members).size == 9 << 30


NAMES = (
    st.one_of(
        st.binary(min_size=1, max_size=20),
        st.sampled_from(
            [b"n" * 255, b"-rf", b"--help", b"new\nline", b"\xff\xfe", b" ", b"...", b"a\\b", "ä€😀".encode()]
        ),
        st.binary(min_size=100, max_size=255),
    )
    .map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda name: name not in (b".", b"..") and not name.startswith(b"_refgenie_build"))
)
MODES = st.sampled_from([0o644, 0o600, 0o444, 0o755, 0o000, 0o777, 0o2755, 0o4755, 0o1644])
LEAVES = st.one_of(st.binary(max_size=2000), st.just(FOLDER), st.integers(1, 3_000_000))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.tuples(NAMES, NAMES, NAMES), st.tuples(LEAVES, MODES), max_size=8), st.integers(1, 4))
@example({(b"a", b"b", b"c"): (2_200_000, 0o000), (b"a", b"b", b"d"): (FOLDER, 0o000)}, 2)
def test_any_tree_comes_back(tmp_path_factory, leaves, threads):
    root = tmp_path_factory.mktemp("any")
    source = root / "default"
    source.mkdir()
    top = os.fsencode(source)
    for (one, two, three), (what, mode) in leaves.items():
        path = b"/".join((top, one, two, three))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if what is FOLDER:
            os.mkdir(path)
        elif isinstance(what, int):  # sparse, with something at its end
            with open(path, "wb") as opened:
                opened.seek(what)
                opened.write(b"end")
        else:
            with open(path, "wb") as opened:
                opened.write(what)
        os.chmod(path, mode | NEEDED)
        os.utime(path, (5, mode * 1000))
    manifest = pack(source, root / "x.tgz", threads=threads)
    assert verify(root / "x.tgz", threads=threads).files == manifest.totals.files
    done = restore(root / "x.tgz", root / "out", threads=threads)
    assert seen(done.folder) == seen(source)
    for (one, two, three), (what, _) in leaves.items():
        if isinstance(what, bytes):
            assert read(root / "x.tgz", os.fsdecode(b"/".join((one, two, three)))) == what
    (root / "x.json").unlink()
    if (root / "x.files.jsonl.gz").exists():
        (root / "x.files.jsonl.gz").unlink()
    again = restore(root / "x.tgz", root / "unproved")
    assert seen(again.folder).keys() == seen(source).keys()
    subprocess.run(["chmod", "-R", "u+rwX", str(root)], check=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=700)), max_size=5), st.integers(1, 999))
def test_any_cut_of_the_stream_is_read_alike(members, size):
    """Pieces may end anywhere: within a header, a long name, a content."""
    made = [file("t/" + os.fsdecode(name) + str(number), content) for number, (name, content) in enumerate(members)]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in made:
            tar.addfile(info, io.BytesIO(content))
    data = stream.getvalue()
    pieces = iter([memoryview(data)[at : at + size] for at in range(0, len(data), size)])
    reader = TarReader(pieces, Path("x"))
    found = [(member.name, b"".join(reader.content())) for member in reader]
    assert found == [(os.fsencode(info.name), content) for info, content in made]


def test_an_entry_of_the_manifest_is_an_entry_of_the_file():
    entry = new_entry(b"a", Kind.FILE, mode=0o644, mtime=1, size=2, md5="", target=b"", offset=3)
    assert (entry.raw_path, entry.permissions, entry.offset) == (b"a", 0o644, 3)
