"""One job, from claim to its arrow: what is published, what is not, and what is left."""

import json
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from parts import Parts, claim, running
from synthetic import ALIAS, DIGEST, Genomes
from transactions import transaction

from refgenied.archive.format.manifest import About
from refgenied.archive.place import Place
from refgenied.archive.run import Run
from refgenied.genomes.walk import Tree
from refgenied.model import AssetKey, JobState, Outcome, Priority, Removal, Requester, UnreadableError, WriteError
from refgenied.queue import archiver

pytestmark = pytest.mark.anyio
ANN = Requester("ann", 1001)


def archives_in(parts: Parts) -> list[Path]:
    """Files of archives; not what the folder says of itself."""
    root = Path(parts.archive_folder.path)
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".refgenied"))


async def test_a_finished_build_is_published_and_recorded(genomes: Genomes) -> None:
    key = genomes.build(a=b"1", b=b"2")
    async with running(genomes) as parts:
        await parts.settle()
        record = await parts.record(key)
        assert record
        place = Place(parts.archive_folder.path, key)
        assert {path for path in archives_in(parts) if path.parent == place.folder} == {place.manifest, place.archive}
        assert (record.files, record.aliases, record.path) == (2, (ALIAS,), place.relative)
        assert record.proved_at
        kinds = [event.kind for event in await parts.events()]
        assert kinds == ["job.queued", "job.running", "archive.published", "job.succeeded"]
        await parts.settle()
        assert len(await parts.events()) == 4, "nothing more to do"


