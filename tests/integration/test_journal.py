"""What goes to the journal, over its socket and without one."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from refgenied.logs import journal


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "journal"))
        yield listener


def test_an_entry_has_fields_with_every_name_of_the_asset(tmp_path: Path, journald: socket.socket) -> None:
    names = {"d1/fasta:default": ["d1/fasta:default", "hg38/fasta:default"]}
    event = {"event": "job.problem", "level": "warning", "asset": "d1/fasta:default", "job": 3, "error": "two\nlines"}
    fields = journal.fields_of(names.__getitem__, event)
    journal.write(fields, str(tmp_path / "journal"))
    entry = journald.recv(65536)
    for line in (b"PRIORITY=4\n", b"REFGENIED_ASSET=d1/fasta:default\nREFGENIED_ASSET=hg38/fasta:default\n"):
        assert line in entry
    assert b"REFGENIED_JOB=3\n" in entry
    assert b"REFGENIED_ERROR\n\x09\0\0\0\0\0\0\0two\nlines\n" in entry
    assert entry.startswith(b"MESSAGE\n")


def test_a_large_entry_is_handed_over_as_a_sealed_file(tmp_path: Path, journald: socket.socket) -> None:
    journal.write([("MESSAGE", "x" * 1_000_000)], str(tmp_path / "journal"))
    _, rights, _, _ = journald.recvmsg(1, socket.CMSG_LEN(4))
    fd = array.array("i", rights[0][2])[0]
    try:
        assert os.pread(fd, 2_000_000, 0) == b"MESSAGE=" + b"x" * 1_000_000 + b"\n"
        with pytest.raises(PermissionError):
            os.write(fd, b"more")
    finally:
        os.close(fd)


def test_without_a_journal_the_message_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal.write([("MESSAGE", "a\nb"), ("PRIORITY", "4")], str(tmp_path / "none"))
    assert capsys.readouterr().err == "<4>a | b\n"


def test_stderr_is_the_journal_when_its_identity_says_so() -> None:
    info = os.fstat(2)
    assert journal.is_stderr({"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"})
    assert not journal.is_stderr({"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino + 1}"})
    assert not journal.is_stderr({})
