"""What every job needs and is missing is waited for; what is wrong with one asset makes that one wait."""

import errno
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest
from controlled import Desk, context_of
from parts import Parts, claim, pragma, running
from synthetic import DIGEST, Genomes
from transactions import transaction

from refgenied.archive.place import Place
from refgenied.archive_folder.folder import PROBE, ArchiveFolder
from refgenied.model import JobState, NoSpaceError, Requester, UnreadableError, WriteError
from refgenied.queue import archiver, conditions, pause
from refgenied.systemd.supervision import Supervision
from refgenied.systemd.surroundings import Surroundings

pytestmark = pytest.mark.anyio

ANN = Requester("ann", 1001)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "CONDITION_POLL_SECONDS", 0.01)


async def until(happened: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not happened():
            await anyio.sleep(0.005)


def failing_pack(monkeypatch: pytest.MonkeyPatch, group: str, error: Exception) -> threading.Event:
    """The pack of this asset group ends with the error, until the event is set."""
    real, well = archiver.pack_asset, threading.Event()

    def pack(tree: object, place: Place, *arguments: object, **named: object) -> object:
        if place.key.asset_group == group and not well.is_set():
            raise error
        return real(tree, place, *arguments, **named)  # pyright: ignore

    monkeypatch.setattr(archiver, "pack_asset", pack)
    return well


def broken(folder: Path) -> Path:
    """The folder takes no probe any more: something that cannot be replaced has its name."""
    (folder / PROBE / "x").mkdir(parents=True)
    return folder / PROBE


async def counted(parts: Parts, state: JobState) -> int:
    async with transaction(parts.store) as tx:
        row = await tx.one("SELECT COUNT(*) FROM job WHERE state = ?", (state,))
    return row[0] if row else 0


# ----------------------------------------------------------------------- whose fault is it?


async def test_when_the_folder_takes_nothing_nobody_is_charged_and_all_goes_on_when_it_does(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [genomes.build(f"g{number}") for number in range(3)]
    error = OSError(errno.EIO, "Input/output error", "/archives/x")
    well = failing_pack(monkeypatch, "g1", error)
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        probe = broken(Path(parts.archive_folder.path))
        async with anyio.create_task_group() as group:
            group.start_soon(parts.worker.run)
            group.start_soon(parts.pause.run)
            line = await parts.health.ill("archive_folder")
            assert parts.pause.reason == "waiting for the archive folder"
            assert str(probe) in line
            assert line.endswith("the queue waits, and goes on by itself")
            for _ in range(5):  # it is still broken, and the worker is told that a job may be due
                await parts.pause.look()
                parts.jobs.wake()
                await anyio.wait_all_tasks_blocked()
            job = await parts.latest(keys[1])
            assert (job.state, job.attempts) == (JobState.QUEUED, 0)
            assert await counted(parts, JobState.FAILED) == 0
            well.set()
            (probe / "x").rmdir()
            probe.rmdir()
            await parts.archived(*keys)
            group.cancel_scope.cancel()
        assert "archive_folder" not in parts.health.conditions
        assert not list(Path(parts.archive_folder.path).glob(f"*{PROBE}*"))


async def test_when_the_folder_takes_a_probe_the_fault_is_the_assets_and_it_alone_waits(genomes: Genomes) -> None:
    bad, good = genomes.build("bad"), genomes.build("good")
    async with running(genomes) as parts:
        parts.change_settings(retry_seconds=1000.0)
        in_the_way = Path(parts.archive_folder.path, DIGEST, "bad")
        in_the_way.parent.mkdir()
        in_the_way.write_text("not a folder")
        await parts.settle()
        assert await parts.record(good)
        job = await parts.latest(bad)
        assert (job.state, job.attempts, job.error_kind) == (JobState.QUEUED, 1, "write_failed")
        assert str(in_the_way) in (job.error or "")
        assert not parts.pause.active

        desk = Desk(context_of(parts))
        (told,) = [row for row in (await desk.ask("server.info"))["health"] if row["name"] == f"job {job.id}"]
        assert str(in_the_way) in told["message"]
        assert "t7/bad:default" in told["message"]
        waited = await desk.ask("archive.wait", path="t7/bad", timeout=0.05)
        assert waited["state"] == "timeout", waited
        assert str(in_the_way) in waited["reason"]
        (row,) = [row for row in (await desk.ask("asset.list"))["assets"] if row["asset_group"] == "bad"]
        assert str(in_the_way) in row["why_not"]

        in_the_way.unlink()
        await desk.ask("job.retry", job=job.id)
        await parts.work()
        assert await parts.record(bad)
        assert (await desk.ask("server.info"))["health"] == []


async def test_an_asset_that_cannot_be_read_is_tried_for_ever_and_goes_on_once_it_can(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build("fasta")
    well = failing_pack(monkeypatch, "fasta", UnreadableError("/genomes/x cannot be read: Input/output error"))
    async with running(genomes) as parts:
        parts.change_settings(retry_seconds=0.0)
        await parts.reconciler.look_again()
        for attempt in range(1, 8):
            job = await claim(parts.jobs)
            assert job
            await parts.do(job)
            assert (await parts.latest(key)).attempts == attempt
        well.set()
        await parts.work()
        assert await parts.record(key)


# ----------------------------------------------------------------------- each condition


async def test_a_disk_that_goes_while_nothing_is_to_do_is_noticed_and_what_was_built_meanwhile_is_archived(
    genomes: Genomes,
) -> None:
    genomes.build("before")
    async with running(genomes) as parts:
        await parts.settle()
        folder = Path(parts.archive_folder.path)
        async with anyio.create_task_group() as group:
            for task in (parts.worker.run, parts.pause.run, parts.reconciler.run):
                group.start_soon(task)
            await parts.reconciler.first_look.wait()
            for archived, there in enumerate((None, "another-id"), start=2):
                folder.rename(folder.with_name("disk"))
                if there:
                    folder.mkdir()
                    (folder / ".refgenied").write_text(there)
                await parts.health.ill("archive_folder")
                key = genomes.build(f"meanwhile{archived}")
                await parts.reconciler.look_again()
                assert await counted(parts, JobState.QUEUED) == 0
                if there:
                    (folder / ".refgenied").unlink()
                    folder.rmdir()
                folder.with_name("disk").rename(folder)
                await parts.archived(key)
                await parts.catalog.catch_up()
                assert parts.catalog.served.archives == archived
            group.cancel_scope.cancel()
        assert len(await parts.events("job.queued")) == 3


async def test_a_probe_that_a_kill_has_left_goes(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        folder = Path(parts.archive_folder.path)
        for left in (PROBE, f".{PROBE}.partial"):
            (folder / left).write_text("left")
        with parts.archive_folder.held():  # at the next start
            assert not list(folder.glob(f"*{PROBE}*"))
        (folder / PROBE).write_text("left")
        parts.archive_folder.probe()
        assert not list(folder.glob(f"*{PROBE}*"))


async def test_probes_at_the_same_time_do_not_disturb_each_other(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(parts.archive_folder.probe) for _ in range(50)]:
                done.result()


@pytest.mark.needs("root")
def test_a_probe_says_what_is_wrong(tmp_path: Path) -> None:
    folder = ArchiveFolder(str(tmp_path), None)
    folder.open()
    folder.probe()
    os.rename(tmp_path / ".refgenied", tmp_path / "x")
    with pytest.raises(WriteError, match="is not the archive folder that the database knows"):
        folder.probe()


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        Path.touch,
        lambda path: path.write_bytes(b"\xff\n"),
        lambda path: path.write_bytes(b"x" * 999),
    ],
)
def test_a_marker_that_holds_no_id_is_named_and_the_command_given_mends_it(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    folder = ArchiveFolder(str(tmp_path), None)
    folder.open()
    marker = tmp_path / ".refgenied"
    marker.unlink()
    make(marker)
    trouble = folder.problem()
    assert trouble.startswith(f"{marker} ")
    subprocess.run(["sh", "-c", trouble.partition("taken after: ")[2]], check=True)
    folder.probe()


def test_an_empty_marker_without_a_database_gets_an_id(tmp_path: Path) -> None:
    (tmp_path / ".refgenied").touch()
    folder = ArchiveFolder(str(tmp_path), None)
    assert folder.open()
    folder.probe()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files", "/genomes/x"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
        RuntimeError("can't start new thread"),
    ],
    ids=["descriptors", "memory", "memory of Python", "threads"],
)
async def test_a_shortage_is_nobodys_fault(error: Exception, genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "SHORTEST_SHORTAGE", 0.05)
    keys = [genomes.build(name) for name in ("a", "b")]
    well = failing_pack(monkeypatch, "a", error)
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        async with anyio.create_task_group() as group:
            group.start_soon(parts.worker.run)
            group.start_soon(parts.pause.run)
            await parts.health.ill("shortage")
            assert parts.pause.reason == "waiting for descriptors or memory"
            job = await parts.latest(keys[0])
            assert (job.state, job.attempts) == (JobState.QUEUED, 0)
            await parts.archived(keys[1])
            well.set()
            await parts.archived(keys[0])
            group.cancel_scope.cancel()
        assert await counted(parts, JobState.FAILED) == 0


async def test_a_full_disk_is_waited_for_and_a_person_may_say_that_it_is_not_full_any_more(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build("fasta")
    well = failing_pack(monkeypatch, "fasta", NoSpaceError("/archives has no room"))
    async with running(genomes) as parts:
        await parts.settle()
        job = await parts.latest(key)
        assert (job.state, job.attempts) == (JobState.QUEUED, 0)
        await parts.pause.look()
        assert parts.pause.reason == "waiting for room in the archive folder"
        desk = Desk(context_of(parts))
        waited = await desk.ask("archive.wait", path="t7/fasta", timeout=0.05)
        assert (waited["state"], waited["reason"]) == (
            "timeout",
            "time is over: job 1 is queued, and the queue stands still: waiting for room in the archive folder",
        )
        well.set()
        assert (await desk.ask("queue.resume")) == {"paused": "", "changed": True}
        assert "space" not in parts.health.conditions
        await parts.work()
        assert await parts.record(key)


async def test_a_person_who_resumes_the_queue_too_early_is_told_what_it_still_waits_for(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        folder = Path(parts.archive_folder.path)
        folder.rename(folder.with_name("disk"))
        await parts.pause.look()
        desk = Desk(context_of(parts))
        assert (await desk.ask("queue.resume"))["paused"] == "waiting for the archive folder"
        folder.with_name("disk").rename(folder)
        assert (await desk.ask("queue.resume"))["paused"] == ""
        assert parts.health.conditions == {}


async def test_a_disk_that_does_not_answer_is_said_and_holds_no_other_look_up(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "DISK_ANSWER_SECONDS", 0.05)
    async with running(genomes) as parts:
        answered = threading.Event()
        condition = conditions.Folder(parts.archive_folder)
        for _ in range(3):
            with pytest.raises(WriteError, match=f"{parts.archive_folder.path} does not answer: does its disk work"):
                await condition.answer(lambda: answered.wait(20))
        answered.set()
        await until(lambda: condition.disk.busy_since is None)
        await condition.look()
        assert condition.line == ""


async def test_a_database_that_takes_no_writes_is_an_answer_for_the_watchdog_and_a_condition_for_the_queue(
    genomes: Genomes, tmp_path: Path
) -> None:
    async with running(genomes) as parts:
        await parts.settle()
        supervision = Supervision(parts.core, parts.reconciler, parts.pause, Surroundings(parts.core, lambda _: None))
        await pragma(parts, "PRAGMA busy_timeout = 0")
        other = sqlite3.connect(parts.store.path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            status = await supervision.status()
            assert status.startswith("waiting for the database; ")
            assert "database is locked; the queue waits, and goes on by itself" in status
            await parts.pause.look()
            assert parts.pause.active
        finally:
            other.close()
        await parts.pause.look()
        assert (await supervision.status()).startswith("idle; 0 queued")


def test_without_an_archive_folder_nothing_is_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ArchiveFolder("", None).probe()
    assert list(tmp_path.iterdir()) == []


async def test_a_full_state_disk_is_noticed_without_a_write(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(genomes) as parts:
        monkeypatch.setattr(conditions, "STATE_ROOM", 1 << 62)
        await parts.pause.look()
        assert "is on a full disk" in parts.health.conditions["database"][0]
        assert parts.pause.reason == "waiting for the database"
        monkeypatch.undo()
        await parts.pause.look()
        assert not parts.pause.active
