"""Verify and scrub: damage is found, marked, and made good where the asset still allows it."""

import os
import shutil
import time

import anyio
import anyio.to_thread
import msgspec
import pytest
from controlled import Desk, context_of
from parts import Parts, claim, record_of, running
from synthetic import ALIAS
from transactions import transaction

from refgenied.archive.verifier import Finding
from refgenied.control.verbs import verify
from refgenied.maintenance import scrubber
from refgenied.maintenance.scrubber import DAY, is_due
from refgenied.model import (
    ArchiveNotFoundError,
    ArchiveRecord,
    AssetKey,
    JobState,
    Priority,
    Requester,
    StateError,
    UnreadableError,
)
from refgenied.policy import ArchiveState
from refgenied.queue.jobs import RunningJob

pytestmark = pytest.mark.anyio

ANN = Requester("ann", 1000, 42)


def flip(parts: Parts, record: ArchiveRecord, share: float = 0.5) -> None:
    path = parts.root / "archives" / record.path
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1
    info = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


async def test_a_sound_archive_is_proved_and_the_time_is_kept(genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        before = await parts.record(key)
        verdict = await parts.verifier.verify(key, ANN)
        after = await parts.record(key)
        assert (verdict.damage, verdict.job) == ("", None)
        assert after.proved_at > before.proved_at
        assert [event.data["by"] for event in await parts.events("archive.verified")] == ["ann"]
        quick = await parts.verifier.verify(key, ANN, quick=True)
        assert (quick.damage, (await parts.record(key)).proved_at) == ("", after.proved_at)


async def test_a_damaged_archive_is_named_marked_and_made_anew(genomes):
    key = genomes.build(b=b"x" * 5000, a=b"1")
    async with running(genomes) as parts:
        await parts.settle()
        record = await parts.record(key)
        flip(parts, record)
        verdict = await parts.verifier.verify(key, ANN)
        assert "member" in verdict.damage
        assert verdict.hint == f"job {verdict.job} makes it anew from its asset"
        assert (await parts.record(key)).damaged == verdict.damage
        assert [event.data["error"] for event in await parts.events("archive.damaged")] == [verdict.damage]
        await parts.damage.tell()
        assert verdict.damage in parts.health.conditions["damaged"][0]
        await parts.work()
        made = await parts.record(key)
        assert (made.damaged, made.digest) == (None, record.digest)
        assert (await parts.verifier.verify(key, ANN)).damage == ""
        await parts.damage.tell()
        assert "damaged" not in parts.health.conditions


async def test_a_sweep_makes_a_damaged_archive_anew_by_itself(genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        record = await parts.record(key)
        flip(parts, record)
        verdict = await parts.verifier.verify(key, ANN)
        await parts.jobs.cancel(verdict.job, ANN)  # the job is lost, the mark is not
        asset, stands = (await parts.reconciler.standings.all())[key]
        assert stands.archive is ArchiveState.STALE
        assert "cancelled" in stands.why_not
        async with transaction(parts.store) as tx:
            await tx.execute("DELETE FROM job")
        await parts.settle()
        assert (await parts.record(key)).damaged is None
        assert asset.key == key


async def test_what_cannot_be_made_anew_stays_marked_and_says_what_to_do(genomes):
    gone, changed = genomes.build("gone"), genomes.build("changed")
    async with running(genomes) as parts:
        await parts.settle()
        shutil.rmtree(genomes.folder(gone))
        (genomes.folder(changed) / "changed").write_bytes(b"new")
        for key, hint in ((gone, "backup"), (changed, "changed since")):
            record = await parts.record(key)
            copy = (parts.root / "archives" / record.path).read_bytes()
            flip(parts, record)
            verdict = await parts.verifier.verify(key, ANN)
            assert hint in verdict.hint
            assert verdict.job is None
            assert (await parts.record(key)).damaged
            (parts.root / "archives" / record.path).write_bytes(copy)
            assert (await parts.verifier.verify(key, ANN)).damage == ""
            assert (await parts.record(key)).damaged is None


async def test_a_missing_manifest_and_a_cut_file_are_damage_for_the_quick_look_too(genomes):
    one, two = genomes.build("one"), genomes.build("two")
    async with running(genomes) as parts:
        await parts.settle()
        (parts.root / "archives" / (await parts.record(one)).path).with_suffix(".json").unlink()
        os.truncate(parts.root / "archives" / (await parts.record(two)).path, 10)
        assert "no manifest" in (await parts.verifier.verify(one, ANN, quick=True)).damage
        assert "10 bytes" in (await parts.verifier.verify(two, ANN, quick=True)).damage
        await parts.work()
        for key in (one, two):
            assert (await parts.verifier.verify(key, ANN)).damage == ""


async def test_an_archive_that_a_running_job_replaces_is_not_called_damaged(genomes):
    """What is read while a publish replaces it fits together badly: it is read again once the job has ended."""
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        record = await parts.record(key)
        copy = (parts.root / "archives" / record.path).read_bytes()
        await parts.jobs.enqueue(key, stamp=record.stamp, priority=Priority.ASKED, force=True)
        job = await claim(parts.jobs)
        flip(parts, record)
        async with anyio.create_task_group() as group:
            await parts.archive_folder.publishing.acquire()

            async def verify() -> None:
                assert (await parts.verifier.verify(key, ANN)).damage == ""

            group.start_soon(verify)
            await anyio.wait_all_tasks_blocked()
            (parts.root / "archives" / record.path).write_bytes(copy)
            await parts.jobs.hand_back(job, ArchiveNotFoundError("test"))
            parts.archive_folder.publishing.release()
        assert not await parts.events("archive.damaged")


async def test_a_disk_that_goes_while_its_archives_are_verified_marks_none_as_damaged(genomes):
    key = genomes.build(big=os.urandom(4 << 20))
    async with running(genomes) as parts:
        await parts.settle()
        archives = parts.root / "archives"

        def unmount(*_: object) -> None:
            if archives.exists():
                archives.rename(parts.root / "disk")

        with pytest.raises(UnreadableError, match="not the archive folder that the database knows"):
            await parts.verifier.verify_by(
                lambda _: unmount() or Finding("its file is missing"),
                key,
                ANN,
            )
        (parts.root / "disk").rename(archives)
        assert (await parts.record(key)).damaged is None
        assert (await parts.verifier.verify(key, ANN)).damage == ""


async def test_a_verification_that_is_cancelled_leaves_no_trace(genomes):
    key = genomes.build(big=os.urandom(4 << 20))
    async with running(genomes) as parts:
        await parts.settle()
        before = await parts.record(key)
        with anyio.CancelScope() as scope:
            await parts.verifier.verify(key, ANN, on_progress=lambda *_: anyio.from_thread.run_sync(scope.cancel))
        assert scope.cancelled_caught
        assert await parts.record(key) == before


async def test_the_scrub_proves_what_is_due_and_waits_for_jobs(genomes):
    keys = [genomes.build(name) for name in ("a", "b")]
    async with running(genomes) as parts:
        await parts.settle()
        assert not await parts.scrubber.scrub()  # proved when they were published
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET proved_at = 1 WHERE asset_group = 'b'")
        parts.jobs.running[7] = RunningJob()
        async with anyio.create_task_group() as group:
            group.start_soon(parts.scrubber.scrub)
            await anyio.sleep(0.3)
            assert (await parts.record(keys[1])).proved_at == 1
            del parts.jobs.running[7]
        assert (await parts.record(keys[1])).proved_at > 1
        parts.change_settings(scrub_days=0.0)
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET proved_at = 1")
        assert not await parts.scrubber.scrub()


async def test_a_scrub_that_waits_for_jobs_ends_when_the_daemon_does(genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET proved_at = 1")
        parts.jobs.running[7] = RunningJob()
        with anyio.move_on_after(0.3) as scope:
            await parts.scrubber.scrub()
        assert scope.cancelled_caught
        assert (await parts.record(key)).proved_at == 1
        assert not await parts.events("archive.damaged")


async def test_a_sandbox_that_forbids_to_be_nice_hinders_no_scrub(genomes, monkeypatch):
    """SystemCallFilter=~@resources, as in our unit."""
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET proved_at = 1")

        def forbidden(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "setpriority", forbidden)
        assert await parts.scrubber.scrub()
        assert (await parts.record(key)).proved_at > 1


async def test_the_scrub_finds_damage_and_asks_for_nobody(genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        flip(parts, await parts.record(key))
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET proved_at = 1")
        assert await parts.scrubber.scrub()
        job = await parts.latest(key)
        assert (job.state, job.priority, job.force) == (JobState.QUEUED, Priority.BACKLOG, True)
        assert not await parts.scrubber.scrub()  # what is known to be damaged is not read again


@pytest.mark.parametrize("error", [UnreadableError("the disk says no"), ValueError("nobody thought of it")])
async def test_an_archive_that_cannot_be_judged_does_not_end_the_scrub(error, genomes, monkeypatch):
    odd, sound = genomes.build("a"), genomes.build("b")
    examine = scrubber.examine

    def examined(place, record, *arguments, **named) -> Finding:
        if record.key == odd:
            raise error
        return examine(place, record, *arguments, **named)

    monkeypatch.setattr(scrubber, "examine", examined)
    async with running(genomes) as parts:
        await parts.settle()
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET proved_at = 1")
        with anyio.fail_after(20):
            while await parts.scrubber.scrub():
                pass
        assert (await parts.record(odd)).proved_at == 1
        assert (await parts.record(sound)).proved_at > 1


async def test_a_database_that_gives_no_answer_does_not_end_the_watch_for_damage(genomes, monkeypatch):
    async with running(genomes) as parts:

        async def fails() -> None:
            raise StateError("no answer")

        monkeypatch.setattr(parts.damage, "tell", fails)
        with anyio.move_on_after(0.2) as scope:
            await parts.damage.run()
        assert scope.cancelled_caught


async def test_the_health_follows_what_others_do(genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        flip(parts, await parts.record(key))
        async with anyio.create_task_group() as group:
            group.start_soon(parts.damage.run)
            await anyio.wait_all_tasks_blocked()
            await parts.verifier.verify(key, ANN)
            assert f"{ALIAS}/fasta:default" in await parts.health.ill("damaged")
            await parts.work()
            await parts.health.well("damaged")
            group.cancel_scope.cancel()


async def test_no_record_no_verdict(genomes):
    async with running(genomes) as parts:
        with pytest.raises(ArchiveNotFoundError):
            await parts.verifier.verify(AssetKey("d", "g", "a"), ANN)


def test_everything_is_proved_once_in_its_days_and_a_share_each_day():
    days, now = 10.0, 100 * DAY
    records = [record_of(str(n), 100, now - DAY) for n in range(50)]
    for _ in range(12):
        used = 0
        while is_due(records[0], now, days, share=5000 / days, used=used):
            used += records[0].size
            records.append(msgspec.structs.replace(records.pop(0), proved_at=now))
        assert used <= 500
        now += DAY
    assert all(now - record.proved_at <= days * DAY for record in records)


def test_a_single_large_archive_is_proved_when_it_is_overdue():
    now, share = 100 * DAY, 10**11
    assert not is_due(record_of("a", 10**12, now - 9 * DAY), now, 10.0, share=share, used=0)
    assert is_due(record_of("a", 10**12, now - 10 * DAY), now, 10.0, share=share, used=0)
    assert is_due(record_of("a", 10**12, None), now, 10.0, share=share, used=0)


async def test_the_scrub_is_done_when_nothing_is_left_that_is_sound(genomes):
    damaged, sound = genomes.build("a"), genomes.build("b")
    async with running(genomes) as parts:
        assert not await parts.scrubber.scrub()
        await parts.settle()
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET proved_at = 1")
            await tx.execute("UPDATE archive SET damaged = 'x' WHERE asset_group = 'a'")
        parts.clock = lambda: time.time() + DAY
        assert await parts.scrubber.scrub()
        assert not await parts.scrubber.scrub()
        assert [(await parts.record(key)).proved_at > 1 for key in (damaged, sound)] == [False, True]


async def test_the_health_asks_the_database_only_after_what_can_change_it(genomes, monkeypatch):
    keys = [genomes.build(name) for name in "abcde"]
    async with running(genomes) as parts:
        asked, tell = [], parts.damage.tell

        async def noted() -> None:
            asked.append(None)
            await tell()

        monkeypatch.setattr(parts.damage, "tell", noted)
        async with anyio.create_task_group() as group:
            group.start_soon(parts.damage.run)
            await anyio.wait_all_tasks_blocked()
            await parts.settle()
            for key in keys:
                await parts.verifier.verify(key, ANN)
            await anyio.wait_all_tasks_blocked()
            assert len(asked) == 1
            flip(parts, await parts.record(keys[0]))
            await parts.verifier.verify(keys[0], ANN)
            await parts.health.ill("damaged")
            await parts.work()
            await parts.health.well("damaged")
            group.cancel_scope.cancel()


async def test_verify_all_proves_each_archive_once_and_the_oldest_proof_first(genomes, monkeypatch):
    monkeypatch.setattr(verify, "MOST_RECORDS", 2)
    keys = [genomes.build(name) for name in "abcde"]
    async with running(genomes) as parts:
        await parts.settle()
        desk = Desk(context_of(parts))
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET proved_at = 9 WHERE asset_group = 'a'")
            await tx.execute("UPDATE archive SET proved_at = NULL WHERE asset_group = 'd'")
            await tx.execute("UPDATE archive SET damaged = 'x' WHERE asset_group = 'b'")
        quick = await desk.ask("archive.verify", all=True, quick=True)
        assert (quick["verified"], quick["damaged_total"]) == (5, 0)
        whole = await desk.ask("archive.verify", all=True)
        assert (whole["verified"], whole["damaged_total"]) == (5, 0)
        proved = [event.key for event in await parts.events("archive.verified")]
        assert (sorted(proved), proved[:2]) == (keys, [keys[3], keys[0]])
