"""Several jobs at once: which run beside others, and what one of them cannot do to the others."""

import os
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from parts import Parts, claim, running
from synthetic import Genomes
from transactions import transaction

from refgenied.archive.place import Place
from refgenied.archive.presence import Presence, settle
from refgenied.archive.prover import prove
from refgenied.archive.publisher import Draft
from refgenied.archive.run import Run
from refgenied.archive_folder import generation
from refgenied.genomes.walk import Tree
from refgenied.model import (
    Arrow,
    Asset,
    AssetKey,
    Job,
    JobState,
    NoSpaceError,
    Outcome,
    Priority,
    Requester,
    UnsafeTreeError,
    WriteError,
)
from refgenied.queue import archiver, worker
from refgenied.queue.archiver import MOST_HANGING
from refgenied.queue.worker import AT_ONCE, SMALL_BYTES
from refgenied.store import Transaction, archives
from refgenied.store import jobs as rows

pytestmark = pytest.mark.anyio
ANN = Requester("ann", 1001)


class Packing:
    """Packs as ever, but shows which assets are in the making, and keeps those of some groups waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = archiver.pack_asset
        self._lock = threading.Condition()
        self._now: set[str] = set()
        self.held: set[str] = set()
        self.beside: dict[str, set[str]] = {}
        """Group → the groups that were in the making when it began, or that began before it was done."""
        self.failing: dict[str, Exception] = {}
        monkeypatch.setattr(archiver, "pack_asset", self)

    def __call__(self, tree: Tree, place: Place, about: object, run: Run, **named: object) -> Draft:
        with self._making(place.key.asset_group) as group:
            while True:
                run.check()
                with self._lock:
                    if group not in self.held:
                        break
                    self._lock.wait(0.01)
            if group in self.failing:
                raise self.failing[group]
            return self._real(tree, place, about, run, **named)  # pyright: ignore

    @contextmanager
    def _making(self, group: str) -> Iterator[str]:
        with self._lock:
            self.beside[group] = set(self._now)
            for other in self._now:
                self.beside[other].add(group)
            self._now.add(group)
            self._lock.notify_all()
        try:
            yield group
        finally:
            with self._lock:
                self._now.discard(group)
                self._lock.notify_all()

    async def until(self, *groups: str) -> None:
        """Wait until exactly these are in the making."""

        def wait() -> bool:
            with self._lock:
                return self._lock.wait_for(lambda: self._now == set(groups), 20)

        assert await anyio.to_thread.run_sync(wait), self._now

    def release(self, *groups: str) -> None:
        with self._lock:
            self.held -= set(groups) or set(self.held)
            self._lock.notify_all()


@pytest.fixture
def packing(monkeypatch: pytest.MonkeyPatch) -> Packing:
    return Packing(monkeypatch)


@asynccontextmanager
async def working(parts: Parts) -> AsyncGenerator[None]:
    """The worker at work, after a look; drained at the end."""
    await parts.reconciler.look_again()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(parts.worker.run)
            yield
            parts.worker.drain()


async def ended(parts: Parts, *keys: AssetKey) -> None:
    """Wait until the last job of each of these has ended."""
    with parts.feed.subscribed("job.") as events:
        for key in keys:
            while (await parts.latest(key)).state in (JobState.QUEUED, JobState.RUNNING):
                await events.take()


async def assert_all_is_right(parts: Parts, *keys: AssetKey) -> None:
    for key in keys:
        record = await parts.record(key)
        assert record, key
        place = Place(parts.archive_folder.path, key)
        there = settle(place)
        assert (there.presence, there.finished) == (Presence.PRESENT, False)
        assert there.manifest
        assert there.manifest.digest == record.digest
        prove(place.archive, there.manifest, Run())


async def test_small_assets_are_made_beside_each_other_and_a_big_one_alone(genomes: Genomes, packing: Packing) -> None:
    small = [f"a{number}" for number in range(3)]
    keys = [genomes.build(group) for group in small]
    keys.append(genomes.build("big", a=b"x" * (SMALL_BYTES + 1)))
    keys.append(genomes.build("small"))
    packing.held = {*small, "big"}
    async with running(genomes) as parts, working(parts):
        await packing.until(*small)
        packing.release("a0", "a1")
        await packing.until("a2")
        packing.release("a2")
        await packing.until("big")
        packing.release("big")
        await ended(parts, *keys)
        assert packing.beside["a0"] >= {"a1", "a2"}
        assert packing.beside["big"] == packing.beside["small"] == set()
        await assert_all_is_right(parts, *keys)


async def test_no_more_are_in_the_making_than_allowed(genomes: Genomes, packing: Packing) -> None:
    keys = [genomes.build(f"a{number:02}") for number in range(AT_ONCE + 3)]
    packing.held = {key.asset_group for key in keys}
    async with running(genomes) as parts, working(parts):
        await packing.until(*(key.asset_group for key in keys[:AT_ONCE]))
        for _ in range(20):  # the worker comes back to the queue meanwhile
            parts.jobs.wake()
            assert await parts.jobs.due(1)
        assert len(parts.jobs.running) == AT_ONCE
        packing.release()
        await ended(parts, *keys)
        await assert_all_is_right(parts, *keys)


async def test_an_archive_that_is_ready_does_not_wait_for_the_others(genomes: Genomes, packing: Packing) -> None:
    slow, quick = genomes.build("slow"), genomes.build("quick")
    packing.held = {"slow"}
    async with running(genomes) as parts, working(parts):
        await ended(parts, quick)
        await packing.until("slow")
        await assert_all_is_right(parts, quick)
        packing.release()
        await ended(parts, slow)


async def together(parts: Parts, packing: Packing, *keys: AssetKey) -> None:
    """Have the archives of these assets published as one group."""
    waiting = parts.worker.publisher.waiting
    async with parts.archive_folder.publishing:
        packing.release()
        while {one.job.key for one in waiting} != set(keys):
            await anyio.lowlevel.checkpoint()


async def numbers(parts: Parts) -> tuple[int | None, generation.Generation | None]:
    return await parts.store.ask(archives.generation), generation.read(parts.archive_folder.path)


async def test_a_group_has_one_number_and_one_commit(genomes: Genomes, packing: Packing) -> None:
    keys = [genomes.build(f"a{number}") for number in range(5)]
    packing.held = {key.asset_group for key in keys}
    async with running(genomes) as parts:
        before, _ = await numbers(parts)
        async with working(parts):
            await together(parts, packing, *keys)
            await ended(parts, *keys)
        recorded, folder = await numbers(parts)
        assert folder
        assert recorded == folder.number == (before or 0) + 1
        assert set(folder.unsettled) == set(keys)
        assert len({event.at for event in await parts.events("archive.published")}) == 1
        await assert_all_is_right(parts, *keys)


@pytest.mark.parametrize("name", [".tgz", ".json"])
async def test_an_error_of_one_publish_touches_no_other(
    genomes: Genomes, packing: Packing, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    keys = [genomes.build(f"a{number}") for number in range(4)]
    bad, good = keys[2], [*keys[:2], *keys[3:]]
    packing.held = {key.asset_group for key in keys}
    rename = os.rename

    def renamed(old: Path, new: Path) -> None:
        if str(new) == str(Place(tmp, bad).archive.with_suffix(name)):
            raise OSError(5, "Input/output error")
        rename(old, new)

    async with running(genomes) as parts:
        tmp = parts.archive_folder.path
        parts.change_settings(retry_seconds=600.0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", renamed)
            async with working(parts):
                await together(parts, packing, *keys)
                await ended(parts, *good)
                with parts.feed.subscribed("job.requeued") as events:
                    while not (await parts.latest(bad)).error:
                        await events.take()
        await assert_all_is_right(parts, *good)
        job = await parts.latest(bad)
        assert (job.state, job.error_kind) == (JobState.QUEUED, "write_failed")
        assert await parts.record(bad) is None
        await parts.archive_folder.settle(parts.store)
        _, folder = await numbers(parts)
        assert folder
        assert folder.unsettled == (bad,), "the next start looks at it"
    async with running(genomes) as parts:
        assert bool(await parts.record(bad)) is (name == ".json"), "a cut publish is finished, another one undone"
        await parts.jobs.retry((await parts.latest(bad)).id, ANN)
        await parts.work()
        await assert_all_is_right(parts, *keys)
        assert not list(Path(parts.archive_folder.path).rglob(".*.partial"))


@pytest.mark.parametrize("first", ["good", "bad"])
async def test_partial_files_that_cannot_be_removed_end_no_other_job(
    genomes: Genomes, packing: Packing, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The first one publishes both."""
    good, bad = genomes.build("good"), genomes.build("bad")
    packing.held = {"good", "bad"}

    def discarded(_: Draft) -> None:
        raise WriteError("a folder has the name of a partial file")

    monkeypatch.setattr(Draft, "discard", discarded)
    async with running(genomes) as parts:
        parts.change_settings(retry_seconds=600.0)
        async with working(parts):
            await packing.until("good", "bad")
            waiting = parts.worker.publisher.waiting
            async with parts.archive_folder.publishing:
                for number, group in enumerate(sorted(packing.held, key=lambda group: group != first)):
                    packing.release(group)
                    while len(waiting) <= number:
                        await anyio.lowlevel.checkpoint()
                Place(parts.archive_folder.path, bad).archive.mkdir()
            await ended(parts, good)
            while parts.jobs.running:
                await anyio.lowlevel.checkpoint()
        await assert_all_is_right(parts, good)
        job = await parts.latest(bad)
        assert (job.state, job.error_kind) == (JobState.QUEUED, "write_failed")
        assert "a folder has the name" not in (job.error or "")


