"""Packing: any tree, any reader, the same bytes, nothing left behind."""

import gzip
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packing import FOLDER, KEY, below, draft_of, make_tree, md5, noise, publish

from refgenied.archive.format import tar
from refgenied.archive.format.manifest import About, iter_files
from refgenied.archive.run import Phase
from refgenied.genomes.member import Kind
from refgenied.model import (
    SourceChangedError,
    UnsafeTreeError,
    WriteError,
)

PLAIN = {
    b"genome.fa": b">1\nACGT\n" * 1000,
    b"genome.fa.fai": b"1\t4\n",
    b"empty": b"",
    b"index/part.1": noise(3_000_000),
    b"index/part.2": b"\0" * 2_500_000,
    b"index/hollow": FOLDER,
    b"link": "index/part.1",
    b"index/up": "../genome.fa",
    b"--help": b"a name that looks like an option",
}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source", PLAIN)


def assert_same_tree(one: Path, other: Path, *, folder_times: bool = True) -> None:
    """Names, types, contents, modes, link targets and times in whole seconds."""
    first, second = os.fsencode(one), os.fsencode(other)
    seen = []
    for root in (first, second):
        found = {}
        for folder, folders, files in os.walk(root):
            for name in [b".", *folders, *files]:
                path = os.path.join(folder, name)
                info = os.lstat(path)
                what = (
                    os.readlink(path)
                    if os.path.islink(path)
                    else Path(os.fsdecode(path)).read_bytes()
                    if os.path.isfile(path)
                    else b""
                )
                timeless = os.path.islink(path) or (os.path.isdir(path) and not folder_times)
                time_of = None if timeless else int(info.st_mtime // 1)
                mode = None if os.path.islink(path) else info.st_mode
                found[os.path.relpath(path, root)] = (mode, what, time_of)
        seen.append(found)
    assert seen[0] == seen[1]


EXTRACTORS = {
    "tar": ["tar", "xpzf", "{archive}", "-C", "{to}"],
    "bsdtar": ["bsdtar", "-xpf", "{archive}", "-C", "{to}"],
    "busybox": ["busybox", "tar", "-xpzf", "{archive}", "-C", "{to}"],
    "python": [
        sys.executable,
        "-c",
        (
            "import sys, tarfile; tar = tarfile.open(sys.argv[1]); "
            "tar.extraction_filter = getattr(tarfile, 'fully_trusted_filter', None); tar.extractall(sys.argv[2])"
        ),
        "{archive}",
        "{to}",
    ],
}
needs = {
    name: pytest.param(name, marks=pytest.mark.skipif(not shutil.which(command[0]), reason=f"{name} is not installed"))
    for name, command in EXTRACTORS.items()
}


def extract(tool: str, archive: Path, to: Path) -> Path:
    to.mkdir()
    command = [word.format(archive=archive, to=to) for word in EXTRACTORS[tool]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stderr) == (0, "")
    return to / KEY.asset


@pytest.mark.parametrize("tool", needs.values())
def test_every_reader_gets_the_tree_back(tool, plain, tmp_path):
    set_id = 0o6000 if os.geteuid() == 0 else 0  # others get none back from bsdtar and busybox
    os.chmod(plain / "genome.fa", set_id | 0o741)
    os.chmod(plain / "index/hollow", 0o700)
    os.utime(plain / "empty", (0, 12345.75))
    os.utime(plain / "index", (0, 54321))
    draft = publish(plain, tmp_path / "archives")
    out = extract(tool, draft.place.archive, tmp_path / "out")
    assert_same_tree(plain, out, folder_times=tool != "busybox")  # it sets a folder's time before it fills it


@pytest.mark.parametrize("tool", needs.values())
def test_every_reader_gets_odd_names_back(tool, tmp_path):
    odd = {
        b"n" * 255: b"long",
        b"/".join([b"d" * 200] * 4) + b"/deep": b"deep",
        b"e" * 92: b"exactly 100 with the folder",
        b"f" * 93: b"one more",
        "größe-ДНК-配列".encode(): b"utf-8",
        b"latin-\xe9\xff": b"not utf-8",
        b"new\nline": b"newline",
        b"back\\slash": b"backslash",
        b" blank ": b"blank",
        b"links/" + b"l" * 120: "../" + "n" * 255,
        b"deep-link": "/".join(["d" * 200] * 4) + "/deep",
    }
    if tool == "bsdtar":
        odd.pop(b"latin-\xe9\xff")  # it wants names in its locale's encoding
    source = make_tree(tmp_path / "source", odd)
    draft = publish(source, tmp_path / "archives")
    out = extract(tool, draft.place.archive, tmp_path / "out")
    assert_same_tree(source, out, folder_times=tool != "busybox")


@pytest.mark.skipif(not shutil.which("bsdtar"), reason="bsdtar is not installed")
def test_bsdtar_reads_names_that_are_not_utf8_in_the_c_locale(tmp_path):
    source = make_tree(tmp_path / "source", {b"latin-\xe9\xff": b"x"})
    draft = publish(source, tmp_path / "archives")
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["bsdtar", "-xf", draft.place.archive, "-C", tmp_path / "out"], check=True, env=os.environ | {"LC_ALL": "C"}
    )
    assert os.listdir(os.fsencode(tmp_path / "out/default")) == [b"latin-\xe9\xff"]


