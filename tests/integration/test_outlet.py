"""Who reads the log, or does not, holds nobody up; what was said comes out whole and in order."""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from lab import PATIENCE, Lab

from refgenied.client import Client
from refgenied.logs import journal
from refgenied.logs.outlet import ENTRY_OVERHEAD_BYTES, Outlet, write_patiently

LINE = 100


def numbered(fd: int, number: int) -> Callable[[], object]:
    return partial(write_patiently, fd, f"{number:<{LINE - 1}}\n".encode())


def told(fd: int, number: int) -> Callable[[], object]:
    return partial(write_patiently, fd, f"{f'lost {number}':<{LINE - 1}}\n".encode())


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "non-blocking"])
def test_nothing_is_lost_and_nobody_waits_while_a_pipe_is_full(blocking: bool) -> None:  # noqa: FBT001
    read, write = os.pipe()
    os.set_blocking(write, blocking)
    outlet = Outlet()
    room = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    many = room // LINE * 3
    for number in range(many):  # three pipes full: with a write that waits this would never end
        outlet.put(numbered(write, number), LINE)
    assert not outlet.flush(0)
    got = b""
    while len(got) < many * LINE:
        got += os.read(read, 1 << 16)
    assert outlet.flush(PATIENCE)
    assert [int(line) for line in got.split()] == list(range(many))
    os.close(read)
    os.close(write)


def test_a_terminal_that_was_stopped_holds_nobody_up() -> None:
    screen, terminal = os.openpty()
    termios.tcflow(terminal, termios.TCOOFF)  # Ctrl-S
    outlet = Outlet()
    for number in range(200):
        outlet.put(numbered(terminal, number), LINE)
    assert not outlet.flush(0)
    termios.tcflow(terminal, termios.TCOON)
    got = b""
    while got.count(b"\n") < 200:
        got += os.read(screen, 1 << 16)
    assert outlet.flush(PATIENCE)
    assert [int(line) for line in got.split()] == list(range(200))
    os.close(screen)
    os.close(terminal)


def test_all_that_was_said_is_written_before_the_process_ends(tmp_path: Path) -> None:
    code = (
        "import structlog; from refgenied import logs; from refgenied.config.settings import Log; "
        "logs.set_up(Log(format='json')); log = structlog.get_logger(); "
        "[log.info('line', number=number) for number in range(5000)]; logs.complain('over', '')"
    )
    with (tmp_path / "log").open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stderr=file, check=True)
    *lines, last = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(5000))
    assert last == "refgenied: over"


def test_what_finds_no_room_is_counted_and_told_in_its_place() -> None:
    read, write = os.pipe()
    stuck = threading.Event()
    outlet = Outlet(most_bytes=10 * (LINE + ENTRY_OVERHEAD_BYTES))
    lost = partial(told, write)
    outlet.put(stuck.wait, LINE, lost)
    for number in range(30):
        outlet.put(numbered(write, number), LINE, lost)
    stuck.set()
    assert outlet.flush(PATIENCE)
    outlet.put(numbered(write, 99), LINE, lost)
    assert outlet.flush(PATIENCE)
    lines = [line.strip() for line in os.read(read, 1 << 16).decode().splitlines()]
    assert lines == [*map(str, range(9)), "lost 21", "99"]
    os.close(read)
    os.close(write)


def test_an_entry_that_is_larger_than_all_the_room_comes_out_alone() -> None:
    outlet = Outlet(most_bytes=10)
    seen: list[str] = []
    outlet.put(partial(seen.append, "large"), 1 << 20)
    assert outlet.flush(PATIENCE)
    assert seen == ["large"]


def test_who_cannot_be_written_to_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    outlet = Outlet()
    outlet.put(numbered(write, 1), LINE)  # EPIPE
    seen: list[int] = []
    outlet.put(partial(seen.append, 2), LINE)
    assert outlet.flush(PATIENCE)
    assert seen == [2]
    os.close(write)


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    outlet = Outlet()
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    threads = [
        threading.Thread(
            target=lambda first=first: [outlet.put(numbered(file, n), LINE) for n in range(first, 1000, 4)]
        )
        for first in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outlet.flush(PATIENCE)
    numbers = [int(line) for line in (tmp_path / "log").read_text().split()]
    assert sorted(numbers) == list(range(1000))
    assert [n for n in numbers if n % 4 == 1] == list(range(1, 1000, 4)), "each thread's own order"
    os.close(file)


def test_a_journal_that_does_not_listen_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "journal"))
        outlet = Outlet()
        for number in range(2000):  # a socket takes a few hundred
            outlet.put(partial(journal.write, [("MESSAGE", str(number))], str(tmp_path / "journal")), LINE)
        assert not outlet.flush(0)
        got = [journald.recv(1 << 16) for _ in range(2000)]
        assert outlet.flush(PATIENCE)
    assert got == [f"MESSAGE={number}\n".encode() for number in range(2000)]


# --------------------------------------------------------------------------- the daemon


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGABRT], ids=["SIGTERM", "the watchdog"])
def test_a_daemon_whose_log_nobody_reads_goes_on_answering_and_ends(tmp_path: Path, end: signal.Signals) -> None:
    lab = Lab(tmp_path)
    lab.configure(log={"format": "json", "level": "debug"})
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    daemon = lab.launch(output=write)
    daemon.wait_ready()
    with Client.connect(str(lab.socket)) as client:
        while _waiting(read) < 4096 - 500:
            client.call("server.reload")  # each is a line of the log, and nobody reads them
        for _ in range(20):
            client.call("server.reload")
        assert client.call("server.info")["version"]
    daemon.expected = 0 if end is signal.SIGTERM else -end
    daemon.signal(end)
    assert daemon.ended() == daemon.expected
    lab.close()
    os.close(write)
    os.close(read)


def _waiting(read: int) -> int:
    """Bytes that wait in a pipe."""
    answer = fcntl.ioctl(read, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])


def test_a_command_that_is_refused_ends_although_nobody_reads_why(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    order = [sys.executable, "-m", "refgenied", "run", "--config", str(tmp_path / "absent.toml")]
    done = subprocess.run(order, stdin=subprocess.DEVNULL, stderr=write, check=False, timeout=PATIENCE)
    assert done.returncode == 78
    os.close(write)
    os.close(read)
