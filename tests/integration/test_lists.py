"""Lists of several pages, as the client prints them: rows at once, whole in a pipe, nothing hidden on a terminal."""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND
from terminal import Terminal

from refgenied.client import tables
from refgenied.client.tables import Column, Page
from refgenied.shared import output

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]


class Daemon:
    """A daemon that has pages of a list, and gives each of them when the test allows it."""

    def __init__(self, path: Path, pages: Sequence[Sequence[Row]], field: str) -> None:
        self.path = str(path)
        self.asked: list[Row] = []
        self.allowed = threading.Semaphore(0)
        self._pages = pages
        self._field = field
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                self.asked.append(request)
                number = int(request["params"].get("after") or 0)
                following = str(number + 1) if number + 1 < len(self._pages) else None
                self.allowed.acquire()
                result = {self._field: self._pages[number], "next": following}
                reply = {"jsonrpc": "2.0", "id": request["id"], "result": result}
                try:
                    connection.sendall(json.dumps(reply).encode() + b"\n")
                except OSError:
                    return

    def close(self) -> None:
        self._listener.close()


def asset(name: str, why: str = "", state: str = "complete") -> Row:
    row = {"registry_path": f"{'d' * 48}/fasta:{name}", "aliases": ["hg38"], "state": state, "archive": "none"}
    return row | {"job": None, "why_not": why, "access": "everyone", "reason": "a reason"}


def archive(name: str, problem: str = "") -> Row:
    row = {"digest": "5" * 32, "registry_path": f"{'d' * 48}/{name}", "path": f"/archives/{name}.tgz", "size": 10}
    return row | {"download_count": 3, "problem": problem}


LONG = "a-name-that-no-first-page-has-" * 3
ASSETS = [[asset(f"a{n}") for n in range(30)], [asset("b"), asset(LONG, "some words " * 9, "unregistered"), asset("c")]]
ARCHIVES = [[archive(f"a{n}") for n in range(30)], [archive("b"), archive("c", "/archives/c.tgz: No such file")]]


@pytest.fixture
def daemon(tmp_path: Path) -> Generator[Daemon]:
    daemon = Daemon(tmp_path / "s", ASSETS, "assets")
    yield daemon
    daemon.close()


@pytest.fixture(scope="module")
def terminal() -> Generator[Terminal]:
    terminal = Terminal({"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"})
    yield terminal
    terminal.close()


def started(daemon: Daemon, *argv: str) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "REFGENIED_SOCKET": daemon.path}
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, *argv], env=environment, stdout=pipe, stderr=pipe, text=True)


# --------------------------------------------------------------------------- at once


@pytest.mark.parametrize("json_too", [(), ("--json",)], ids=["text", "json"])
def test_the_first_page_is_printed_while_the_second_is_made(daemon: Daemon, json_too: tuple[str, ...]) -> None:
    with started(daemon, "asset", "list", *json_too) as listing:
        assert listing.stdout
        daemon.allowed.release()
        head = [] if json_too else [listing.stdout.readline() for _ in range(2)]
        rows = [listing.stdout.readline() for _ in range(30)]  # it would hang if it waited for the second page
        assert "hg38" in rows[-1]
        daemon.allowed.release()
        rows += listing.stdout.readlines()
    assert listing.returncode == 0
    assert len(rows) == 33
    assert len(head) in (0, 2)
    assert [request["params"].get("after") for request in daemon.asked] == [None, "1"]


@pytest.mark.parametrize("when", ["before the first page", "between two pages"])
def test_ctrl_c_ends_a_list_quietly(daemon: Daemon, when: str) -> None:
    with started(daemon, "asset", "list") as listing:
        assert listing.stdout
        assert listing.stderr
        while not daemon.asked:
            assert listing.poll() is None
        if when == "between two pages":
            daemon.allowed.release()
            listing.stdout.readline()
        listing.send_signal(signal.SIGINT)
        assert listing.wait(20) == 130
        assert listing.stderr.read() == ""


def test_ctrl_c_on_a_terminal_ends_the_colour_of_a_cut_line(daemon: Daemon) -> None:
    master, slave = os.openpty()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    run = [*COMMAND, "--socket", daemon.path, "asset", "list"]
    with subprocess.Popen(run, env=environment, stdout=slave, stderr=slave) as listing:
        os.close(slave)
        daemon.allowed.release()
        shown = os.read(master, 1)
        listing.send_signal(signal.SIGINT)
        with suppress(OSError):  # EIO: the last one who had the terminal open has closed it
            while data := os.read(master, 4096):
                shown += data
        assert listing.wait(20) == 130
    os.close(master)
    assert shown.endswith(b"\x1b[0m")