@pytest.mark.parametrize("command", ["gzip", "pigz", "igzip"])
def test_every_gunzip_reads_all_members(command, plain, tmp_path):
    if not shutil.which(command):
        pytest.skip(f"{command} is not installed")
    draft = publish(plain, tmp_path / "archives")
    content = subprocess.run([command, "-dc", draft.place.archive], capture_output=True, check=True).stdout
    with gzip.open(draft.place.archive) as whole:
        assert content == whole.read()
    assert len(content) % tar.RECORD == 0


def test_gnu_tar_has_nothing_to_say_about_it(plain, tmp_path):
    draft = publish(plain, tmp_path / "archives")
    done = subprocess.run(["tar", "tvzf", draft.place.archive, "--numeric-owner"], capture_output=True, check=True)
    assert done.stderr == b""
    assert all(line.split()[1] == b"0/0" for line in done.stdout.splitlines()), done.stdout
    listed = [line.split()[5] for line in done.stdout.splitlines()]
    assert listed == sorted(listed)
    assert listed[0] == b"default/"


def test_threads_and_repetition_do_not_change_the_bytes(plain, tmp_path):
    seen = set()
    for number, threads in enumerate([1, 2, 8, 1]):
        draft = publish(plain, tmp_path / f"archives{number}", threads=threads)
        seen.add(draft.place.archive.read_bytes())
        assert md5(draft.place.archive.read_bytes()) == draft.manifest.digest
    assert len(seen) == 1


