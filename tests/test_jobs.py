"""The queue: each arrow of the state table, and what subscribers hear of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from refgenied.config import Current, Settings
from refgenied.feed import Feed
from refgenied.jobs import MAX_CRASHES, Jobs
from refgenied.model import (
    ARROWS,
    ArchiveRecord,
    Arrow,
    AssetKey,
    ConflictError,
    JobNotFoundError,
    JobState,
    Outcome,
    Priority,
    Removal,
    Requester,
    ShuttingDownError,
    SourceChangedError,
    UnsafeTreeError,
)
from refgenied.store import Store, archives
from refgenied.store import events as event_rows
from refgenied.store import jobs as rows

pytestmark = pytest.mark.anyio

FASTA = AssetKey("d" * 48, "fasta", "default")
INDEX = AssetKey("d" * 48, "bowtie2_index", "default")
ANN = Requester("ann", 1001, 42)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(folder: Path, clock: Clock) -> AsyncIterator[Jobs]:
    async with Store.opened(folder) as store:
        yield Jobs(store, Feed(), Current(Settings()), clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def jobs(tmp_path: Path, clock: Clock) -> AsyncIterator[Jobs]:
    async with opened(tmp_path, clock) as found:
        yield found


def record(key: AssetKey = FASTA, **changes: object) -> ArchiveRecord:
    fields: dict[str, object] = {
        "key": key, "aliases": ("t7",), "path": f"{key.asset_group}.tgz", "size": 10, "digest": "0" * 32,
        "asset_digest": "1" * 32, "content_digest": "2" * 64, "files": 3, "source_size": 30, "stamp": "s",
        "files_stamp": "f", "created_at": 1000.0,
    }  # fmt: skip
    return ArchiveRecord(**(fields | changes))


async def kinds(jobs: Jobs) -> list[str]:
    async with jobs.store.transaction() as tx:
        return [event.kind for event in await event_rows.since(tx, 0)]


async def test_the_same_wish_again_gives_the_same_job(jobs: Jobs) -> None:
    first, created = await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    again, created_again = await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    assert (created, created_again, again.id) == (True, False, first.id)
    assert await kinds(jobs) == ["job.queued"]


async def test_a_running_job_is_joined_only_by_a_wish_for_the_same_state_of_the_asset(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    running = await jobs.claim()
    assert running
    assert (await jobs.enqueue(FASTA, stamp="s", priority=Priority.ASKED))[0].id == running.id
    newer, created = await jobs.enqueue(FASTA, stamp="t", priority=Priority.BUILT)
    assert created
    assert newer.id != running.id
    assert await jobs.claim() is None, "two jobs of one asset never run at once"


async def test_asked_goes_before_built_before_backlog_and_old_before_new(jobs: Jobs) -> None:
    keys = [AssetKey("d" * 48, "g", str(n)) for n in range(4)]
    for key, priority in zip(keys, (Priority.BACKLOG, Priority.BUILT, Priority.BUILT, Priority.ASKED), strict=True):
        await jobs.enqueue(key, stamp="s", priority=priority)
    order = [job.key.asset for job in [await jobs.claim() for _ in keys] if job]
    assert order == ["3", "1", "2", "0"]


async def test_a_transient_error_comes_back_with_back_off_and_ends_as_failed(jobs: Jobs, clock: Clock) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    waits: list[float] = []
    for attempt in (1, 2, 3):
        job = await jobs.claim()
        assert job
        assert job.attempts == attempt
        await jobs.fail(job, SourceChangedError("it moved"))
        async with jobs.store.transaction() as tx:
            job = await rows.get(tx, job.id)
        assert job
        waits.append(job.not_before - clock.now)
        assert await jobs.claim() is None, "not before its time"
        clock.now = job.not_before
    assert waits[:2] == [30.0, 60.0]
    assert (job.state, job.error_kind, job.error) == (JobState.FAILED, "source_changed", "it moved")


async def test_a_permanent_error_ends_the_job_at_once(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await jobs.claim()
    assert job
    await jobs.fail(job, UnsafeTreeError("a link leads out"))
    assert (await kinds(jobs))[-1] == "job.failed"


async def test_a_shutdown_charges_no_attempt(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    for _ in range(5):
        job = await jobs.claim()
        assert job
        assert job.attempts == 1
        await jobs.hand_back(job, ShuttingDownError("stopped"))


async def test_a_requeue_that_meets_a_queued_twin_folds_into_it(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.ASKED, force=True)
    job = await jobs.claim()
    assert job
    twin, _ = await jobs.enqueue(FASTA, stamp="t", priority=Priority.BUILT)
    await jobs.fail(job, SourceChangedError("it moved"))
    async with jobs.store.transaction() as tx:
        folded, left = await rows.get(tx, job.id), await rows.get(tx, twin.id)
    assert folded
    assert left
    assert (folded.state, folded.error_kind) == (JobState.CANCELLED, "folded")
    assert (left.priority, left.force, left.stamp) == (Priority.ASKED, True, "t")


async def test_a_wish_for_another_state_does_not_wait_for_a_back_off(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await jobs.claim()
    assert job
    await jobs.fail(job, SourceChangedError("it moved"))
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    assert await jobs.claim() is None
    await jobs.enqueue(FASTA, stamp="t", priority=Priority.BUILT)
    claimed = await jobs.claim()
    assert claimed
    assert (claimed.id, claimed.attempts) == (job.id, 1)


async def test_a_crash_is_charged_and_the_third_in_a_row_ends_the_job(tmp_path: Path, clock: Clock) -> None:
    for crash in range(1, MAX_CRASHES + 1):
        async with opened(tmp_path, clock) as jobs:
            if crash == 1:
                await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
            assert await jobs.claim()
        async with opened(tmp_path, clock) as jobs:  # the next start
            (job,) = await jobs.recover()
            async with jobs.store.transaction() as tx:
                after = await rows.get(tx, job.id)
            assert after
            assert after.state is (JobState.FAILED if crash == MAX_CRASHES else JobState.QUEUED)
    assert (after.error_kind, after.crashes) == ("crashed", 3)


async def test_a_users_cancel_and_retry(jobs: Jobs) -> None:
    job, _ = await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    cancelled = await jobs.cancel(job.id, ANN)
    assert (cancelled.state, cancelled.error) == (JobState.CANCELLED, "cancelled by ann")
    with pytest.raises(ConflictError, match="cancelled already"):
        await jobs.cancel(job.id, ANN)
    again = await jobs.retry(job.id, ANN)
    assert (again.state, again.priority, again.attempts) == (JobState.QUEUED, Priority.ASKED, 0)
    with pytest.raises(ConflictError):
        await jobs.retry(job.id, ANN)
    with pytest.raises(JobNotFoundError):
        await jobs.retry(99, ANN)


async def test_a_cancel_between_claim_and_work_is_not_lost(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await jobs.claim()
    assert job
    await jobs.cancel(job.id, ANN)
    async with jobs.cancellable(job) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert jobs.cancelled_by(job) == ANN


async def test_success_records_the_archive_and_keeps_the_download_count(jobs: Jobs) -> None:
    for digest in ("a" * 32, "b" * 32):
        await jobs.enqueue(FASTA, stamp=digest, priority=Priority.BUILT)
        job = await jobs.claim()
        assert job
        await jobs.succeed(job, Outcome.PUBLISHED, record(digest=digest, stamp=digest))
        async with jobs.store.transaction() as tx:
            await tx.execute("UPDATE archive SET download_count = download_count + 3")
    async with jobs.store.transaction() as tx:
        found = await archives.get(tx, FASTA)
    assert found
    assert (found.digest, found.download_count) == ("b" * 32, 6)
    assert (await kinds(jobs))[-2:] == ["archive.published", "job.succeeded"]


async def test_a_published_archive_ends_a_removal(jobs: Jobs) -> None:
    await jobs.remove_archive(Removal(FASTA, "s", 1.0, "ann"), ANN)
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.ASKED)
    job = await jobs.claim()
    assert job
    await jobs.succeed(job, Outcome.PUBLISHED, record())
    async with jobs.store.transaction() as tx:
        assert await archives.removals(tx) == {}


async def test_every_arrow_is_refused_from_every_other_state(jobs: Jobs) -> None:
    job, _ = await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    for arrow in Arrow:
        sources, _target = ARROWS[arrow]
        for state in set(JobState) - sources:
            async with jobs.store.transaction() as tx:
                await tx.execute("UPDATE job SET state = ? WHERE id = ?", (state, job.id))
                with pytest.raises(ConflictError):
                    await rows.move(tx, job.id, arrow)


async def test_subscribers_hear_after_the_commit_in_order_and_a_slow_one_is_cut(jobs: Jobs) -> None:
    with jobs.feed.subscribed() as quick, jobs.feed.subscribed(limit=1) as slow:
        await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
        await jobs.enqueue(INDEX, stamp="s", priority=Priority.BUILT)
        heard = await quick.take()
        assert [event.key for event in heard] == [FASTA, INDEX]
        assert [event.seq for event in heard] == [1, 2]
        assert await slow.take() == []
        assert slow.lagged


async def test_nothing_is_told_of_a_change_that_was_rolled_back(jobs: Jobs) -> None:
    with jobs.feed.subscribed() as subscription:
        with pytest.raises(ConflictError):
            async with jobs.change() as change:
                await change.log("job.queued", FASTA, 1)
                raise ConflictError("no")
        await jobs.enqueue(INDEX, stamp="s", priority=Priority.BUILT)
        assert [event.key for event in await subscription.take()] == [INDEX]


async def test_waiting_ends_with_a_wish_and_with_a_due_time(jobs: Jobs, clock: Clock) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await jobs.claim()
    assert job
    await jobs.fail(job, SourceChangedError("it moved"))
    clock.now += 29.99
    with anyio.fail_after(5):
        await jobs.wait_due(paused=lambda: False)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: jobs.wait_due(paused=lambda: True))
            await anyio.wait_all_tasks_blocked()
            await jobs.enqueue(INDEX, stamp="s", priority=Priority.BUILT)
