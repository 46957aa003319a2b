"""A daemon with many archives while builds come and clients follow: how quick `status` stays, and what is lost.

20 builds a minute are made in refgenie's order; 50 clients follow all events on sockets of their own. Each must get
every event in order. One more client asks for `status` ten times a second.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import threading
import time
from pathlib import Path

import daemons
import inputs
import scale_rows
from daemons import at_rest, until
from genome_folders import GenomeFolder

BUILDS_A_MINUTE = 20
FOLLOWERS = 50
ASK_SECONDS = 0.1


class Followers:
    """Sockets that read all events, in one thread: they must not take the time that is measured."""

    def __init__(self, path: Path, number: int) -> None:
        self.seen = [0] * number
        self.wrong: list[str] = []
        self._selector = selectors.DefaultSelector()
        self._rests = [b""] * number
        self._last = [0] * number
        self._stop = threading.Event()
        for follower in range(number):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(str(path))
            connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "event.watch", "params": {}}\n')
            self._selector.register(connection, selectors.EVENT_READ, follower)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.2):
                connection, follower = key.fileobj, key.data
                got = connection.recv(1 << 16)  # type: ignore[union-attr]
                if not got:
                    self.wrong.append(f"follower {follower} was cut off")
                    self._selector.unregister(connection)
                *lines, self._rests[follower] = (self._rests[follower] + got).split(b"\n")
                for line in lines:
                    self._take(follower, line)

    def _take(self, follower: int, line: bytes) -> None:
        if b'"method":"event"' not in line:
            if b'"method":"end"' in line:
                self.wrong.append(f"follower {follower}: {line[:200]!r}")
            return
        seq = json.loads(line)["params"]["seq"]
        if self._last[follower] and seq != self._last[follower] + 1:
            self.wrong.append(f"follower {follower}: {seq} after {self._last[follower]}")
        self._last[follower] = seq
        self.seen[follower] += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]


def arguments(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the soak goes on (10)")


def run(data: Path, options: argparse.Namespace) -> None:
    n = int((options.n or "10000").replace("_", ""))
    folder = GenomeFolder(data / "scale", options.layout or "0", options.shape or "many", n).made()
    try:
        with daemons.house(folder.home, folder.root, options.python) as house:
            scale_rows.copied(folder, house)
            daemon = house.start()
            until(lambda: house.archived() == n, 3600, "all archives are recorded")
            at_rest(daemon.process.pid)
            _soak(folder, house, daemon, options.minutes * 60)
    finally:
        folder.restore()


def _soak(folder: GenomeFolder, house: daemons.House, daemon: daemons.Daemon, seconds: float) -> None:
    followers = Followers(house.socket, FOLLOWERS)
    answers: list[float] = []
    before, memory, began = daemon.cpu, daemon.memory, time.monotonic()
    built = 0
    stop = threading.Event()

    def ask() -> None:
        with house.client() as client:
            while not stop.wait(ASK_SECONDS):
                asked = time.monotonic()
                client.call("server.info")
                answers.append(1000 * (time.monotonic() - asked))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        while time.monotonic() - began < seconds:
            folder.build(folder.n + 1000 + built)
            built += 1
            time.sleep(max(0.0, began + built * 60 / BUILDS_A_MINUTE - time.monotonic()))
        took, cpu = time.monotonic() - began, daemon.cpu - before
        until(lambda: house.archived() == folder.n + built, 120, "all builds are archived")
        until(lambda: len(set(followers.seen)) == 1, 60, "all followers have all events")
    finally:
        stop.set()
        asking.join()
        followers.close()
    if followers.wrong:
        raise inputs.Missing(f"followers: {'; '.join(followers.wrong[:5])}")
    ordered = sorted(answers)
    p50, p99 = (ordered[int(share * len(ordered))] for share in (0.5, 0.99))
    print(
        f"{folder.n:,} assets, {built} builds in {took / 60:.1f} minutes, {FOLLOWERS} followers of "
        f"{followers.seen[0]} events each, none missed: `status` median {p50:.1f} ms, p99 {p99:.1f} ms (target 50), "
        f"worst {ordered[-1]:.0f} ms of {len(ordered)}; {cpu / took * 60:.1f} CPU seconds a minute; "
        f"memory {memory:.0f} → {daemon.memory:.0f} MB"
    )
