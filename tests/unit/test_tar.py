"""Headers: byte for byte what Python's tarfile writes in GNU format."""

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refgenied.archive.format import tar
from refgenied.genomes.member import Kind

TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.FOLDER: tarfile.DIRTYPE, Kind.LINK: tarfile.SYMTYPE}
names = st.binary(min_size=1, max_size=600).map(lambda raw: raw.replace(b"\0", b"x").rstrip(b"/") or b"x")


def by_tarfile(name: bytes, kind: Kind, mode: int, size: int, mtime: int, target: bytes) -> bytes:
    info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    info.type, info.mode, info.size, info.mtime = TYPES[kind], mode, size, mtime
    info.linkname = target.decode("utf-8", "surrogateescape")
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


@given(
    names,
    st.sampled_from(Kind),
    st.integers(0, 0o7777),
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 60),
    names,
)
def test_a_header_is_what_tarfile_writes(name, kind, mode, size, mtime, target):
    full = tar.member_name(b"default", name, kind)
    ours = tar.header(full, kind, mode=mode, size=size, mtime=mtime, target=target)
    assert ours == by_tarfile(full, kind, mode, size, mtime, target)


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 9 << 30, 1 << 50])
@pytest.mark.parametrize("mtime", [-1, -(10**9), 0, 10**9, 8**11])
def test_sizes_over_8_gib_and_times_before_1970_are_read_back(size, mtime):
    ours = tar.header(b"x", Kind.FILE, mode=0o640, size=size, mtime=mtime)
    info = tarfile.TarInfo.frombuf(ours, "utf-8", "surrogateescape")
    assert (info.size, info.mtime, info.mode) == (size, mtime, 0o640)


@pytest.mark.parametrize("length", [0, 512, 10240 - 1024, 10240 - 512, 10240, 10240 * 7 + 512])
def test_the_end_is_two_empty_headers_and_a_whole_record(length):
    end = tar.ending(length)
    assert len(end) >= 1024
    assert (length + len(end)) % tar.RECORD == 0
    assert len(end) < tar.RECORD + 1024
    assert not any(end)


def test_names_end_in_a_slash_for_folders_only():
    assert tar.member_name(b"default", b"", Kind.FOLDER) == b"default/"
    assert tar.member_name(b"default", b"a", Kind.FOLDER) == b"default/a/"
    assert tar.member_name(b"default", b"a/b", Kind.FILE) == b"default/a/b"
