"""While one asset is built again and again, whatever is published is one whole round, and that round was finished."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from imitated_builds import TAIL
from lab import HELPERS, Lab
from proof import prove
from refgenie_cli import Refgenie, recipe_of

DIGEST = "0123456789abcdef0123456789abcdef0123456789abcdef"
BUILDER = HELPERS / "imitated_builds.py"
ROUNDS = 200


class Published(NamedTuple):
    """One version of the archive, as it stood under its final name."""

    rounds: frozenset[bytes]
    """What its files begin with: `round N`."""
    files: int
    at: int
    """mtime of the archive in nanoseconds: when its last byte was written."""
    digest: str


def read_version(path: Path) -> tuple[tuple[int, int], Published]:
    """Who it is, and what is in it. From one open file: a version that is replaced meanwhile is still read whole."""
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        data = file.read()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        contents = [tar.extractfile(member) for member in tar if member.isfile()]
        rounds = [content.readline() for content in contents if content is not None]
    digest = hashlib.md5(data).hexdigest()
    return identity(stat), Published(frozenset(rounds), len(rounds), stat.st_mtime_ns, digest)


def identity(stat: os.stat_result) -> tuple[int, int]:
    """An inode's number is used again once the file is gone; not with the same time."""
    return stat.st_ino, stat.st_mtime_ns


class Versions:
    """Reads every version that appears under a name, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[tuple[int, int], Published] = {}
        self.problem: BaseException | None = None

    @contextmanager
    def collected(self) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(target=self._collect, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        if self.problem:
            raise self.problem

    def _collect(self, done: threading.Event) -> None:
        try:
            while not done.wait(0.004):
                self.look()
        except BaseException as error:  # noqa: BLE001 - told to the test, which fails with it
            self.problem = error

    def look(self) -> None:
        try:
            if identity(self.path.stat()) in self.found:
                return
            name, version = read_version(self.path)
        except FileNotFoundError:
            return
        self.found[name] = version


def test_200_builds_of_a_fifth_of_a_second(lab: Lab) -> None:
    lab.configure(watch={"settle_seconds": 0.02, "settle_max_seconds": 0.5})
    lab.start()
    versions = Versions(lab.archives / DIGEST / "rounds/default/rounds__default.tgz")
    finished: dict[bytes, tuple[int, str]] = {}
    with (
        versions.collected(),
        subprocess.Popen(
            [sys.executable, str(BUILDER), str(lab.genomes), DIGEST, "fast", str(ROUNDS), "0.2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as builder,
    ):
        assert builder.stdin
        assert builder.stdout
        for line in builder.stdout:
            number, at, asset_digest = line.split()
            finished[f"round {number}\n".encode()] = int(at), asset_digest
            for version in list(versions.found.values()):  # the check, once a round
                assert len(version.rounds) == 1, version
                assert version.files == 5, version
                began = finished.get(next(iter(version.rounds)))
                assert began, f"{version} was published before its build was finished"
                assert began[0] <= version.at, f"{version} was read before its build was finished, at {began[0]}"
            if int(number) % TAIL == 0:
                lab.archived("fast/rounds")
                builder.stdin.write("go on\n")
                builder.stdin.flush()
        row = lab.archived("fast/rounds")
    assert builder.returncode == 0
    assert len(finished) == ROUNDS
    prove(row, lab.archives, lab.genomes / "data" / DIGEST / "rounds/default")
    assert row["asset_digest"] == finished[f"round {ROUNDS}\n".encode()][1]

    versions.look()
    announced = [event["data"]["digest"] for event in lab.events("archive.published")]
    assert set(announced) == {version.digest for version in versions.found.values()}, "a version was never looked at"
    assert len(announced) >= ROUNDS // TAIL
    assert lab.partials() == []


@pytest.mark.needs("refgenie")
def test_real_rebuilds_in_a_loop(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    lab.configure(watch={"settle_seconds": 0.02, "settle_max_seconds": 0.5})
    digest = refgenie.digest("demo")
    lab.start()
    recipe = recipe_of(tmp_path, "loop", files=5, size=400_000, seconds=0.2)
    versions = Versions(lab.archives / digest / "loop/default/loop__default.tgz")
    with versions.collected():
        for number in range(1, 11):
            refgenie.rounds("demo/loop", number, "-N", recipe=recipe)
        row = lab.archived("demo/loop")
    prove(row, lab.archives, refgenie.folder("demo/loop"))
    versions.look()
    for version in versions.found.values():
        assert len(version.rounds) == 1, version
        assert version.files == 5, version
    assert any(b"round 10\n" in version.rounds for version in versions.found.values())
    announced = [
        event["data"]["digest"] for event in lab.events("archive.published") if "/loop:" in event["registry_path"]
    ]
    assert set(announced) == {version.digest for version in versions.found.values()}