def test_a_reader_that_has_enough_ends_a_list_quietly(daemon: Daemon) -> None:
    with started(daemon, "asset", "list") as listing:
        assert listing.stdout
        assert listing.stderr
        daemon.allowed.release()
        listing.stdout.readline()
        listing.stdout.close()
        daemon.allowed.release()
        assert listing.wait(20) == 141
        assert listing.stderr.read() == ""


def test_one_page_of_assets_is_in_the_order_of_names(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "s", [[asset("b"), asset("a")]], "assets")
    daemon.allowed.release()
    out, _ = started(daemon, "asset", "list").communicate()
    daemon.close()
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["hg38/fasta:a", "hg38/fasta:b"]


# --------------------------------------------------------------------------- on a terminal


def cells(lines: Sequence[str]) -> list[list[str]]:
    """The columns of the rows of a drawn table, each with the text of all its lines."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    return [["".join(parts).replace(" ", "") for parts in zip(*rows, strict=True)]]


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_later_cells_that_are_longer_hide_nothing(terminal: Terminal, tmp_path: Path, columns: int) -> None:
    daemon = Daemon(tmp_path / "s", ASSETS, "assets")
    daemon.allowed.release(2)
    seen = terminal.run("asset", "list", columns=columns, REFGENIED_SOCKET=daemon.path)
    daemon.close()
    assert seen.code == 0, seen
    lines = seen.text.splitlines()
    frame = [line for line in lines if line[:1] in "╭├│╰"]
    assert {output.columns(line) for line in frame} == {output.columns(frame[0])}, "the pieces fit together"
    assert output.columns(frame[0]) <= columns
    assert (frame[0][0], frame[-1][0]) == ("╭", "╰")
    [(name, state, _, why)] = cells(lines)
    assert f"hg38/fasta:{LONG}" in name
    assert "unregistered" in state
    assert "somewords" * 9 in why


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_a_problem_on_a_later_page_has_its_column(terminal: Terminal, tmp_path: Path, columns: int) -> None:
    daemon = Daemon(tmp_path / "s", ARCHIVES, "archives")
    daemon.allowed.release(2)
    seen = terminal.run("archive", "list", columns=columns, REFGENIED_SOCKET=daemon.path)
    daemon.close()
    assert seen.code == 0, seen
    [(_, _, _, _, _, problem)] = cells(seen.text.splitlines())
    assert "/archives/c.tgz:Nosuchfile" in problem


def test_in_a_pipe_nothing_is_cut(daemon: Daemon) -> None:
    daemon.allowed.release(2)
    out, _ = started(daemon, "asset", "list").communicate()
    lines = out.splitlines()
    assert len(lines) == 2 + 33
    [long] = [line for line in lines if LONG in line]
    assert ("some words " * 9).strip() in long


# --------------------------------------------------------------------------- widths


def test_what_is_left_of_the_room_is_kept_for_later_rows() -> None:
    columns = [Column("Name", 8, str.__getitem__, usual=20), Column("State", usual=12), Column("Why", 10, usual=30)]
    rows = [["abcdef", "ok", ""]]
    assert tables.fitted(columns, rows, 100) == [6, 5, 3], "no rows follow"
    assert tables.fitted(columns, rows, 100, more=True) == [20, 12, 30]
    assert tables.fitted(columns, rows, 40, more=True) == [18, 12, 10]
    assert tables.fitted(columns, rows, 20, more=True) == [8, 5, 7], "what the first rows need comes first"
    assert sum(tables.fitted(columns, [["a" * 50, "ok", ""]], 30, more=True)) == 30
    assert sum(tables.fitted(columns, [["a" * 50, "ok", ""]], 18, more=True)) == 18


@pytest.mark.parametrize("width", [1, 2, 3, 7, 80])
@pytest.mark.parametrize(
    "text", ["", "a", "some words and averyveryverylongone", "名前 名名名名名名 x", "e\u0301" * 20]
)
def test_folded_text_is_whole_and_fits(text: str, width: int) -> None:
    lines = tables.folded(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(output.columns(line) <= max(width, 2) for line in lines)


def test_a_table_takes_one_page_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    def pages() -> Generator[Page]:
        yield Page([["1"]], more=True)
        assert "1" in capsys.readouterr().out
        yield Page([["22"]], more=True)
        assert "22" in capsys.readouterr().out
        yield Page([["3"]])

    tables.table("Numbers", [Column("N", right=True)], pages())
    assert capsys.readouterr().out == "3\n"