async def test_a_job_whose_end_is_recorded_already_ends_no_worker(genomes: Genomes, packing: Packing) -> None:
    key, other = genomes.build("a0"), genomes.build("a1")
    packing.held = {"a0", "a1"}
    packing.failing = {"a0": UnsafeTreeError("a link leads out")}
    async with running(genomes) as parts, working(parts):
        await packing.until("a0", "a1")
        job = await parts.latest(key)

        async def ended_by_others(tx: Transaction) -> None:
            await rows.move(tx, job.id, Arrow.FAIL, ended_at=1.0)

        await parts.store.ask(ended_by_others)
        packing.release()
        await ended(parts, other)
        while parts.jobs.running:
            await anyio.lowlevel.checkpoint()
        assert (await parts.latest(key)).ended_at == 1.0


# ----------------------------------------------------------------------- the look before the claim


async def test_a_look_without_a_thread_is_a_condition(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    key = genomes.build()
    start, refused = threading.Thread.start, list[str]()

    def started(thread: threading.Thread) -> None:
        if thread.name == "asset" and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    async with running(genomes) as parts, working(parts):
        assert "thread" in await parts.health.ill("shortage")
        with parts.feed.subscribed("job.requeued") as events:
            while not (await parts.latest(key)).error:
                await events.take()
        job = await parts.latest(key)
        assert (job.state, job.attempts, job.error_kind) == (JobState.QUEUED, 0, "shortage")
        await parts.pause.resume(ANN)
        await ended(parts, key)
        await assert_all_is_right(parts, key)


async def test_any_error_of_a_look_is_the_error_of_its_job(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        parts.change_settings(retry_seconds=600.0)

        async def look(*_: object) -> None:
            raise ValueError("a fault of ours")

        monkeypatch.setattr(parts.worker.archiver, "look", look)
        async with working(parts):
            with parts.feed.subscribed("job.requeued") as events:
                while not (await parts.latest(key)).error:
                    await events.take()
        job = await parts.latest(key)
        assert (job.state, job.attempts) == (JobState.QUEUED, 1)
        assert "a fault of ours" in (job.error or "")


class Looks:
    """Looks as ever, but counts, and hangs at some assets."""

    def __init__(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = parts.folder.asset
        self.seen: Counter[AssetKey] = Counter()
        self.hanging: set[AssetKey] = set()
        self.answers = threading.Event()
        monkeypatch.setattr(parts.folder, "asset", self)

    def __call__(self, key: AssetKey, now: float) -> Asset | None:
        self.seen[key] += 1
        if key in self.hanging:
            assert self.answers.wait(20)
        return self._real(key, now)


async def test_a_big_asset_is_not_looked_at_for_others(
    genomes: Genomes, packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is looked at before and after it is packed, and once more if a small one came before it."""
    big = [genomes.build(f"a{number}", a=b"x" * (SMALL_BYTES + 1)) for number in range(6)]
    small = [genomes.build(f"b{number}") for number in range(AT_ONCE)]
    last = genomes.build("c", a=b"x" * (SMALL_BYTES + 1))
    async with running(genomes) as parts:
        looks = Looks(parts, monkeypatch)
        packing.held = {"b7"}
        async with working(parts):
            await ended(parts, *small[:-1])
            packing.release()
            await ended(parts, *big, *small, last)
        assert [looks.seen[key] for key in big] == [2] * len(big)
        assert [looks.seen[key] for key in small] == [2] * len(small)
        assert looks.seen[last] <= 3


async def test_a_look_that_hangs_is_told_and_a_cancel_passes_its_job_over(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LATE_LOOK_SECONDS", 0.01)
    bad = [genomes.build(f"a{number}") for number in range(MOST_HANGING + 1)]
    good = genomes.build("good")
    async with running(genomes) as parts:
        looks = Looks(parts, monkeypatch)
        looks.hanging = set(bad)
        async with working(parts):
            for key in bad:
                job = await parts.latest(key)
                while f"job {job.id} cannot begin" not in await parts.health.ill("next_job"):
                    await anyio.sleep(0.001)
                assert job.state is JobState.QUEUED
                await parts.jobs.cancel(job.id, ANN)
            assert [thread.name for thread in threading.enumerate()].count("asset") == MOST_HANGING
            looks.answers.set()
            await ended(parts, good)
            await assert_all_is_right(parts, good)
            assert "next_job" not in parts.health.conditions
            assert {(await parts.latest(key)).state for key in bad} == {JobState.CANCELLED}


async def test_others_go_on_while_the_look_of_a_cancelled_job_hangs(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = genomes.build("a0"), genomes.build("a1")
    async with running(genomes) as parts:
        looks = Looks(parts, monkeypatch)
        looks.hanging = {bad}
        async with working(parts):
            while not looks.seen[bad]:
                await anyio.lowlevel.checkpoint()
            await parts.jobs.cancel((await parts.latest(bad)).id, ANN)
            await ended(parts, good)
            await assert_all_is_right(parts, good)
            looks.answers.set()


# ----------------------------------------------------------------------- errors of one


async def test_a_commit_that_fails_because_of_one_job_is_made_for_each(
    genomes: Genomes, packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [genomes.build(f"a{number}") for number in range(4)]
    packing.held = {key.asset_group for key in keys}
    async with running(genomes) as parts:
        parts.change_settings(retry_seconds=600.0)
        async with transaction(parts.store) as tx:
            await tx.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON archive WHEN new.asset_group = 'a2' "
                "BEGIN SELECT RAISE(ABORT, 'this one is refused'); END"
            )
        async with working(parts):
            await together(parts, packing, *keys)
            await ended(parts, *keys[:2], keys[3])
        await assert_all_is_right(parts, *keys[:2], keys[3])
        assert await parts.record(keys[2]) is None
        assert "this one is refused" in ((await parts.latest(keys[2])).error or "")


async def test_a_cancel_ends_one_job_and_a_drain_all_of_them(genomes: Genomes, packing: Packing) -> None:
    keys = [genomes.build(f"a{number}") for number in range(3)]
    packing.held = {key.asset_group for key in keys}
    async with running(genomes) as parts:
        async with working(parts):
            await packing.until("a0", "a1", "a2")
            await parts.jobs.cancel((await parts.latest(keys[1])).id, ANN)
            await packing.until("a0", "a2")
        found = [await parts.latest(key) for key in keys]
        assert [job.state for job in found] == [JobState.QUEUED, JobState.CANCELLED, JobState.QUEUED]
        assert [job.attempts for job in found] == [0, 1, 0]
        assert not parts.jobs.running
        assert not list(Path(parts.archive_folder.path).rglob(".*.partial"))


async def test_a_full_disk_charges_none_of_the_jobs(genomes: Genomes, packing: Packing) -> None:
    keys = [genomes.build(f"a{number}") for number in range(3)]
    packing.held = {key.asset_group for key in keys}
    packing.failing = {key.asset_group: NoSpaceError("the disk is full") for key in keys}
    async with running(genomes) as parts, working(parts):
        await packing.until("a0", "a1", "a2")
        packing.release()
        assert "the disk is full" in await parts.health.ill("space")
        with parts.feed.subscribed("job.requeued") as events:
            while parts.jobs.running:
                await events.take()
        found = [await parts.latest(key) for key in keys]
        assert [(job.state, job.attempts, job.error_kind) for job in found] == [(JobState.QUEUED, 0, "no_space")] * 3
        packing.failing = {}
        await parts.pause.resume(ANN)
        await ended(parts, *keys)
        await assert_all_is_right(parts, *keys)


async def test_jobs_that_ran_during_a_kill_run_alone(genomes: Genomes, packing: Packing) -> None:
    """One of them may be the reason. If they ran together again, the next kill would be charged to all of them."""
    keys = [genomes.build(f"a{number}") for number in range(3)]
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        assert all([await claim(parts.jobs) for _ in keys])
    new = [genomes.build(f"new{number}") for number in range(2)]
    packing.held = {key.asset_group for key in keys}
    async with running(genomes) as parts, working(parts):
        for key in keys:
            await packing.until(key.asset_group)
            for _ in range(20):  # the worker would begin the next one meanwhile
                await parts.jobs.due(1)
            await packing.until(key.asset_group)
            packing.release(key.asset_group)
        await ended(parts, *keys, *new)
        await assert_all_is_right(parts, *keys, *new)


async def test_who_was_there_at_more_kills_goes_later(genomes: Genomes) -> None:
    """Three ran at the first kill, and the first of them is the reason for it: the others must have their turn."""
    keys = [AssetKey("d", group, "default") for group in ("a", "b", "c")]
    async with running(genomes) as parts:
        for key in keys:
            await parts.jobs.enqueue(key, stamp="s", priority=Priority.ASKED)
        assert all([await claim(parts.jobs) for _ in keys])
        await parts.jobs.recover()
        first = await claim(parts.jobs)
        assert first
        assert first.key == keys[0]
        await parts.jobs.recover()
        await parts.jobs.enqueue(AssetKey("d", "new", "default"), stamp="s", priority=Priority.BACKLOG)
        assert [job.key.asset_group for job in await parts.jobs.due(4)] == ["new", "b", "c", "a"]


async def test_a_reserved_asset_is_passed_over(genomes: Genomes, packing: Packing) -> None:
    reserved, other = genomes.build("a0"), genomes.build("a1")
    async with running(genomes) as parts, working(parts):
        with parts.jobs.reserved(reserved):
            await ended(parts, other)
            assert (await parts.latest(reserved)).state is JobState.QUEUED
            assert packing.beside == {"a1": set()}
        await ended(parts, reserved)


async def test_reserved_assets_hide_no_job_behind_others_that_wait(genomes: Genomes) -> None:
    reserved, last = AssetKey("d", "a", "x"), AssetKey("d", "z", "x")
    async with running(genomes) as parts:
        await parts.jobs.enqueue(reserved, stamp="s", priority=Priority.ASKED)
        needs = {AssetKey("d", f"b{number}", "x"): rows.Need("s", Priority.BUILT) for number in range(300)}
        await parts.jobs.enqueue_all(needs)
        await parts.store.ask(wait_all, list(needs))
        await parts.jobs.enqueue(last, stamp="s", priority=Priority.BACKLOG)
        with parts.jobs.reserved(reserved):
            assert [job.key for job in await parts.jobs.due(4)] == [last]
        assert [job.key for job in await parts.jobs.due(1)] == [reserved]


async def wait_all(tx: Transaction, keys: list[AssetKey]) -> None:
    for key in keys:
        await tx.execute("UPDATE job SET not_before = 1e12 WHERE asset_group = ?", (key.asset_group,))


async def test_only_jobs_that_are_still_due_are_claimed(genomes: Genomes) -> None:
    keys = [AssetKey("d", group, "default") for group in ("a", "b", "c", "d")]
    async with running(genomes) as parts:
        for key in keys:
            await parts.jobs.enqueue(key, stamp="old", priority=Priority.BUILT)
        found = await parts.jobs.due(4)
        assert [job.key for job in found] == keys
        stamps: dict[int, str] = {job.id: "new" for job in found}
        await parts.jobs.cancel(found[1].id, ANN)
        await parts.jobs.enqueue(AssetKey("d", "urgent", "default"), stamp="old", priority=Priority.ASKED)
        with parts.jobs.reserved(keys[2]):
            claimed: list[Job] = [job for job, _ in await parts.jobs.claim_those(stamps)]
        assert [job.key for job in claimed] == [keys[0], keys[3]]
        assert [job.stamp for job in claimed] == ["new", "new"]
        assert [await parts.latest(job.key) for job in claimed] == claimed
        assert parts.jobs.running.keys() == {job.id for job in claimed}


async def test_an_unchanged_asset_needs_no_lock(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        genomes.start(key)
        genomes.finish(key)
        await parts.reconciler.look_again()
        async with parts.archive_folder.publishing:
            job = await claim(parts.jobs)
            assert job
            await parts.do(job)
        assert (await parts.latest(key)).outcome is Outcome.UNCHANGED
