"""The changes of jobs: functions of one transaction, each with its events."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from refgenied.model import (
    ARROWS,
    ArchiveRecord,
    Arrow,
    AssetKey,
    ConflictError,
    CrashedError,
    Job,
    JobState,
    Outcome,
    Priority,
    RefgeniedError,
    Requester,
    waits,
)
from refgenied.queue.eventlog import Change
from refgenied.store import archives
from refgenied.store import jobs as rows

NO_CRASHES: dict[str, int | str] = {"crashes": 0, "crashed_at": "[]"}


class Claimed(NamedTuple):
    """A job that runs now."""

    job: Job
    record: ArchiveRecord | None
    """The record of the asset's archive, if there is one."""


class Success(NamedTuple):
    """A job whose archive is right."""

    job: Job
    outcome: Outcome
    record: ArchiveRecord


async def end(change: Change, job: Job, arrow: Arrow, kind: str, message: str) -> None:
    """The job ends with this error."""
    await rows.move(change.tx, job.id, arrow, ended_at=change.now, error_kind=kind, error=message)
    _, state = ARROWS[arrow]
    await change.log(f"job.{state}", job.key, job.id, error=message, error_kind=kind)


async def cancel(change: Change, job: Job, arrow: Arrow, requester: Requester) -> None:
    """The job ends because a user has cancelled it."""
    await end(change, job, arrow, "cancelled", f"cancelled by {requester.name}")


async def requeue(
    change: Change, job: Job, arrow: Arrow, reason: RefgeniedError, *, wait: float, **columns: int | str
) -> None:
    """A running job goes back to the queue for `wait` seconds. If another job of its asset is queued, this job ends
    and the other one replaces it.
    """
    twin = await rows.in_state(change.tx, job.key, JobState.QUEUED)
    if twin:
        need = rows.Need(twin.stamp, job.priority, job.force)
        await rows.sharpen(change.tx, twin.id, need, now=change.now)
        await end(change, job, Arrow.FOLD, "folded", f"job {twin.id} takes its place: {reason.message}")
        return
    waits = {"not_before": change.now + wait, "error_kind": reason.kind, "error": reason.message}
    await rows.move(change.tx, job.id, arrow, **waits, **columns)
    await change.log("job.requeued", job.key, job.id, error=reason.message, error_kind=reason.kind, wait=wait)


async def enqueue(change: Change, key: AssetKey, need: rows.Need, requested_by: str) -> tuple[Job, bool]:
    running = await rows.in_state(change.tx, key, JobState.RUNNING)
    if running and running.stamp == need.stamp and running.force >= need.force:
        return running, False
    queued = await rows.in_state(change.tx, key, JobState.QUEUED)
    if queued:
        await rows.sharpen(change.tx, queued.id, need, now=change.now)
        number = queued.id
    else:
        number = await rows.add(change.tx, key, need, requested_by=requested_by, now=change.now)
        await change.log("job.queued", key, number, requested_by=requested_by)
    return await rows.required(change.tx, number), queued is None


async def enqueue_all(
    change: Change, needs: Mapping[AssetKey, rows.Need], requested_by: str
) -> dict[AssetKey, tuple[Job, bool]]:
    return {key: await enqueue(change, key, need, requested_by) for key, need in needs.items()}


async def cancel_now(change: Change, number: int, requester: Requester) -> Job:
    """The job: cancelled now, or running."""
    job = await rows.required(change.tx, number)
    if job.state is JobState.QUEUED:
        await cancel(change, job, Arrow.CANCEL_QUEUED, requester)
        return await rows.required(change.tx, number)
    if job.state is not JobState.RUNNING:
        raise ConflictError(f"job {number} is {job.state} already")
    return job


async def retry(change: Change, number: int, requester: Requester) -> Job:
    job = await rows.required(change.tx, number)
    twin = await rows.in_state(change.tx, job.key, JobState.QUEUED)
    if twin and (twin.id != number or not (job.attempts or job.not_before > change.now)):
        raise ConflictError(f"job {twin.id} is queued for {job.key.registry_path} already")
    first = {**NO_CRASHES, "attempts": 0, "not_before": change.now, "requested_by": requester.name}
    ended = dict.fromkeys(("ended_at", "error", "error_kind"))
    await rows.move(change.tx, number, Arrow.REVIVE, priority=Priority.ASKED, **first, **ended)
    await change.log("job.queued", job.key, number, requested_by=requester.name, retried=True)
    return await rows.required(change.tx, number)


async def claim(change: Change, job: Job, stamp: str) -> Claimed:
    attempt = job.attempts + 1
    facts: dict[str, Any] = {"started_at": change.now, "attempts": attempt, "error": None, "stamp": stamp}
    await rows.move(change.tx, job.id, Arrow.CLAIM, **facts)
    await change.log("job.running", job.key, job.id, attempt=attempt)
    running = msgspec.structs.replace(job, state=JobState.RUNNING, **facts)
    return Claimed(running, await archives.get(change.tx, job.key))


async def succeed(change: Change, ends: Sequence[Success], generation: int) -> None:
    for end in ends:
        job, record, outcome = end.job, end.record, end.outcome
        await (archives.touch if outcome is Outcome.UNCHANGED else archives.put)(change.tx, record)
        await rows.move(change.tx, job.id, Arrow.SUCCEED, ended_at=change.now, outcome=outcome)
        about: dict[str, Any] = {"digest": record.digest, "size": record.size, "path": record.path}
        await change.log(f"archive.{outcome}", job.key, job.id, **about)
        await change.log("job.succeeded", job.key, job.id, outcome=outcome)
    if generation:
        await archives.put_generation(change.tx, generation)


async def release(change: Change, error_kinds: Sequence[str]) -> None:
    await rows.release(change.tx, error_kinds, change.now)


async def recover(change: Change) -> list[Job]:
    await rows.cut_waits(change.tx, change.now)
    found = await rows.running(change.tx)
    for job in found:
        crashes = job.crashes + 1
        times = "once" if crashes == 1 else f"{crashes} times in a row"
        reason = CrashedError(f"the daemon was killed {times} while this job ran")
        crashed_at = json.dumps([*job.crashed_at, change.now][-waits.MAX_CRASHES :])
        charged = {"crashes": crashes, "crashed_at": crashed_at}
        await requeue(change, job, Arrow.CRASHED, reason, wait=waits.aside(crashes), **charged)
    return found
