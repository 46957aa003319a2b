"""`refgenied serve` over many archives, and the peer of a backlog, `refgenieserver archive`."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import inputs
from daemons import House, at_rest, memory, until
from genome_folders import TAG, GenomeFolder
from publish import archive_by_peer

NUMBER = 500
"""The number of the build that is made for a reload, counted from the last asset."""


def health(port: int) -> dict[str, object] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
            found: dict[str, object] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        with error:
            return {"status": error.code}
    except OSError:
        return None


def rows(folder: GenomeFolder, house: House) -> Iterator[tuple[str, float]]:
    port = random.randrange(20_000, 30_000)
    n = house.served()
    began = time.monotonic()
    server = house.serve(port)
    try:
        until(lambda: (health(port) or {}).get("archives") == n, 120, "the server has all archives", 0.02)
        yield "serve: start, s", time.monotonic() - began
        at_rest(server.pid)
        yield "serve: descriptors", len(os.listdir(f"/proc/{server.pid}/fd"))
        yield "serve: memory, MB", memory(server.pid)
        yield from _reload(folder, house, port, n)
        yield "serve: memory after a reload, MB", memory(server.pid)
    finally:
        server.terminate()
        server.wait(60)


def _reload(folder: GenomeFolder, house: House, port: int, n: int) -> Iterator[tuple[str, float]]:
    """One new archive: from the new config until the server knows it, and the slowest /health meanwhile."""
    answers: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.01):
            began = time.monotonic()
            health(port)
            answers.append(time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        folder.build(folder.n + NUMBER)
        house.wait_served(n + 1, 120)
        written = house.served_config.stat().st_mtime
        until(lambda: (health(port) or {}).get("archives") == n + 1, 120, "the server knows the new archive", 0.02)
        took = time.time() - written
        time.sleep(0.5)
    finally:
        stop.set()
        asking.join()
    yield "serve: reload, s", took
    yield "serve: worst /health in a reload, s", max(answers)


def peer(folder: GenomeFolder) -> float:
    """Seconds of `refgenieserver archive` into an empty folder."""
    if not shutil.which("refgenieserver"):
        raise inputs.Missing("refgenieserver is not on the PATH (PyPI has it)")
    with TemporaryDirectory(dir=folder.home) as out:
        genomes, archives, config = Path(out, "genomes"), Path(out, "archives"), Path(out, "genome_config.yaml")
        shutil.copytree(folder.root, genomes)
        archives.mkdir()
        for number in range(folder.n):  # refgenie makes a link for each file
            names = folder.names(number)
            link = genomes / "alias" / names.alias / names.group / TAG
            link.parent.mkdir(parents=True)
            link.symlink_to(genomes / folder.folder(number).relative_to(folder.root))
        text = (genomes / "genome_config.yaml").read_text().replace(str(folder.root), str(genomes))
        config.write_text(f"genome_archive_folder: {archives}\n{text}")
        seconds, last = archive_by_peer(config)
        made = {path.resolve() for path in archives.glob("*/*.tgz")}
        if len(made) < folder.n:
            raise inputs.Missing(f"refgenieserver archive made {len(made)} archives: {last}")
        return seconds
