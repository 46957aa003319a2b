"""What no caller of the library can mean is one clear line about the argument, before anything is done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from refgenied import archive
from refgenied.archive import pack, read, restore, verify
from refgenied.archive.discover import find_archive, find_archives
from refgenied.archive.format.codec import ContentAware, Libdeflate
from refgenied.archive.format.manifest import iter_files, read_manifest
from refgenied.archive.presence import places
from refgenied.archive.reader import MemberReader
from refgenied.model import BadArgumentError, BadRegistryPathError, RefgeniedError

CONTENT = b"0123456789"


@pytest.fixture(autouse=True)
def _packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`x.tgz` in the current folder, made of `d/default/a`."""
    monkeypatch.chdir(tmp_path)
    Path("d/default").mkdir(parents=True)
    Path("d/default/a").write_bytes(CONTENT)
    Path("f").touch()
    os.mkfifo("pipe")
    pack("d/default", "x.tgz")


def everything(path: object) -> object:
    return list(iter_files(path))


PATHS: list[Callable[[object], object]] = [
    lambda path: read(path, "a"),
    lambda path: MemberReader(path, "a"),
    verify,
    lambda path: restore(path, "out"),
    lambda path: restore("x.tgz", path),
    lambda path: pack(path, "new.tgz"),
    lambda path: pack("d/default", path),
    read_manifest,
    everything,
    lambda path: list(places(path)),
    lambda path: list(find_archives(path)),
    find_archive,
]


@pytest.mark.parametrize("call", PATHS)
@pytest.mark.parametrize("path", [None, 5, b"x.tgz", "", "a\0b", "a\ud800", ["x.tgz"]], ids=repr)
def test_what_is_no_path(call: Callable[[object], object], path: object) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(BadArgumentError) as raised:
        call(path)
    assert_one_line(raised.value)
    assert sorted(Path().rglob("*")) == before


def assert_one_line(error: RefgeniedError) -> None:
    assert error.message.isprintable(), error.message
    assert isinstance(error, ValueError)


CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "a start before the file": (lambda: read("x.tgz", "a", -1), "start is -1"),
    "a length below nothing": (lambda: read("x.tgz", "a", 0, -3), "length is -3"),
    "both behind the end": (lambda: read("x.tgz", "a", 100, -1), "length is -1"),
    "half a byte": (lambda: read("x.tgz", "a", 1.5), "start must be a whole number"),
    "a number as text": (lambda: read("x.tgz", "a", "1"), "start must be a whole number"),
    "a truth as a number": (lambda: read("x.tgz", "a", 0, length=True), "length must be a whole number"),
    "the reader's start": (lambda: MemberReader("x.tgz", "a").read(-1), "start is -1"),
    "the reader's pieces": (lambda: MemberReader("x.tgz", "a").pieces(0, -1), "length is -1"),
    "no member": (lambda: read("x.tgz", None), "member must be the path of a member"),
    "an empty member": (lambda: read("x.tgz", "/"), "member is empty"),
    "a member that no file can be": (lambda: read("x.tgz", "a\ud800"), "member is 'a\\ud800'"),
    "a manifest": (lambda: read("x.json", "a"), "x.json is a manifest: name the archive that it describes, x.tgz"),
    "the root": (lambda: verify("/"), "archive is '/', a folder"),
    "threads below nothing": (lambda: verify("x.tgz", threads=-1), "threads is -1"),
    "threads as text": (lambda: verify("x.tgz", threads="2"), "threads must be a whole number"),
    "a no that means yes": (lambda: verify("x.tgz", quick="no"), "quick must be True or False, not 'no'"),
    "members": (lambda: verify("x.tgz", members=None), "members must be True or False"),
    "no function": (lambda: verify("x.tgz", check=5), "check must be a function, not 5"),
    "progress": (lambda: restore("x.tgz", "out", on_progress=True), "on_progress must be a function"),
    "one text as files": (lambda: restore("x.tgz", "out", "a"), "files must be a list of members' paths, not 'a'"),
    "one path as files": (lambda: restore("x.tgz", "out", Path("a")), "files must be a list"),
    "no files": (lambda: restore("x.tgz", "out", None), "files must be a list"),
    "a number as files": (lambda: restore("x.tgz", "out", [5]), "files[0] must be the path of a member, not 5"),
    "an empty file": (lambda: restore("x.tgz", "out", ["a", ""]), "files[1] is empty"),
    "most": (lambda: restore("x.tgz", "out", most=-1), "most is -1"),
    "most as text": (lambda: restore("x.tgz", "out", most="1M"), "most must be a whole number, not '1M'"),
    "leave out": (lambda: restore("x.tgz", "out", leave_out_stray=1), "leave_out_stray must be True or False"),
    "a file": (lambda: pack("f", "new.tgz"), "f is not a folder"),
    "a pipe": (lambda: pack("pipe", "new.tgz"), "pipe is not a folder"),
    "nothing": (lambda: pack("nothing", "new.tgz"), "nothing is not there"),
    "in itself": (lambda: pack("d/default", "d/default/new.tgz"), "would lie in the folder that it is made of"),
    "deep in itself": (lambda: pack("d/default", "d/default/sub/new.tgz"), "would lie in the folder"),
    "pack threads": (lambda: pack("d/default", "new.tgz", threads=0.5), "threads must be a whole number"),
    "a codec's name": (lambda: pack("d/default", "new.tgz", codec="small"), "codec.compress must be a function"),
    "a level": (lambda: Libdeflate(13), "level is 13, and 12 is the highest"),
    "a level below": (lambda: Libdeflate(-1), "level is -1"),
    "a preset": (lambda: ContentAware("tiny"), "compression is 'tiny', and must be fast, balanced, small"),
    "a long thing": (lambda: verify("x.tgz", threads=list(range(99))), "threads must be a whole number, not a list"),
}


@pytest.mark.parametrize(("call", "said"), CALLS.values(), ids=CALLS)
def test_what_cannot_be_meant(call: Callable[[], object], said: str) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(BadArgumentError) as raised:
        call()
    assert said in raised.value.message
    assert_one_line(raised.value)
    assert sorted(Path().rglob("*")) == before, "nothing was written"


def test_a_link_leads_into_itself_too() -> None:
    os.symlink("d/default", "link")
    with pytest.raises(BadArgumentError, match="would lie in the folder"):
        pack("d/default", "link/new.tgz")


def test_an_archives_name_ends_in_tgz() -> None:
    with pytest.raises(
        BadRegistryPathError, match=r"'new\.tar\.gz' cannot be the name of an archive: it ends in \.tgz"
    ):
        pack("d/default", "new.tar.gz")


def test_what_can_be_meant() -> None:
    assert read(Path("x.tgz"), "a", 8) == b"89"
    assert read("x.tgz", b"a", 0, 0) == b""
    assert read("x.tgz", "/a", 3, 1 << 80) == CONTENT[3:]
    assert read("x.tgz", Path("a"), 1 << 80) == b""
    assert verify("x.tgz", threads=500).proved
    assert restore("x.tgz", "out", iter(["a"])).files == 1
    assert pack("d/default/", "y.tgz", codec=ContentAware("small"), threads=3).totals.files == 1


def test_every_public_function_is_tried_here() -> None:
    """A new one must be added above."""
    here = Path(__file__).read_text()
    assert {name for name in archive.__all__ if f"{name}(" not in here} == set()
