"""Changes of a job's state that several functions make, each with its event."""

from refgenied.model import ARROWS, Arrow, Job, JobState, RefgeniedError, Requester
from refgenied.queue.eventlog import Change
from refgenied.store import jobs as rows

NO_CRASHES: dict[str, int | str] = {"crashes": 0, "crashed_at": "[]"}


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
