"""Disks that fail under the running daemon: it says so within seconds, charges nobody, and goes on by itself."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import PATIENCE, Lab, Row
from synthetic import DIGEST, Genomes

pytestmark = pytest.mark.needs("root")


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount does not work here: {done.stderr.strip()}")


@pytest.fixture
def disks(lab: Lab) -> Iterator[Lab]:
    """The archive folder and the state folder on small disks of their own; the first one is mounted as `disk`, too."""
    disk = lab.root / "disk"
    try:
        for folder in (disk, lab.archives, lab.state):
            folder.mkdir()
        for folder in (disk, lab.state):
            mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder))
        mount("--bind", str(disk), str(lab.archives))
        yield lab
    finally:
        lab.close()
        lab.daemons.clear()
        for folder in (lab.archives, lab.state, disk):
            while os.path.ismount(folder):
                subprocess.run(["umount", "--lazy", str(folder)], check=True)


def status(lab: Lab, until: Callable[[Row], bool]) -> Row:
    """`status` once it is so."""
    deadline = time.monotonic() + PATIENCE
    while not until(found := lab.rows("status")[0]):
        assert time.monotonic() < deadline, found
    return found


def warned(name: str) -> Callable[[Row], bool]:
    return lambda row: name in [condition["name"] for condition in row["health"]]


def well(row: Row) -> bool:
    return not row["health"] and not row["queue"]["paused"]


def test_disks_that_turn_read_only_fill_up_or_go_while_nothing_is_to_do(disks: Lab, genomes: Genomes) -> None:
    lab = disks
    lab.start()
    archives, state = str(lab.archives), str(lab.state)

    def fill() -> None:
        with (lab.state / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass

    breaks: list[tuple[str, Callable[[], object], Callable[[], object], str]] = [
        (
            "archive_folder",
            lambda: mount("-o", "remount,bind,ro", archives),
            lambda: mount("-o", "remount,bind,rw", archives),
            f"{archives} is mounted read-only",
        ),
        (
            "archive_folder",
            lambda: subprocess.run(["umount", "--lazy", archives], check=True),
            lambda: mount("--bind", str(lab.root / "disk"), archives),
            "is not the archive folder that the database knows",
        ),
        (
            "archive_folder",
            lambda: mount("-t", "tmpfs", "tmpfs", archives),
            lambda: subprocess.run(["umount", archives], check=True),
            "is not the archive folder that the database knows",
        ),
        (
            "database",
            fill,
            (lab.state / "filler").unlink,
            f"the state folder {state} is on a full disk: less than 256 KiB are free",
        ),
    ]
    for number, (name, spoil, mend, line) in enumerate(breaks):
        group = f"group{number}"
        spoil()
        found = status(lab, warned(name))
        (message,) = [condition["message"] for condition in found["health"] if condition["name"] == name]
        assert line in message
        assert message.endswith("; the queue waits, and goes on by itself")
        assert found["queue"]["paused"].startswith("waiting for ")
        genomes.build(group)
        waited = lab.wait(f"t7/{group}", 1.5)
        assert waited.code == 6, waited
        assert "waiting for " in waited.err, waited
        mend()
        lab.archived(f"t7/{group}")
        status(lab, well)
    assert lab.rows("status")[0]["queue"]["failed"] == 0
    assert [path.name for path in lab.archives.glob(".refgenied*") if "probe" in path.name] == []


def test_a_disk_without_inodes_is_waited_for_too(disks: Lab, genomes: Genomes) -> None:
    lab, disk = disks, str(disks.root / "disk")
    lab.start()
    genomes.build("first")
    lab.archived("t7/first")
    room = os.statvfs(disk)
    mount("-o", f"remount,nr_inodes={room.f_files - room.f_ffree}", disk)
    genomes.build("second")
    found = status(lab, warned("space"))
    assert found["queue"]["paused"] == "waiting for room in the archive folder"
    mount("-o", "remount,nr_inodes=1000", disk)
    lab.archived("t7/second")
    status(lab, well)


def test_a_daemon_without_descriptors_says_so_and_goes_on_when_it_has_some(lab: Lab, genomes: Genomes) -> None:
    lab.configure(watch={"sweep_seconds": 1.0})
    daemon = lab.start()
    genomes.build("first")
    lab.archived("t7/first")
    pid = daemon.process.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
    genomes.build("second")
    found = status(lab, warned("shortage"))
    (message,) = [condition["message"] for condition in found["health"] if condition["name"] == "shortage"]
    assert f"the daemon cannot open more files: Too many open files (its limit is {used})" in message
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    lab.archived("t7/second")
    assert status(lab, well)["queue"]["failed"] == 0


@pytest.mark.needs("strace")
def test_a_disk_that_cannot_sync_is_waited_for_and_one_asset_that_cannot_be_synced_waits_alone(
    lab: Lab, genomes: Genomes
) -> None:
    daemon = lab.start()
    genomes.build("first")
    lab.archived("t7/first")

    @contextmanager
    def failing(*paths: Path) -> Iterator[None]:
        """Meanwhile a sync of these paths fails with an I/O error."""
        tracer = subprocess.Popen(
            [
                "strace", "-f", "-qq", "-p", str(daemon.process.pid), "-o", "/dev/null",
                "-e", "trace=fsync", "-e", "inject=fsync:error=EIO",
                *(word for path in paths for word in ("-P", str(path))),
            ],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        tasks = Path(f"/proc/{daemon.process.pid}/task")
        deadline = time.monotonic() + PATIENCE
        try:
            while not all("TracerPid:\t0" not in (task / "status").read_text() for task in tasks.iterdir()):
                assert time.monotonic() < deadline
                if tracer.poll() is not None:
                    pytest.skip("strace does not work here")
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(PATIENCE)

    folder = lab.archives / DIGEST / "bad" / "default"
    with failing(folder / ".bad__default.tgz.partial"):
        genomes.build("bad")
        genomes.build("good")
        lab.archived("t7/good")
        found = status(lab, lambda row: any("bad__default" in condition["message"] for condition in row["health"]))
        assert found["queue"]["paused"] == ""
        assert "Input/output error" in found["health"][0]["message"]
    lab.archived("t7/bad")

    everything = (lab.archives / ".refgenied.probe", lab.archives / "..refgenied.probe.partial", lab.archives)
    paths = [lab.archives / DIGEST / "any" / "default" / ".any__default.tgz.partial", *everything]
    with failing(*paths):
        genomes.build("any")
        found = status(lab, warned("archive_folder"))
        assert (found["queue"]["paused"], found["queue"]["failed"]) == ("waiting for the archive folder", 0)
        assert "Input/output error" in found["health"][0]["message"]
        assert [job["attempts"] for job in lab.rows("queue", "list")] == [0]
    lab.archived("t7/any")
    status(lab, well)
