"""A word to systemd: it arrives, and nobody waits for who does not listen."""

import socket
from pathlib import Path

import pytest

from refgenied.systemd.notify import notify


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield found


def test_all_assignments_are_one_message(listener: socket.socket) -> None:
    notify("READY=1", "STATUS=idle")
    assert listener.recv(1000) == b"READY=1\nSTATUS=idle"


@pytest.mark.usefixtures("listener")
def test_a_listener_that_does_not_read_holds_nobody_up() -> None:
    for _ in range(10_000):  # it would block for ever when the queue is full
        notify("WATCHDOG=1")


def test_without_a_listener_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")
