"""Things that happen at the worst moment: each of these schedules once lost something, or ended the daemon."""

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import anyio
import msgspec
import pytest
import watchfiles.main
from controlled import ANN, Desk, context_of
from parts import Parts, claim, pragma, running
from synthetic import Genomes
from transactions import changing, transaction

from refgenied.archive import publisher
from refgenied.archive.place import Place
from refgenied.archive.presence import Presence, settle
from refgenied.archive.run import Run
from refgenied.config.roles import LOCK, MARKER
from refgenied.maintenance import recovery
from refgenied.model import (
    AlreadyRunningError,
    AssetKey,
    AssetState,
    DigestMismatchError,
    JobState,
    Look,
    Priority,
    StateError,
    UnreadableError,
)
from refgenied.queue import archiver, pause
from refgenied.queue import worker as worker_module
from refgenied.reconciler.watchable import Folders
from refgenied.store.state_folder import held
from refgenied.watcher import Watcher

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """What a kill -9 at that point is to the code: nothing after it runs."""


class Gate:
    """A pack function that packs until it is told to stop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packing = threading.Event()
        monkeypatch.setattr(archiver, "pack_asset", self)

    def __call__(self, _tree: object, _place: object, _about: object, run: Run, **_: object) -> None:
        self.packing.set()
        while True:
            time.sleep(0.01)
            run.check()


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


async def rebuilt(genomes: Genomes, key: AssetKey, content: bytes) -> None:
    (genomes.folder(key) / "fasta").unlink()
    genomes.build(fasta=content)


def dying_at(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """The rename onto the final name that ends so does not happen."""
    real = Path.rename

    def rename(partial: Path, final: Path) -> Path:
        if final.name.endswith(name) and not final.name.endswith(f".files{name}"):
            raise error
        return real(partial, final)

    monkeypatch.setattr(Path, "rename", rename)


# ----------------------------------------------------------------------- stopping


async def test_a_drain_during_a_claim_is_not_lost(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group, transaction(parts.store):  # the claim waits for the store
                group.start_soon(parts.worker.run)
                await anyio.wait_all_tasks_blocked()
                parts.worker.drain()


@pytest.mark.parametrize("store_is_busy", [False, True])
async def test_two_signals_at_once_charge_nothing(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch, *, store_is_busy: bool
) -> None:
    key = genomes.build()
    gate = Gate(monkeypatch)
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        async with anyio.create_task_group() as group:
            group.start_soon(parts.worker.run)
            await anyio.to_thread.run_sync(gate.packing.wait, 20)
            if store_is_busy:
                async with transaction(parts.store):
                    parts.worker.drain()
                    await anyio.sleep(0.1)  # its thread ends meanwhile, and it waits for the store
                    group.cancel_scope.cancel()
            else:
                parts.worker.drain()
                group.cancel_scope.cancel()
    async with running(genomes) as parts:
        job = await parts.latest(key)
        assert (job.state, job.crashes, job.attempts) == (JobState.QUEUED, 0, 0)


# ----------------------------------------------------------------------- looking


async def test_a_look_that_was_cut_counts_for_nobody(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(genomes) as parts:
        reconciler = parts.reconciler
        begun = threading.Semaphore(0)
        go_on = threading.Event()
        real = parts.folder.look

        def slow(now: float) -> object:
            found = real(now)
            begun.release()
            go_on.wait(20)
            return found

        monkeypatch.setattr(parts.folder, "look", slow)
        hangs_up = anyio.CancelScope()

        async def client() -> None:
            with hangs_up:
                await reconciler.look_again()

        async with anyio.create_task_group() as group:
            group.start_soon(client)
            await anyio.to_thread.run_sync(begun.acquire)
            key = genomes.build()
            group.start_soon(reconciler.look_again)  # asked for while the client's look runs
            await anyio.wait_all_tasks_blocked()
            hangs_up.cancel()
            go_on.set()
        assert key in reconciler.look.assets
        assert (await parts.latest(key)).state is JobState.QUEUED


async def test_waiters_do_not_make_each_other_look(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    genomes.build()
    genomes.build("other", a=b"1")
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        Path(parts.archive_folder.path, ".refgenied").unlink()  # the disk is not mounted
        async with transaction(parts.store) as tx:
            await tx.execute("DELETE FROM job")
        looks = 0
        real = parts.folder.look_again

        def counted(before: Look, now: float, **what: Collection[Any]) -> Look:
            nonlocal looks
            looks += 1
            return real(before, now, **what)

        monkeypatch.setattr(parts.folder, "look_again", counted)
        context = context_of(parts)
        async with anyio.create_task_group() as group:
            for path in ("t7/fasta", "t7/other"):
                group.start_soon(lambda path=path: Desk(context).lines("archive.wait", path=path, timeout=2))
        assert looks < 6


async def test_an_error_inside_the_watch_does_not_end_the_daemon(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...
        def watch(self, *_: object) -> None:
            raise RuntimeError("error in underlying watcher")

    monkeypatch.setattr(watchfiles.main, "RustNotify", Broken)
    async with running(genomes) as parts, anyio.create_task_group() as group:
        watcher = Watcher(parts.reconciler, parts.current, parts.health)
        group.start_soon(parts.reconciler.run)
        group.start_soon(watcher.run)
        await parts.health.ill("watch")
        group.cancel_scope.cancel()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_folder_that_cannot_be_watched_does_not_stop_the_others(genomes: Genomes, tmp_path: Path) -> None:
    closed, opened = tmp_path / "closed", tmp_path / "opened"
    closed.mkdir(mode=0o000)
    opened.mkdir()
    folders = Folders()
    folders.renew((str(closed), str(opened)), 0.0, most=9, again=None)
    assert list(folders.watchable) == [str(opened)]


# ----------------------------------------------------------------------- publishing, crashes and the folder


async def test_a_publish_that_failed_after_its_first_rename_can_be_finished(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build(fasta=b"old")
    async with running(genomes) as parts:
        parts.change_settings(retry_seconds=1000.0)
        await parts.settle()
        await rebuilt(genomes, key, b"new and longer")
        with monkeypatch.context() as patch:
            dying_at(patch, ".json", OSError(5, "Input/output error"))
            await parts.settle()
        assert settle(Place(parts.archive_folder.path, key)).presence is Presence.PRESENT


async def test_a_publish_that_was_cut_is_recorded_as_what_it_is_by_a_new_database(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build(fasta=b"old")
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(parts.archive_folder.path, key)
        await rebuilt(genomes, key, b"new and longer")
        with monkeypatch.context() as patch:
            dying_at(patch, ".json", Killed())
            patch.setattr(publisher, "discard", lambda *_, **__: None)
            with pytest.raises(Killed):
                await parts.settle()
    async with running(genomes, state="new") as parts:
        record = await parts.record(key)
        assert record
        assert record.digest == md5_of(place.archive)


async def test_a_crash_between_the_renames_and_the_commit_leaves_a_right_record(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build(fasta=b"old")
    async with running(genomes) as parts:
        await parts.settle()
        await rebuilt(genomes, key, b"new and longer")

        async def killed(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(parts.jobs, "succeed", killed)
            with pytest.raises(Killed):
                await parts.settle()
        place = Place(parts.archive_folder.path, key)
    async with running(genomes) as parts:
        record = await parts.record(key)
        assert record
        assert record.digest == md5_of(place.archive)


async def test_reading_a_lost_database_anew_begins_again_when_it_was_cut(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        await Desk(context_of(parts)).ask("archive.remove", path="t7/fasta")

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(recovery, "places", killed)
        async with running(genomes, state="new"):
            pass
    async with running(genomes, state="new") as parts:
        await parts.settle()
        assert await parts.record(key) is None, "the removed archive came back"


async def test_a_lost_manifest_is_written_again(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(parts.archive_folder.path, key)
        place.manifest.unlink()
        await rebuilt(genomes, key, b"the same?")
        await rebuilt(genomes, key, b">chr1\nACGT\n")
        await parts.settle()
        assert settle(place).presence is Presence.PRESENT


async def test_a_fifo_under_a_manifests_name_holds_nobody_up(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(parts.archive_folder.path, key)
        place.manifest.unlink()
        os.mkfifo(place.manifest)
        with anyio.fail_after(20):
            await rebuilt(genomes, key, b"other")
            await parts.settle()
    async with running(genomes, state="new") as parts:
        assert parts.archive_folder.id


async def test_two_daemons_never_share_an_archive_folder(genomes: Genomes) -> None:
    async with running(genomes) as one, running(genomes, state="other") as two:
        with one.archive_folder.held(), pytest.raises(AlreadyRunningError), two.archive_folder.held():
            pass
        with two.archive_folder.held():
            pass


@pytest.mark.parametrize("mode", [None, 0o644])  # 0o644: as earlier versions made them
async def test_no_file_that_is_locked_can_be_opened_by_others(genomes: Genomes, mode: int | None) -> None:
    async with running(genomes) as parts:
        marker, database = Path(parts.archive_folder.path, MARKER), parts.store.path
    lock = database.with_name(LOCK)
    if mode:
        lock.touch()
        for file in (marker, lock, database):
            file.chmod(mode)
    async with running(genomes) as parts:
        with held(database.parent), parts.archive_folder.held():
            files = [marker, lock, *database.parent.glob(f"{database.name}*")]
            assert len(files) > 3
            assert [file for file in files if file.stat().st_mode & 0o007] == []


async def test_a_folder_whose_disk_is_missing_is_reported_and_no_reason_to_end(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        folder = Path(parts.archive_folder.path)
        folder.rename(folder.with_name("away"))
        with parts.archive_folder.held():
            assert "disk not mounted?" in parts.archive_folder.problem()
        folder.with_name("away").rename(folder)


# ----------------------------------------------------------------------- removing


async def test_a_removal_of_an_asset_that_cannot_be_read_now_holds(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        real = parts.folder.look

        def unreadable(now: float) -> object:
            found = real(now)
            asset = msgspec.structs.replace(
                found.assets[key], state=AssetState.UNREADABLE, stamp="", files_stamp="", reason="EACCES"
            )
            return msgspec.structs.replace(found, assets={key: asset})

        with monkeypatch.context() as patch:
            patch.setattr(parts.folder, "look", unreadable)
            await Desk(context_of(parts)).ask("archive.remove", path="t7/fasta", delete_file=True)
        await parts.settle()
        assert await parts.record(key) is None, "it came back by itself, neither rebuilt nor asked for"


async def test_a_removal_meets_a_job_that_ends_at_that_moment(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        stamp = parts.reconciler.look.assets[key].stamp
        job, _ = await parts.jobs.enqueue(key, stamp=stamp, priority=Priority.ASKED, force=True)
        real = parts.jobs.cancel

        async def late(number: int, requester: object) -> object:
            async with transaction(parts.store) as tx:
                await tx.execute("UPDATE job SET state = 'succeeded' WHERE id = ?", (job.id,))
            monkeypatch.undo()
            return await real(number, requester)

        monkeypatch.setattr(parts.jobs, "cancel", late)
        lines = await Desk(context_of(parts)).lines("archive.remove", path="t7/fasta")
        assert "error" not in lines[-1], lines[-1]


async def test_a_job_does_not_begin_while_its_archive_is_removed(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(parts.archive_folder.path, key)
        real = Path.rename
        renaming, go_on = threading.Event(), threading.Event()

        def rename(partial: Path, final: Path) -> Path:
            renaming.set()
            go_on.wait(20)
            return real(partial, final)

        monkeypatch.setattr(Path, "rename", rename)
        stamp = parts.reconciler.look.assets[key].stamp
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: Desk(context_of(parts)).lines("archive.remove", path="t7/fasta"))
            await anyio.to_thread.run_sync(renaming.wait, 20)
            await parts.jobs.enqueue(key, stamp=stamp, priority=Priority.ASKED, force=True)
            await parts.work()
            go_on.set()
        recorded = await parts.record(key) is not None
        assert recorded != (settle(place).presence is Presence.REMOVED)


async def test_a_removal_that_was_cut_is_marked_at_the_next_start(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(parts.archive_folder.path, key)
        with monkeypatch.context() as patch:
            dying_at(patch, ".json", Killed())
            with pytest.raises(BaseException):  # noqa: B017, PT011 (a Killed, or a group of one)
                await Desk(context_of(parts)).lines("archive.remove", path="t7/fasta")
    async with running(genomes) as parts:
        await parts.settle()
        recorded = await parts.record(key) is not None
        assert recorded != (settle(place).presence is Presence.REMOVED)


# ----------------------------------------------------------------------- the queue


async def test_a_retried_older_job_is_seen(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        asset = parts.reconciler.look.assets[key]
        old = await claim(parts.jobs)
        assert old
        await parts.jobs.fail(old, DigestMismatchError("x"))
        await parts.jobs.enqueue(key, stamp=asset.stamp, priority=Priority.ASKED, requester=ANN)
        newer = await claim(parts.jobs)
        assert newer
        await parts.jobs.retry(old.id, ANN)
        await parts.jobs.fail(newer, UnreadableError("x"))  # folds into the older one
        stands = await parts.reconciler.standings.of(asset)
        assert stands.job
        assert stands.job.id == old.id


async def test_a_clock_that_was_set_back_holds_no_job_up(genomes: Genomes) -> None:
    genomes.build()
    async with running(genomes) as parts:
        ahead = 2 * 86_400.0
        parts.clock = lambda: time.time() + ahead
        await parts.reconciler.look_again()
        parts.clock = time.time
        assert await claim(parts.jobs)


# ----------------------------------------------------------------------- a full disk under the database


async def fill(parts: Parts) -> None:
    """Let the database have no page more, and use those it has."""
    (pages,) = await pragma(parts, "PRAGMA page_count")
    await pragma(parts, f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StateError, match="full"):
        for _ in range(10_000):
            async with changing(parts.jobs) as change:
                await change.log("x", data="y" * 900)


async def test_a_full_state_disk_ends_nothing_and_the_work_goes_on_when_there_is_room(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "DATABASE_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(pause, "CONDITION_POLL_SECONDS", 0.01)
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        await fill(parts)
        async with anyio.create_task_group() as group:
            group.start_soon(parts.worker.run)
            group.start_soon(parts.pause.run)
            await parts.health.ill("database")
            await parts.reconciler.sweep()
            await pragma(parts, "PRAGMA max_page_count = 1000000")
            await parts.archived(key)
            await parts.health.well("database")
            group.cancel_scope.cancel()


async def test_other_errors_of_a_statement_stay_what_they_are(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        with pytest.raises(sqlite3.IntegrityError):
            async with transaction(parts.store) as tx:
                await tx.execute("INSERT INTO fact VALUES ('a', NULL)")


async def test_what_a_full_state_disk_kept_from_the_queue_is_queued_when_there_is_room(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        await parts.settle()
        hinted_at = parts.reconciler.hinted_at
        for number in range(40):  # more than fits into the pages that are there
            genomes.build(f"g{number}")
        await fill(parts)
        await parts.reconciler.sweep()
        await parts.pause.look()
        assert "database" in parts.health.conditions
        assert parts.pause.reason == "waiting for the database"
        assert parts.reconciler.hinted_at == hinted_at
        await pragma(parts, "PRAGMA max_page_count = 1000000")
        await parts.pause.look()
        assert "database" not in parts.health.conditions
        assert parts.reconciler.hinted_at > hinted_at, "and a look comes soon"
