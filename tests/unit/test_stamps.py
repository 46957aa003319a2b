"""The stamp of an asset's files: the quick way over a plain tree says what the walk says."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refgenied.genomes import plain_tree, stamps
from refgenied.genomes.enclosure import Enclosure
from refgenied.genomes.plain_tree import NotPlainError, plain_members
from refgenied.genomes.stamps import FilesStamp, stamp_files
from refgenied.genomes.walk import Tree
from refgenied.model import SourceChangedError

NAMES = ["a", "b", "a.b", "a-b", "a b", "é", "A", "a0", "_refgenie_build", ".hidden", "z\udcff"]


def walked(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> FilesStamp:
    """The stamp by the walk alone."""
    with monkeypatch.context() as patch, Enclosure(root) as enclosure:
        patch.setattr(plain_tree, "_MOST_NAMES", -1)
        return stamp_files(str(folder), enclosure)


@settings(max_examples=60, deadline=None)
@given(
    paths=st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), max_size=12),
    mode=st.sampled_from([0o644, 0o640, 0o600, 0o444]),
    keeps=st.booleans(),
)
def test_a_plain_tree_has_the_stamp_that_the_walk_gives(tmp_path_factory, *, paths, mode: int, keeps: bool) -> None:
    root = tmp_path_factory.mktemp("genomes")
    folder = root / "data" / "g" / "asset"
    folder.mkdir(parents=True)
    for number, parts in enumerate(paths):
        path = folder.joinpath(*parts)
        if any(one.is_file() for one in (path, *path.parents)) or path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
        path.chmod(mode if number == 0 else 0o644)
    with pytest.MonkeyPatch.context() as patch:
        expected = walked(folder, root, patch)
    with Enclosure(root, keeps_way=keeps) as enclosure:
        plain = list(plain_members(enclosure, str(folder), frozenset({"_refgenie_build"})))
        assert stamp_files(str(folder), enclosure) == expected
    with Tree(folder, within=root) as tree:
        assert [(one.path, one.kind, one.mode) for one in tree] == [line[:3] for line in plain]


def test_what_is_not_plain_takes_the_walk(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "asset"
    folder.mkdir(parents=True)
    (folder / "a").touch()
    (folder / "link").symlink_to("a")
    with Enclosure(tmp_path) as enclosure:
        with pytest.raises(NotPlainError):
            list(plain_members(enclosure, str(folder), frozenset()))
        first = stamp_files(str(folder), enclosure)
        (folder / "link").unlink()
        (folder / "link").symlink_to("./a")
        assert stamp_files(str(folder), enclosure) != first
        (folder / "link").unlink()
        os.mkfifo(folder / "link")
        with pytest.raises(NotPlainError):
            list(plain_members(enclosure, str(folder), frozenset()))


def test_a_file_that_becomes_a_link_or_a_folder_that_is_exchanged_is_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    for what in ("file", "folder", "asset"):
        root = tmp_path / what
        folder = root / "data" / "asset"
        (folder / "sub").mkdir(parents=True)
        (folder / "a").touch()
        with Enclosure(root, keeps_way=True) as enclosure:
            members = plain_members(enclosure, str(folder), frozenset())
            assert next(members)[0] == b""
            changed = {"file": folder / "a", "folder": folder / "sub", "asset": folder}[what]
            changed.rename(tmp_path / f"{what}-away")
            changed.symlink_to(outside / "secret" if what == "file" else outside)
            with pytest.raises((NotPlainError, OSError)):
                list(members)


def test_the_kept_way_leads_to_each_place_and_is_closed(tmp_path: Path) -> None:
    for path in ("a/b/c", "a/b/d", "a/e", "f"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "name").write_text(path)
    before = len(os.listdir("/proc/self/fd"))
    with Enclosure(tmp_path, keeps_way=True) as enclosure:
        for path in ("a/b/c", "a/b/d", "f", "a/e", "a/b/c"):
            parts = (*os.fsencode(path).split(b"/"), b"name")
            fd = enclosure.open_at(parts, os.O_RDONLY)
            assert os.read(fd, 100) == path.encode()
            os.close(fd)
            assert enclosure.lstat(parts).st_size == len(path)
            assert enclosure.folder(tmp_path / path) == parts[:-1]
        (tmp_path / "a" / "link").symlink_to("b")
        assert enclosure.folder(tmp_path / "a/link/c") == (b"a", b"b", b"c")
        with pytest.raises(OSError, match=r"Too many|Not a directory"):
            enclosure.open_at((b"a", b"link", b"c"), os.O_RDONLY)
        with pytest.raises(SourceChangedError):
            enclosure.folder(tmp_path / "a/none")
    assert len(os.listdir("/proc/self/fd")) == before
    assert stamps.access_above(f"{tmp_path}/a/b/c", str(tmp_path), {}) == "everyone"