async def test_a_rebuild_that_touches_no_file_reads_nothing(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        before = await parts.record(key)
        genomes.start(key)
        genomes.finish(key)
        monkeypatch.setattr(archiver, "pack_asset", None)  # calling it would fail the job
        await parts.settle()
        after = await parts.record(key)
        assert before
        assert after
        assert (await parts.latest(key)).outcome is Outcome.UNCHANGED
        assert after.digest == before.digest
        assert after.stamp != before.stamp


async def test_a_rebuild_with_the_same_content_publishes_nothing(genomes: Genomes) -> None:
    key = genomes.build(a=b"same")
    async with running(genomes) as parts:
        await parts.settle()
        file = Path(parts.archive_folder.path, (await parts.record(key)).path)  # pyright: ignore[reportOptionalMemberAccess]
        inode = file.stat().st_ino
        (genomes.folder(key) / "a").unlink()
        genomes.build(a=b"same")
        await parts.settle()
        assert (await parts.latest(key)).outcome is Outcome.UNCHANGED
        assert file.stat().st_ino == inode
        (genomes.folder(key) / "a").unlink()
        genomes.build(a=b"other")
        await parts.settle()
        assert (await parts.latest(key)).outcome is Outcome.PUBLISHED
        assert file.stat().st_ino != inode


async def test_force_makes_it_anew(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        file = Path(parts.archive_folder.path, (await parts.record(key)).path)  # pyright: ignore[reportOptionalMemberAccess]
        inode = file.stat().st_ino
        stamp = parts.reconciler.look.assets[key].stamp
        await parts.jobs.enqueue(key, stamp=stamp, priority=Priority.ASKED, force=True, requester=ANN)
        await parts.work()
        assert (await parts.latest(key)).outcome is Outcome.PUBLISHED
        assert file.stat().st_ino != inode


async def test_an_asset_that_changes_while_it_is_packed_is_not_published(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build()
    real = archiver.pack_asset

    def pack_then_rebuild(*arguments: object, **named: object) -> object:
        draft = real(*arguments, **named)  # pyright: ignore
        genomes.start(key)
        genomes.finish(key)
        return draft

    async with running(genomes) as parts:
        monkeypatch.setattr(archiver, "pack_asset", pack_then_rebuild)
        await parts.reconciler.look_again()
        job = await claim(parts.jobs)
        assert job
        await parts.do(job)
        after = await parts.latest(key)
        assert (after.state, after.error_kind, after.attempts) == (JobState.QUEUED, "source_changed", 1)
        assert archives_in(parts) == []


async def test_an_asset_that_is_being_built_again_when_its_turn_comes_waits_for_the_next_look(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        genomes.start(key)
        await parts.work()
        job = await parts.latest(key)
        assert (job.state, job.error_kind) == (JobState.CANCELLED, "asset_incomplete")
        genomes.finish(key)
        await parts.settle()
        assert await parts.record(key)


async def test_a_hostile_asset_fails_once_and_does_not_stop_the_others(genomes: Genomes) -> None:
    bad, good = genomes.build("bad", a=b"1"), genomes.build("good", a=b"1")
    (genomes.folder(bad) / "out").symlink_to("/etc/passwd")
    async with running(genomes) as parts:
        await parts.settle()
        await parts.settle()
        job = await parts.latest(bad)
        assert (job.state, job.error_kind, job.attempts) == (JobState.FAILED, "unsafe_tree", 1)
        assert "out" in (job.error or "")
        assert await parts.record(good)
        (genomes.folder(bad) / "out").unlink()
        await parts.settle()
        assert await parts.record(bad), "another state of the asset is tried again"


async def test_files_that_are_not_what_refgenie_recorded_are_refused(genomes: Genomes) -> None:
    key = genomes.build(a=b"1")
    (genomes.folder(key) / "a").write_bytes(b"2")
    async with running(genomes) as parts:
        await parts.settle()
        assert (await parts.latest(key)).error_kind == "digest_mismatch"
        assert await parts.record(key) is None


async def test_an_archive_that_vanished_or_was_cut_is_made_again(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(parts.archive_folder.path, key)
        whole = place.archive.read_bytes()
        for damage in (place.archive.unlink, lambda: place.archive.write_bytes(whole[:-1])):
            damage()
            await parts.settle()
            assert place.archive.read_bytes() == whole


async def test_a_lost_database_is_filled_from_the_manifests_and_honours_removals(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = genomes.build("kept", a=b"1"), genomes.build("gone", a=b"1")
    async with running(genomes) as parts:
        await parts.settle()
        before = await parts.record(kept)
        stamp = parts.reconciler.look.assets[gone].stamp
        from refgenied.archive.publisher import remove  # noqa: PLC0415

        remove(Place(parts.archive_folder.path, gone), at=1.0, by="ann", stamp=stamp, delete_file=False)
        await parts.jobs.records.removed(Removal(gone, stamp, 1.0, "ann"), ANN, 3)
    monkeypatch.setattr(archiver, "pack_asset", None)
    async with running(genomes, state="new") as parts:
        await parts.settle()
        after = await parts.record(kept)
        assert before
        assert after
        assert (after.digest, after.stamp, after.files) == (before.digest, before.stamp, before.files)
        assert await parts.record(gone) is None
        assert [event.kind for event in await parts.events()] == ["database.rebuilt"]


async def test_an_archive_whose_record_never_came_is_adopted(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        async with transaction(parts.store) as tx:  # as after a crash between the renames and the commit
            await tx.execute("DELETE FROM archive")
            await tx.execute("UPDATE job SET state = 'running', ended_at = NULL, outcome = NULL")
    monkeypatch.setattr(archiver, "pack_asset", None)
    async with running(genomes) as parts:
        assert await parts.record(key)
        assert len(await parts.events("archive.adopted")) == 1
        await parts.work()
        assert (await parts.latest(key)).outcome is Outcome.UNCHANGED


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A pack has told how far it is."""
    real, reported = archiver.pack_asset, threading.Event()

    def pack(tree: Tree, place: Place, about: About, run: Run, **named: object) -> object:
        def progress(*reading: object) -> None:
            run.on_progress(*reading)  # pyright: ignore
            reported.set()

        return real(tree, place, about, Run(run.threads, run.check, progress), **named)  # pyright: ignore

    monkeypatch.setattr(archiver, "pack_asset", pack)
    return reported


async def test_a_cancel_reaches_a_packing_job_and_leaves_nothing(genomes: Genomes, reported: threading.Event) -> None:
    key = genomes.build(a=b"x" * 50_000_000)
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        job = await claim(parts.jobs)
        assert job
        async with anyio.create_task_group() as group:
            group.start_soon(parts.do, job)
            assert await anyio.to_thread.run_sync(reported.wait, 20)
            await parts.jobs.cancel(job.id, ANN)
        after = await parts.latest(key)
        assert (after.state, after.error) == (JobState.CANCELLED, "cancelled by ann")
        assert archives_in(parts) == []
        await parts.settle()
        assert (await parts.latest(key)).id == job.id, "it is not queued again by itself"


async def test_a_cancel_that_comes_while_the_job_fails_is_not_lost(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build()

    def fail(*_: object, **__: object) -> None:
        raise WriteError("no")

    probed, answer = threading.Event(), threading.Event()

    def probe() -> None:
        probed.set()
        assert answer.wait(20)

    async with running(genomes) as parts:
        monkeypatch.setattr(archiver, "pack_asset", fail)
        await parts.reconciler.look_again()
        job = await claim(parts.jobs)
        assert job
        monkeypatch.setattr(parts.archive_folder, "probe", probe)
        async with anyio.create_task_group() as group:
            group.start_soon(parts.do, job)
            assert await anyio.to_thread.run_sync(probed.wait, 20)
            await parts.jobs.cancel(job.id, ANN)
            answer.set()
        after = await parts.latest(key)
        assert (after.state, after.error) == (JobState.CANCELLED, "cancelled by ann")
        assert not parts.jobs.running


async def test_a_drain_hands_the_job_back_uncharged(genomes: Genomes, reported: threading.Event) -> None:
    key = genomes.build(a=b"x" * 50_000_000)
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        async with anyio.create_task_group() as group:
            group.start_soon(parts.worker.run)
            assert await anyio.to_thread.run_sync(reported.wait, 20)
            parts.worker.drain()
        after = await parts.latest(key)
        assert (after.state, after.attempts) == (JobState.QUEUED, 0)


async def test_an_unmounted_archive_disk_is_not_filled_again(genomes: Genomes) -> None:
    genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        folder = Path(parts.archive_folder.path)
        folder.rename(folder.with_name("disk"))
        folder.mkdir()
        await parts.settle()
        assert "not the archive folder that the database knows" in parts.health.conditions["archive_folder"][0]
        assert list(folder.iterdir()) == []
        folder.rmdir()
        folder.with_name("disk").rename(folder)
        await parts.settle()
        assert parts.health.conditions == {}
        assert len(await parts.events("job.queued")) == 1


async def test_a_crash_with_a_job_that_no_folder_can_be_for_does_not_stop_the_next_start(genomes: Genomes) -> None:
    key = AssetKey(DIGEST, ".hidden", "default")
    async with running(genomes) as parts:
        await parts.jobs.enqueue(key, stamp="s", priority=Priority.ASKED)
        assert await claim(parts.jobs)
    async with running(genomes) as parts:
        assert (await parts.latest(key)).crashes == 1


async def test_an_archive_of_a_newer_version_is_left_as_it_is(genomes: Genomes, tmp_path: Path) -> None:
    key, other = genomes.build(), genomes.build("other")
    place = Place(tmp_path / "archives", key)
    async with running(genomes) as parts:
        await parts.settle()
        place.manifest.write_text(json.dumps({"format": 99, "what": "nobody knows"}))
        before = place.archive.read_bytes(), place.manifest.read_bytes()
        for rebuilt in (key, other):
            genomes.start(rebuilt)
            (genomes.folder(rebuilt) / "more").write_text("more")
            genomes.finish(rebuilt)
        await parts.settle()
        assert (place.archive.read_bytes(), place.manifest.read_bytes()) == before
        job = await parts.latest(key)
        assert job.state is JobState.QUEUED, job
        assert "a newer refgenied wrote it" in (job.error or ""), job
        assert (await parts.latest(other)).state is JobState.SUCCEEDED
        verdict = await parts.verifier.verify(other, ANN)
        assert not verdict.damage
        with pytest.raises(UnreadableError, match="newer refgenied"):
            await parts.verifier.verify(key, ANN)
        record = await parts.record(key)
        assert record
        assert record.damaged is None, "nothing is marked"
