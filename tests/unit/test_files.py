"""Files, once: what is opened cannot hold us up, what is written is whole."""

import errno
import os
import resource
from pathlib import Path

import pytest

from refgenied.files.durable import LONGEST_NAME_BYTES, partial_of, save_atomically, writing
from refgenied.files.regular import open_regular, read_regular, reading
from refgenied.model import NoSpaceError, ShortageError, UnreadableError, WriteError


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_a_terminal(path: Path) -> None:
    _, terminal = os.openpty()
    path.symlink_to(os.ttyname(terminal))


def a_folder(path: Path) -> None:
    path.mkdir()


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [a_fifo, a_link_to_a_terminal, a_folder, a_device])
def test_only_regular_files_are_opened_and_nothing_holds_us_up(tmp_path: Path, make) -> None:
    make(tmp_path / "name")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "name")
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refused:
        open_regular(tmp_path / "name")
    assert refused.value.filename == str(tmp_path / "name")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="Too many levels"):
        open_regular(tmp_path / "circle")


def test_nothing_is_read_from_the_kernels_own_files(tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.symlink_to("/proc/self/status")
    assert read_regular(path) == read_regular(path, 10) == b""


def test_a_large_file_is_refused_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    assert read_regular(path, 1000) == b"x" * 1000
    with pytest.raises(OSError, match="it has 1000 bytes, and at most 999 are read") as refused:
        read_regular(path, 999)
    assert refused.value.errno == errno.EFBIG


def test_saving_replaces_what_is_there_even_a_link_or_a_fifo(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("others'")
    path = tmp_path / "file"
    path.symlink_to(other)
    assert save_atomically(path, b"others'")  # the same text, but through a link
    assert not path.is_symlink()
    assert not save_atomically(path, b"others'")
    path.unlink()
    os.mkfifo(path)
    assert save_atomically(path, b"ours")
    assert (path.read_bytes(), other.read_text()) == (b"ours", "others'")
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # Python ignores SIGXFSZ, so that a write fails with EFBIG
    try:
        with pytest.raises(OSError, match="File too large"):
            save_atomically(path, b"n" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["a" * 246, "a" * 247, "é" * 127, "a" * LONGEST_NAME_BYTES])
def test_every_name_that_fits_has_a_partial_name_that_fits(tmp_path: Path, name: str) -> None:
    partial = partial_of(tmp_path / name)
    assert len(os.fsencode(partial.name)) <= LONGEST_NAME_BYTES
    assert partial.name.startswith(".")
    assert partial.name.endswith(".partial")
    assert save_atomically(tmp_path / name, b"x")
    assert os.listdir(tmp_path) == [name]


def test_two_long_names_have_two_partial_names(tmp_path: Path) -> None:
    assert partial_of(tmp_path / ("a" * 250 + ".json")) != partial_of(tmp_path / ("a" * 250 + ".jsom"))


@pytest.mark.parametrize(
    ("number", "read", "written"),
    [
        (errno.EMFILE, ShortageError, ShortageError),
        (errno.ENFILE, ShortageError, ShortageError),
        (errno.ENOMEM, ShortageError, ShortageError),
        (errno.ENOSPC, UnreadableError, NoSpaceError),
        (errno.EDQUOT, UnreadableError, NoSpaceError),
        (errno.EIO, UnreadableError, WriteError),
        (errno.EACCES, UnreadableError, WriteError),
    ],
)
def test_what_the_system_says_tells_a_shortage_from_a_fault(tmp_path: Path, number: int, read, written) -> None:
    with pytest.raises(read, match="cannot be read"), reading(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    with pytest.raises(written), writing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
