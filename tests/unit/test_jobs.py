"""The queue: each arrow of the state table, and what subscribers hear of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from parts import claim
from transactions import changing, transaction

from refgenied.config.settings import Current, Settings
from refgenied.model import (
    ARROWS,
    ArchiveRecord,
    Arrow,
    AssetKey,
    ConflictError,
    Event,
    Job,
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
from refgenied.model.waits import MAX_CRASHES
from refgenied.queue import feed
from refgenied.queue import jobs as jobs_module
from refgenied.queue.arrows import Success
from refgenied.queue.feed import Feed
from refgenied.queue.jobs import Jobs
from refgenied.store import Store, archives
from refgenied.store import events as event_rows
from refgenied.store import jobs as rows

pytestmark = pytest.mark.anyio

FASTA = AssetKey("d" * 48, "fasta", "default")
INDEX = AssetKey("d" * 48, "bowtie2_index", "default")
ANN = Requester("ann", 1001, 42)


DAY = 86_400.0


class Clock:
    """Time goes by when `now` is moved; `set_by` is somebody who sets the clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.set_by_now = 0.0

    def __call__(self) -> float:
        return self.now

    def set_by(self, seconds: float) -> None:
        self.now += seconds
        self.set_by_now += seconds

    def steady(self) -> float:
        return self.now - self.set_by_now


@asynccontextmanager
async def opened(folder: Path, clock: Clock) -> AsyncIterator[Jobs]:
    async with Store.opened(folder) as store:
        yield Jobs(store, Feed(), Current(Settings()), clock, clock.steady)


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
    async with transaction(jobs.store) as tx:
        return [event.kind for event in await event_rows.since(tx, 0)]


async def test_the_same_wish_again_gives_the_same_job(jobs: Jobs) -> None:
    first, created = await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    again, created_again = await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    assert (created, created_again, again.id) == (True, False, first.id)
    assert await kinds(jobs) == ["job.queued"]


