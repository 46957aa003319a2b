"""Real web servers, run as Debian installs them: what their logs tell is the number of pulls."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest
import web_servers
from lab import PATIENCE, Lab
from log_importer import Importer, importing
from server_lab import Puller, plain, serve
from synthetic import ALIAS, DIGEST, Genomes
from web_servers import SIZES, WebServer, acts, all_at_once

pytestmark = [pytest.mark.anyio, pytest.mark.needs("refgenieserver", "root")]

ACTS = acts(slow_seconds=3, pieces=200)
TRUE = sum(act.downloads for act in ACTS)
Start = Callable[[Lab, Path, int], WebServer]


@pytest.mark.parametrize(
    ("start", "log", "wrong"),
    [
        pytest.param(web_servers.nginx, "combined.log", 0, marks=pytest.mark.needs("nginx"), id="nginx"),
        # by lengths with headers, one half twice looks like two halves; and it says so
        pytest.param(web_servers.apache, "combined.log", 1, marks=pytest.mark.needs("apache2"), id="apache"),
        pytest.param(web_servers.caddy, "access.log", 0, marks=pytest.mark.needs("caddy"), id="caddy"),
    ],
)
async def test_a_servers_log_tells_the_number_of_pulls(tmp_path: Path, start: Start, log: str, wrong: int) -> None:
    genomes = Genomes(tmp_path / "genomes")
    genomes.build()
    async with importing(genomes) as importer:
        await importer.parts.settle()
        lines = await anyio.to_thread.run_sync(_visited, tmp_path, importer, start, log)
        await _counted(importer, lines, TRUE + 1 + wrong)


def _visited(tmp_path: Path, importer: Importer, start: Start, log: str) -> list[bytes]:
    """Let clients of all kinds come to the server, the real refgenie among them; its log."""
    (tmp_path / "lab").mkdir()
    lab = Lab(tmp_path / "lab")
    lab.archives = importer.parts.archive_folder.path
    static = tmp_path / "static" / DIGEST
    static.mkdir(parents=True)
    for name, size in SIZES.items():
        (static / f"{name}__default.tgz").write_bytes(random.Random(size).randbytes(size))
    with closing(plain(lab)) as behind, closing(start(lab, static.parent, behind.port)) as server:
        puller = Puller(lab, "puller", server)
        asked = all_at_once(ACTS, server.port, f"/archives/{DIGEST}/", meanwhile=lambda: puller.pull(f"{ALIAS}/fasta"))
        return server.logged_lines(log, asked + 5)


async def _counted(importer: Importer, lines: list[bytes], true: int) -> None:
    """Rotated in the middle of the slow pull, read in parts and as a whole, and again."""
    slow = max(number for number, line in enumerate(lines) if b"long__default" in line and b"urllib" in line)
    first, rest = lines[:slow], lines[slow:]
    assert await importer(first) == true - 1
    assert await importer(rest) == true
    assert await importer(first) == true
    assert await importer(first + rest) == true


@pytest.mark.needs("nginx")
def test_behind_nginx_a_client_that_leaves_is_seen(lab: Lab) -> None:
    """By itself nginx reads all of an answer, and its client may leave afterwards."""
    Genomes(lab.genomes).build(fasta=random.Random(0).randbytes(16_000_000))
    lab.start()
    lab.archived(f"{ALIAS}/fasta")
    path = f"/v3/assets/archive/{DIGEST}/fasta?tag=default"

    with closing(serve(lab)) as server, closing(web_servers.nginx(lab, lab.archives, server.port)) as front:

        def ended() -> list[bool]:
            return [row["delivered"] for row in server.logged("request") if "delivered" in row]

        with socket.create_connection(("127.0.0.1", front.port)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: slow\r\n\r\n".encode())
            assert client.recv(500)
            patience = time.monotonic() + 1.5  # in which nginx would read it all
            while time.monotonic() < patience and not ended():
                time.sleep(0.02)
        assert front.get(path)[0] == 200
        deadline = time.monotonic() + PATIENCE
        while len(ended()) < 2 or server.json("/health")["downloads_waiting"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert sorted(ended()) == [False, True]
        assert lab.archive(f"{ALIAS}/fasta")["download_count"] == 1