def test_a_copy_with_the_same_times_gives_the_same_bytes(plain, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", plain, copy], check=True)
    one, two = (publish(folder, tmp_path / f"a-{folder.name}").manifest for folder in (plain, copy))
    assert (one.digest, one.content_digest) == (two.digest, two.content_digest)


def test_each_block_is_a_gzip_member_without_time_and_name(plain, tmp_path):
    draft = publish(plain, tmp_path / "archives")
    data = draft.place.archive.read_bytes()
    blocks, begin, stream = draft.manifest.blocks, 0, b""
    for size in blocks.compressed:
        member = data[begin : begin + size]
        assert member[:4] == b"\x1f\x8b\x08\x00"  # no name, no comment
        assert member[4:8] == b"\0\0\0\0"  # no time
        one = subprocess.run(["gzip", "-dc"], input=member, capture_output=True, check=True).stdout
        assert len(one) == blocks.size or begin + size == len(data)
        stream += one
        begin += size
    assert begin == len(data) == draft.manifest.size
    for entry in iter_files(draft.place.manifest):
        if entry.type is Kind.FILE:
            content = stream[entry.offset : entry.offset + entry.size]
            assert content == PLAIN[entry.raw_path]
            assert md5(content) == entry.md5


def test_the_manifest_tells_what_is_inside(plain, tmp_path):
    about = About(
        created_at=7.0,
        aliases=("hg38",),
        description="d",
        seek_keys={"fasta": "genome.fa"},
        stamp="s",
        files_stamp="f",
        requested_by="me",
    )
    manifest = publish(plain, tmp_path / "archives", about=about).manifest
    assert manifest.totals.files == sum(isinstance(what, bytes) for what in PLAIN.values())
    assert manifest.totals.links == 2
    assert manifest.totals.folders == 3
    assert manifest.totals.source_size == sum(len(what) for what in PLAIN.values() if isinstance(what, bytes))
    assert (manifest.aliases, manifest.seek_keys, manifest.stamp) == (("hg38",), {"fasta": "genome.fa"}, "s")
    record = manifest.record("x.tgz", proved_at=8.0)
    assert (record.files, record.digest, record.proved_at) == (manifest.totals.files, manifest.digest, 8.0)


def test_progress_is_in_source_bytes_and_ends_at_all_of_them(plain, tmp_path):
    seen: list[tuple[Phase, int, int]] = []
    manifest = draft_of(plain, tmp_path / "archives", on_progress=lambda *seen_now: seen.append(seen_now)).manifest
    total = manifest.totals.source_size
    assert {count for _, _, count in seen} == {total}
    for phase in (Phase.PACKING, Phase.PROVING):
        done = [count for which, count, _ in seen if which is phase]
        assert done == sorted(done)
        assert done[-1] == total


def test_an_empty_asset_is_an_archive_too(tmp_path):
    source = make_tree(tmp_path / "source", {})
    draft = publish(source, tmp_path / "archives")
    with tarfile.open(draft.place.archive) as archive:
        assert archive.getnames() == ["default"]
    assert draft.manifest.totals.files == 0
    assert draft.manifest.asset_digest == md5(b"")


# ------------------------------------------------------------------ arbitrary trees

part = st.binary(min_size=1, max_size=255).filter(
    lambda raw: b"\0" not in raw and b"/" not in raw and raw not in (b".", b"..")
)
part = st.one_of(part, st.sampled_from([b"-rf", b"a", b"a.b", b"a-b", b"A", b"\n", b"\xff" * 255, b"\\", b"*"]))
trees = st.recursive(
    st.tuples(st.binary(max_size=600), st.sampled_from([0, 1, 1, 1, 2, 511, 512, 5000]), st.integers(0, 0o7777)),
    lambda below: st.dictionaries(part, below, max_size=4),
    max_leaves=10,
).filter(lambda tree: isinstance(tree, dict) and b"_refgenie_build" not in tree)


def write_tree(folder: bytes, tree: dict[bytes, object]) -> None:
    os.mkdir(folder)
    for name, what in tree.items():
        path = folder + b"/" + name
        if isinstance(what, dict):
            write_tree(path, what)
        else:
            data, times, mode = what
            with open(path, "wb") as file:
                file.write(data * times)
            os.chmod(path, mode if os.geteuid() == 0 else mode | 0o400)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees)
def test_any_tree_comes_back(tree):
    with tempfile.TemporaryDirectory(prefix="archive-") as name:
        folder = Path(name)
        write_tree(os.fsencode(folder / "source"), tree)
        (folder / "source" / "zz").write_bytes(b"ACGT" * 300_000)  # several blocks
        draft = publish(folder / "source", folder / "archives", threads=2)
        subprocess.run(["tar", "xpzf", draft.place.archive, "-C", folder], check=True, stderr=subprocess.PIPE)
        assert_same_tree(folder / "source", folder / "default")
        listed = [entry.raw_path + b"/" * (entry.type is Kind.FOLDER) for entry in iter_files(draft.place.manifest)]
        assert listed[0] == b"/"
        assert listed[1:] == sorted(listed[1:])


# ------------------------------------------------------------------ what goes wrong