async def test_a_running_job_is_joined_only_by_a_wish_for_the_same_state_of_the_asset(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    running = await claim(jobs)
    assert running
    assert (await jobs.enqueue(FASTA, stamp="s", priority=Priority.ASKED))[0].id == running.id
    newer, created = await jobs.enqueue(FASTA, stamp="t", priority=Priority.BUILT)
    assert created
    assert newer.id != running.id
    assert await claim(jobs) is None, "two jobs of one asset never run at once"


async def test_asked_goes_before_built_before_backlog_and_old_before_new(jobs: Jobs) -> None:
    keys = [AssetKey("d" * 48, "g", str(n)) for n in range(4)]
    for key, priority in zip(keys, (Priority.BACKLOG, Priority.BUILT, Priority.BUILT, Priority.ASKED), strict=True):
        await jobs.enqueue(key, stamp="s", priority=priority)
    order = [job.key.asset for job in [await claim(jobs) for _ in keys] if job]
    assert order == ["3", "1", "2", "0"]


async def test_a_transient_error_comes_back_with_back_off_without_end(jobs: Jobs, clock: Clock) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    waits: list[float] = []
    for attempt in range(1, 41):
        job = await claim(jobs)
        assert job
        assert job.attempts == attempt
        await jobs.fail(job, SourceChangedError("it moved"))
        async with transaction(jobs.store) as tx:
            job = await rows.get(tx, job.id)
        assert job
        waits.append(job.not_before - clock.now)
        assert await claim(jobs) is None, "not before its time"
        clock.now = job.not_before
    assert waits[:3] == [30.0, 60.0, 120.0]
    assert waits[7:] == [3600.0] * 33
    assert (job.state, job.error_kind, job.error) == (JobState.QUEUED, "source_changed", "it moved")


async def test_a_permanent_error_ends_the_job_at_once(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await claim(jobs)
    assert job
    await jobs.fail(job, UnsafeTreeError("a link leads out"))
    assert (await kinds(jobs))[-1] == "job.failed"


async def test_a_shutdown_charges_no_attempt(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    for _ in range(5):
        job = await claim(jobs)
        assert job
        assert job.attempts == 1
        await jobs.hand_back(job, ShuttingDownError("stopped"))


async def test_a_requeue_that_meets_a_queued_twin_folds_into_it(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.ASKED, force=True)
    job = await claim(jobs)
    assert job
    twin, _ = await jobs.enqueue(FASTA, stamp="t", priority=Priority.BUILT)
    await jobs.fail(job, SourceChangedError("it moved"))
    async with transaction(jobs.store) as tx:
        folded, left = await rows.get(tx, job.id), await rows.get(tx, twin.id)
    assert folded
    assert left
    assert (folded.state, folded.error_kind) == (JobState.CANCELLED, "folded")
    assert (left.priority, left.force, left.stamp) == (Priority.ASKED, True, "t")


async def test_a_wish_for_another_state_does_not_wait_for_a_back_off(jobs: Jobs) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await claim(jobs)
    assert job
    await jobs.fail(job, SourceChangedError("it moved"))
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    assert await claim(jobs) is None
    await jobs.enqueue(FASTA, stamp="t", priority=Priority.BUILT)
    claimed = await claim(jobs)
    assert claimed
    assert (claimed.id, claimed.attempts) == (job.id, 1)


async def crash(folder: Path, clock: Clock, times: int = 1) -> Job:
    """The daemon is killed while the job of FASTA runs, and started again."""
    for _ in range(times):
        async with opened(folder, clock) as jobs:
            job = await claim(jobs)
            assert job
            assert job.key == FASTA
        clock.now += 5.0
        async with opened(folder, clock) as jobs:
            await jobs.recover()
            async with transaction(jobs.store) as tx:
                job = await rows.get(tx, job.id)
    assert job
    return job


async def test_after_three_crashes_in_a_row_a_job_stands_aside_for_a_day_then_two_then_four(
    tmp_path: Path, clock: Clock
) -> None:
    async with opened(tmp_path, clock) as jobs:
        await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    began = clock.now
    job = await crash(tmp_path, clock, MAX_CRASHES)
    assert (job.state, job.error_kind, job.crashes) == (JobState.QUEUED, "crashed", 3)
    assert job.crashed_at == (began + 5, began + 10, began + 15)
    for days in (1, 2, 4, 8, 16, 32, 32):
        assert job.not_before == clock.now + days * DAY
        for later in (0.0, days * DAY - 1.0):  # it does not run because the daemon starts
            async with opened(tmp_path, clock) as jobs:
                clock.now += later
                await jobs.recover()
                assert await claim(jobs) is None
        clock.now += 1.0
        job = await crash(tmp_path, clock)
        assert len(job.crashed_at) == 3
    async with opened(tmp_path, clock) as jobs:
        await jobs.enqueue(FASTA, stamp="s", priority=Priority.ASKED)
        assert await claim(jobs) is None, "who asks for the same again does not take the daemon down"
        await jobs.retry(job.id, ANN)
        again = await claim(jobs)
        assert again
        assert (again.crashes, again.crashed_at, again.attempts) == (0, (), 1)


async def test_what_stands_aside_runs_at_once_when_the_asset_is_built_again(tmp_path: Path, clock: Clock) -> None:
    async with opened(tmp_path, clock) as jobs:
        await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await crash(tmp_path, clock, MAX_CRASHES)
    async with opened(tmp_path, clock) as jobs:
        await jobs.enqueue(FASTA, stamp="t", priority=Priority.BUILT)
        again = await claim(jobs)
        assert again
        assert (again.id, again.crashes, again.error) == (job.id, 0, None)


async def test_what_took_the_daemon_down_goes_last_whoever_asked_for_it(tmp_path: Path, clock: Clock) -> None:
    async with opened(tmp_path, clock) as jobs:
        await jobs.enqueue(FASTA, stamp="s", priority=Priority.ASKED)
    await crash(tmp_path, clock)
    async with opened(tmp_path, clock) as jobs:
        await jobs.enqueue(INDEX, stamp="s", priority=Priority.BACKLOG)
        order = [job.key for job in (await claim(jobs), await claim(jobs)) if job]
        assert order == [INDEX, FASTA]


@pytest.mark.parametrize("by", [-DAY, -3600.0, 3600.0, DAY])
async def test_a_clock_that_is_set_while_a_job_backs_off_changes_nothing_in_its_wait(
    by: float, jobs: Jobs, clock: Clock
) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await claim(jobs)
    assert job
    clock.set_by(by)  # nobody has looked at the clock since
    await jobs.fail(job, SourceChangedError("it moved"))
    clock.now += 10.0
    clock.set_by(by)
    assert await claim(jobs) is None
    clock.now += 19.0
    assert await claim(jobs) is None
    clock.now += 2.0
    assert await claim(jobs)


async def test_a_change_that_was_rolled_back_does_not_lose_the_jump_of_the_clock(jobs: Jobs, clock: Clock) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await claim(jobs)
    assert job
    await jobs.fail(job, SourceChangedError("it moved"))
    clock.set_by(-DAY)
    with pytest.raises(JobNotFoundError):
        await jobs.cancel(job.id + 1, ANN)
    clock.now += 31.0
    assert await claim(jobs)


async def ended(jobs: Jobs) -> list[int]:
    async with transaction(jobs.store) as tx:
        return [job.id for job in await rows.ended(tx, 100)]


async def test_jobs_that_ended_long_ago_are_forgotten_daily_but_an_assets_newest_stays(
    jobs: Jobs, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "PRUNE_SECONDS", 0.001)
    for stamp in ("s", "t"):
        await jobs.enqueue(FASTA, stamp=stamp, priority=Priority.BUILT)
        job = await claim(jobs)
        assert job
        await jobs.fail(job, UnsafeTreeError("a link leads out"))
    async with anyio.create_task_group() as group:
        group.start_soon(jobs.keep_pruned)
        clock.now += 29 * DAY
        await jobs.prune()
        assert await ended(jobs) == [2, 1]
        clock.set_by(3650 * DAY)
        await jobs.prune()
        assert await ended(jobs) == [2, 1], "a clock that was set forward forgets nothing"
        clock.set_by(-3650 * DAY)
        clock.now += 2 * DAY
        with anyio.fail_after(20):
            while await ended(jobs) != [2]:
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()


@pytest.mark.parametrize(("crashes", "longest"), [(0, 3600.0), (MAX_CRASHES, 32 * DAY)])
async def test_a_clock_that_was_ahead_at_the_last_run_holds_no_job_up_for_longer_than_a_wait_may_be(
    crashes: int, longest: float, tmp_path: Path, clock: Clock
) -> None:
    async with opened(tmp_path, clock) as jobs:
        await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
        async with transaction(jobs.store) as tx:
            await tx.execute("UPDATE job SET not_before = ?, crashes = ?", (clock.now + 3650 * DAY, crashes))
    async with opened(tmp_path, clock) as jobs:
        await jobs.recover()
        clock.now += longest
        assert await claim(jobs)


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
    job = await claim(jobs)
    assert job
    await jobs.cancel(job.id, ANN)
    running = jobs.running[job.id]
    with running.scope:
        await anyio.sleep_forever()
    assert running.scope.cancelled_caught
    assert running.cancelled_by == ANN


async def test_success_records_the_archive_and_keeps_the_download_count(jobs: Jobs) -> None:
    for digest in ("a" * 32, "b" * 32):
        await jobs.enqueue(FASTA, stamp=digest, priority=Priority.BUILT)
        job = await claim(jobs)
        assert job
        await jobs.succeed([Success(job, Outcome.PUBLISHED, record(digest=digest, stamp=digest))])
        async with transaction(jobs.store) as tx:
            await tx.execute("UPDATE archive SET download_count = download_count + 3")
    async with transaction(jobs.store) as tx:
        found = await archives.get(tx, FASTA)
    assert found
    assert (found.digest, found.download_count) == ("b" * 32, 6)
    assert (await kinds(jobs))[-2:] == ["archive.published", "job.succeeded"]


async def test_a_published_archive_ends_a_removal(jobs: Jobs) -> None:
    await jobs.records.removed(Removal(FASTA, "s", 1.0, "ann"), ANN, 1)
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.ASKED)
    job = await claim(jobs)
    assert job
    await jobs.succeed([Success(job, Outcome.PUBLISHED, record())])
    async with transaction(jobs.store) as tx:
        assert await archives.removals(tx) == {}


async def test_every_arrow_is_refused_from_every_other_state(jobs: Jobs) -> None:
    job, _ = await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    for arrow in Arrow:
        sources, _target = ARROWS[arrow]
        for state in set(JobState) - sources:
            async with transaction(jobs.store) as tx:
                await tx.execute("UPDATE job SET state = ? WHERE id = ?", (state, job.id))
                with pytest.raises(ConflictError):
                    await rows.move(tx, job.id, arrow)


async def test_subscribers_hear_after_the_commit_in_order_and_a_slow_one_is_cut(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MOST_EVENTS_WAITING", 1)
    with jobs.feed.subscribed() as quick, jobs.feed.subscribed() as slow:
        heard: list[Event] = []
        for key in (FASTA, INDEX):
            await jobs.enqueue(key, stamp="s", priority=Priority.BUILT)
            heard += await quick.take()
        assert [event.key for event in heard] == [FASTA, INDEX]
        assert [event.seq for event in heard] == [1, 2]
        assert await slow.take() == []
        assert slow.lagged


async def test_nothing_is_told_of_a_change_that_was_rolled_back(jobs: Jobs) -> None:
    with jobs.feed.subscribed() as subscription:
        with pytest.raises(ConflictError):
            async with changing(jobs) as change:
                await change.log("job.queued", FASTA, 1)
                raise ConflictError("no")
        await jobs.enqueue(INDEX, stamp="s", priority=Priority.BUILT)
        assert [event.key for event in await subscription.take()] == [INDEX]


async def test_waiting_ends_with_a_wish_and_with_a_due_time(jobs: Jobs, clock: Clock) -> None:
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    job = await claim(jobs)
    assert job
    await jobs.fail(job, SourceChangedError("it moved"))
    clock.now += 29.99
    with anyio.fail_after(5):
        await jobs.wait_due(paused=lambda: False)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: jobs.wait_due(paused=lambda: True))
            await anyio.wait_all_tasks_blocked()
            await jobs.enqueue(INDEX, stamp="s", priority=Priority.BUILT)


async def test_nothing_is_due_of_an_asset_that_somebody_has_reserved(jobs: Jobs, clock: Clock) -> None:
    """The worker would look for it 20 times a second as long as an import goes on."""
    await jobs.enqueue(FASTA, stamp="s", priority=Priority.BUILT)
    clock.now += 10.0
    await jobs.enqueue(INDEX, stamp="s", priority=Priority.BUILT)
    async with transaction(jobs.store) as tx:
        assert await rows.next_time(tx) == clock.now - 10.0
        assert await rows.next_time(tx, but_not={FASTA}) == clock.now
        assert await rows.next_time(tx, but_not={FASTA, INDEX}) is None
