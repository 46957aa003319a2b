"""`refgenied serve` is killed while many clients download: what they had got is counted, and nothing twice."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException

import pytest
from lab import PATIENCE, Lab
from server_lab import Process, serve
from synthetic import ALIAS, DIGEST, Genomes

from refgenied.serve.segments import Segments

pytestmark = pytest.mark.needs("refgenieserver")


@pytest.fixture
def server(lab: Lab) -> Iterator[Process]:
    """Of one archive, while no daemon listens: what is counted waits. It is killed."""
    daemon = lab.start()
    Genomes(lab.genomes).build(fasta=random.Random(0).randbytes(50_000))
    lab.archived(f"{ALIAS}/fasta")
    daemon.close()
    server = serve(lab)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


ARCHIVE = f"/v3/assets/archive/{DIGEST}/fasta?tag=default"
CLIENTS = 16
LATE_SECONDS = 0.25
"""Of a busy test machine. On one with nothing else to do it is 0.05."""


class Client(threading.Thread):
    """Downloads again and again until the server is gone; every other one stays connected and pauses."""

    def __init__(self, server: Process, number: int, whole: threading.Semaphore) -> None:
        super().__init__()
        self._whole = whole
        """Released for each whole one."""
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self._address = f"10.0.0.{number}"
        self._stays = number % 2 == 0
        self.got: list[float] = []
        """When it had one whole."""

    def run(self) -> None:
        fields = {"X-Forwarded-For": self._address, "User-Agent": "test"}
        if not self._stays:
            fields["Connection"] = "close"
        try:
            while True:
                self._connection.request("GET", ARCHIVE, headers=fields)
                answer = self._connection.getresponse()
                body = answer.read()
                if len(body) == int(answer.headers["Content-Length"]):
                    self.got.append(time.monotonic())
                    self._whole.release()
                time.sleep(0.1 if self._stays else 0)
        except (OSError, HTTPException):
            self._connection.close()


def test_a_kill_under_load_loses_no_download_and_counts_none_twice(lab: Lab, server: Process) -> None:
    whole = threading.Semaphore(0)
    clients = [Client(server, number, whole) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    deadline = time.monotonic() + PATIENCE
    for _ in range(200):
        assert whole.acquire(timeout=deadline - time.monotonic())
    killed = time.monotonic()
    server.process.send_signal(signal.SIGKILL)
    for client in clients:
        client.join()
    server.process.wait()
    complete = sum(len(client.got) for client in clients)
    late = sum(moment > killed - LATE_SECONDS for client in clients for moment in client.got)
    kept = Segments(lab.root / "serve-state" / "downloads").open()
    assert complete - late <= kept <= complete

    again = serve(lab)
    try:
        assert again.json("/health")["downloads_waiting"] == kept
        lab.start()
        while again.json("/health")["downloads_waiting"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        again.close()
    assert lab.archive(f"{ALIAS}/fasta")["download_count"] == kept


def test_who_has_all_and_stays_is_counted_at_once_and_no_more_when_he_leaves_it(lab: Lab, server: Process) -> None:
    folder = lab.root / "serve-state" / "downloads"

    def wait_for(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def lines() -> list[bytes]:
        """What is on the disk."""
        return [line for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]

    def ended() -> list[bool]:
        return [row["delivered"] for row in server.logged("request") if "delivered" in row]

    leaves = _asks(server)  # its kernel takes all; it reads nothing
    wait_for(lines)
    leaves.close()
    wait_for(ended)
    wait_for(lambda: not lines())
    stays = _asks(server)
    wait_for(lines)
    server.process.kill()
    server.process.wait()
    stays.close()
    assert ended() == [False]
    assert Segments(folder).open() == 1


def test_a_download_in_parts_goes_on_after_a_restart(lab: Lab) -> None:
    Genomes(lab.genomes).build(fasta=random.Random(0).randbytes(100_000))
    lab.start()
    lab.archived(f"{ALIAS}/fasta")
    for part in ("0-49999", "50000-"):
        server = serve(lab)
        assert server.get(ARCHIVE, headers={"Range": f"bytes={part}"})[0] == 206
        assert server.stop() == 0
        server.close()
    assert lab.archive(f"{ALIAS}/fasta")["download_count"] == 1


def _asks(server: Process) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(f"GET {ARCHIVE} HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n".encode())
    return connection