class Stop(BaseException):
    """As asyncio's CancelledError: not an Exception."""


@pytest.mark.parametrize("when", [1, 2, 10, 40, 70])
def test_a_cancel_reaches_the_caller_and_leaves_nothing(when, tmp_path):
    source = make_tree(tmp_path / "source", {b"a": noise(20_000_000), b"b": b"ACGT" * 5_000_000})
    calls = 0
    cancelled_at = 0.0

    def check():
        nonlocal calls, cancelled_at
        calls += 1
        if calls >= when:
            cancelled_at = time.process_time()  # other work on the machine doesn't count
            raise Stop

    before = threading.active_count()
    with pytest.raises(Stop):
        draft_of(source, tmp_path / "archives", threads=2, check=check)
    assert time.process_time() - cancelled_at < 0.5
    assert threading.active_count() == before
    assert below(tmp_path / "archives") == []


def test_check_and_progress_are_called_in_the_callers_thread(plain, tmp_path):
    threads = set()
    draft_of(
        plain,
        tmp_path / "archives",
        threads=2,
        check=lambda: threads.add(threading.get_ident()),
        on_progress=lambda *_: threads.add(threading.get_ident()),
    )
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("phase", [Phase.PACKING, Phase.PROVING])
def test_a_progress_callback_that_raises_ends_it_too(phase, plain, tmp_path):
    def on_progress(now, done, total):
        if now is phase:
            raise Stop

    with pytest.raises(Stop):
        draft_of(plain, tmp_path / "archives", on_progress=on_progress)
    assert below(tmp_path / "archives") == []


@pytest.mark.parametrize("change", ["grow", "shrink", "touch", "replace", "vanish"])
def test_a_file_that_changes_while_it_is_read_fails_the_attempt(change, tmp_path):
    source = make_tree(tmp_path / "source", {b"big": b"A" * 5_000_000, b"then": b"x"})
    big = source / "big"
    about = About(created_at=0.0)
    calls = 0

    def check():
        nonlocal calls
        calls += 1
        if calls == 7:  # each member was looked at once; in the middle of `big`
            if change == "grow":
                with big.open("ab") as file:
                    file.write(b"more")
            elif change == "shrink":
                os.truncate(big, 4_000_000)
            elif change == "touch":
                os.utime(big, (1, 1))
            elif change == "replace":
                big.unlink()
                big.write_bytes(b"A" * 5_000_000)
            else:
                (source / "then").unlink()

    with pytest.raises(SourceChangedError, match="then" if change == "vanish" else "big"):
        draft_of(source, tmp_path / "archives", about=about, check=check)
    assert below(tmp_path / "archives") == []


def test_an_unsafe_tree_leaves_nothing(tmp_path):
    source = make_tree(tmp_path / "source", {b"a": noise(3_000_000), b"b": "/etc/passwd"})
    with pytest.raises(UnsafeTreeError):
        draft_of(source, tmp_path / "archives")
    assert below(tmp_path / "archives") == []


def test_a_file_size_limit_is_a_write_error(tmp_path):
    source = make_tree(tmp_path / "source", {b"a": noise(3_000_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        with pytest.raises(WriteError, match="fasta__default"):
            draft_of(source, tmp_path / "archives")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert below(tmp_path / "archives") == []


def test_what_stopped_it_is_told_even_if_the_rest_cannot_be_removed(plain, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(30, "Read-only file system")

    def check():
        if any((tmp_path / "archives").rglob("*.partial")):
            monkeypatch.setattr(os, "unlink", fail)
            raise Stop

    with pytest.raises(Stop):
        draft_of(plain, tmp_path / "archives", check=check, about=About(created_at=0.0))


@pytest.mark.parametrize("name", ["fsync", "write"])
def test_a_disk_that_fails_is_a_write_error(name, plain, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(WriteError, match="Input/output error"):
        draft_of(plain, tmp_path / "archives")
    monkeypatch.undo()
    assert [name for name in below(tmp_path / "archives") if name.endswith("partial")] == []
