"""Statements about jobs."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from refgenied.model import (
    ARROWS,
    Arrow,
    AssetKey,
    ConflictError,
    Job,
    JobNotFoundError,
    JobState,
    Outcome,
    Priority,
    waits,
)
from refgenied.store.tables import ASSET, OF_ASSET, ONE_OF, Table, json_or, names, these
from refgenied.store.transaction import Transaction

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
JOBS = Table(
    "job",
    Job,
    state=JobState,
    force=bool,
    outcome=_OUTCOMES.get,
    crashed_at=lambda text: () if text == "[]" else _times(text),
)


def _times(text: object) -> tuple[float, ...]:
    return tuple(at for at in json_or(text, list[float]()) if isinstance(at, int | float))


_NEWEST = f"id IN (SELECT MAX(id) FROM job GROUP BY {ASSET})"


class Need(msgspec.Struct, frozen=True):
    """One request for a job of an asset."""

    stamp: str
    """The stamp of the wanted state of the asset."""
    priority: int
    force: bool = False
    """Make a new archive even if the existing one is right."""


async def add(tx: Transaction, key: AssetKey, need: Need, *, requested_by: str, now: float) -> int:
    """Queue a new job. Returns its id. sqlite3.IntegrityError: a job of the asset is queued already."""
    return await tx.insert(
        f"INSERT INTO job ({ASSET}, state, priority, force, stamp, requested_by, created_at, not_before) "
        "VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
        (*names(key), need.priority, int(need.force), need.stamp, requested_by, now, now),
    )


async def move(tx: Transaction, job: int, arrow: Arrow, **columns: Any) -> None:
    """Change a job's state by one arrow, and set `columns`. ConflictError: the job is in another state."""
    sources, target = ARROWS[arrow]
    marks = ", ".join("?" for _ in sources)
    which = f"id = ? AND state IN ({marks})"
    if await JOBS.change(tx, which, (job, *sorted(sources)), state=target, **columns) != 1:
        found = await get(tx, job)
        state = found.state if found else "gone"
        raise ConflictError(f"job {job} is {state}, so it cannot {arrow.value.replace('_', ' ')}")


async def sharpen(tx: Transaction, job: int, need: Need, *, now: float) -> None:
    """Adapt a queued job to a new request: the more urgent priority, `force` if either has it, the newer stamp.

    It stops waiting after a failure if a user asks for it, if the priority is more urgent, or if the asset has changed.
    After MAX_CRASHES only a change of the asset counts: repeated requests must not keep the daemon down.
    """
    await tx.execute(
        "UPDATE job SET not_before = ?, attempts = 0, crashes = 0, crashed_at = '[]', error_kind = NULL, error = NULL "
        "WHERE id = ? AND state = 'queued' AND (stamp <> ? OR ((priority > ? OR ? = ?) AND crashes < ?))",
        (now, job, need.stamp, need.priority, need.priority, Priority.ASKED, waits.MAX_CRASHES),
    )
    await tx.execute(
        "UPDATE job SET priority = MIN(priority, ?), force = MAX(force, ?), stamp = ? "
        "WHERE id = ? AND state = 'queued'",
        (need.priority, int(need.force), need.stamp, job),
    )


async def release(tx: Transaction, error_kinds: Sequence[str], now: float) -> None:
    """Make the jobs due that wait because of these kinds of errors."""
    marks = ", ".join("?" for _ in error_kinds)
    which = f"state = 'queued' AND error_kind IN ({marks}) AND not_before > ?"
    await JOBS.change(tx, which, (*error_kinds, now), not_before=now)


async def shift(tx: Transaction, seconds: float) -> None:
    """The clock was set by this many seconds: move the times of waiting jobs, so they wait as long as before."""
    await tx.execute("UPDATE job SET not_before = not_before + ? WHERE state = 'queued'", (seconds,))


async def cut_waits(tx: Transaction, now: float) -> None:
    """Shorten the waits that are impossibly long, because the clock was ahead when they began."""
    at, at_after_crashes = now + waits.LONGEST_BACK_OFF_SECONDS, now + waits.LONGEST_ASIDE_SECONDS
    await JOBS.change(tx, "state = 'queued' AND crashes < ? AND not_before > ?", (waits.MAX_CRASHES, at), not_before=at)
    await JOBS.change(tx, "state = 'queued' AND not_before > ?", (at_after_crashes,), not_before=at_after_crashes)


async def again(tx: Transaction, limit: int) -> tuple[list[Job], int]:
    """The first of the queued jobs that were tried before, and the number of all such jobs."""
    which = "INDEXED BY job_again WHERE state = 'queued' AND attempts > 0"
    first = await JOBS.all(tx, f"{which} ORDER BY id LIMIT ?", (limit,))
    return first, await tx.number(f"SELECT COUNT(*) FROM job {which}")


async def get(tx: Transaction, job: int) -> Job | None:
    return await JOBS.one(tx, "WHERE id = ?", (job,))


async def required(tx: Transaction, job: int) -> Job:
    """The job. JobNotFoundError: there is no such job, or it was forgotten."""
    found = await get(tx, job)
    if found is None:
        raise JobNotFoundError(f"there is no job {job}", hint="`refgeniectl queue list --all` shows them")
    return found


async def in_state(tx: Transaction, key: AssetKey, state: JobState) -> Job | None:
    """The asset's queued or running job. An asset has at most one of each."""
    return await JOBS.one(tx, f"WHERE {OF_ASSET} AND state = ?", (*names(key), state))


_NOT_AT_WORK = (
    "NOT EXISTS (SELECT 1 FROM job AS r INDEXED BY job_one_running WHERE r.state = 'running' "
    "AND r.genome_digest = j.genome_digest AND r.asset_group = j.asset_group AND r.asset = j.asset)"
)
_ORDER = "ORDER BY crashes, priority, id LIMIT"
_LOOKED_THROUGH = 200
"""So many jobs at the head of the queue are looked at in their order. If all of them wait, the due ones are sorted."""


async def due(tx: Transaction, now: float, most: int, *, but_not: Collection[AssetKey] = ()) -> list[Job]:
    """The jobs to run now, at most this many: the most urgent due ones, and of these the oldest. Assets in `but_not`,
    and assets with a running job, are left out.

    A job that was running when the daemon was killed goes last, even if a user asked for it: it could happen again
    before the other jobs have run. Several may have run then, so one that was there more often goes behind one that was
    there less often. The cost does not grow with the queue.
    """
    head = f"SELECT id FROM job INDEXED BY job_next WHERE state = 'queued' {_ORDER} {_LOOKED_THROUGH}"
    found: list[Job] = []
    for which in (f"AS j WHERE id IN ({head})", "AS j INDEXED BY job_due WHERE state = 'queued'"):
        found = await JOBS.all(
            tx, f"{which} AND not_before <= ? AND {_NOT_AT_WORK} {_ORDER} ?", (now, len(but_not) + most)
        )
        found = [job for job in found if job.key not in but_not][:most]
        if found:
            break
    return found


async def next_time(tx: Transaction, *, but_not: Collection[AssetKey] = ()) -> float | None:
    """When the next queued job is due, in Unix seconds; None: there is none. Assets are left out as for `due`."""
    rows = await tx.all(
        f"SELECT {ASSET}, not_before FROM job AS j INDEXED BY job_due WHERE state = 'queued' AND {_NOT_AT_WORK} "
        "ORDER BY not_before LIMIT ?",
        (len(but_not) + 1,),
    )
    return next((when for *of, when in rows if AssetKey(*of) not in but_not), None)


async def running(tx: Transaction) -> list[Job]:
    return await JOBS.all(tx, "WHERE state = 'running' ORDER BY +id")  # without the plus all jobs would be read


async def queued(tx: Transaction, skip: int = 0, limit: int = -1) -> list[Job]:
    """The queued jobs in the order in which they will run, without the first `skip`. `limit`: -1 for all."""
    which = "WHERE state = 'queued' ORDER BY crashes, priority, id LIMIT ? OFFSET ?"
    return await JOBS.all(tx, which, (limit, skip))


async def before(tx: Transaction, job: Job, now: float) -> int:
    """How many jobs are before a queued job: the running jobs, and the due jobs that go first."""
    return await tx.number(
        "SELECT (SELECT COUNT(*) FROM job WHERE state = 'running') + (SELECT COUNT(*) FROM job "
        "WHERE state = 'queued' AND not_before <= ? AND (crashes, priority, id) < (?, ?, ?))",
        (now, job.crashes, job.priority, job.id),
    )


async def latest(tx: Transaction, keys: Collection[AssetKey]) -> dict[AssetKey, Job]:
    """The newest job of each of these assets. A job that has not ended (an old job that was retried) wins."""
    which = (
        f"SELECT MAX(id) FROM job WHERE {ONE_OF} GROUP BY {ASSET} "
        f"UNION ALL SELECT id FROM job WHERE state = 'queued' AND {ONE_OF} "
        f"UNION ALL SELECT id FROM job WHERE state = 'running' AND {ONE_OF}"
    )
    order = "ORDER BY state = 'running', state = 'queued', id"  # the last one of an asset stays in the dict
    found = await JOBS.all(tx, f"WHERE id IN ({which}) {order}", (these(keys),) * 3)
    return {job.key: job for job in found}


async def latest_of(tx: Transaction, key: AssetKey) -> Job | None:
    """The asset's job with the highest id."""
    return await JOBS.one(tx, f"WHERE {OF_ASSET} ORDER BY id DESC LIMIT 1", names(key))


async def ended(tx: Transaction, limit: int, skip: int = 0) -> list[Job]:
    """The last ended jobs, newest first, without the first `skip`."""
    which = "WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, id DESC LIMIT ? OFFSET ?"
    return await JOBS.all(tx, which, (limit, skip))


async def listed(tx: Transaction, most_ended: int, *, skip: int, limit: int) -> list[Job]:
    """A page of the unfinished jobs and then the last ended ones: at most `limit`, without the first `skip`."""
    page = (await running(tx))[skip : skip + limit]
    skip = max(0, skip - await _number(tx, JobState.RUNNING))
    page += await queued(tx, skip, limit - len(page)) if len(page) < limit else []
    skip = max(0, skip - await _number(tx, JobState.QUEUED))
    left = min(limit - len(page), most_ended - skip)
    return page + (await ended(tx, left, skip) if left > 0 else [])


async def counts(tx: Transaction) -> dict[str, int]:
    """How many jobs are queued, running and failed."""
    return {state.value: await _number(tx, state) for state in (JobState.QUEUED, JobState.RUNNING, JobState.FAILED)}


async def _number(tx: Transaction, state: JobState) -> int:
    return await tx.number(f"SELECT COUNT(*) FROM job WHERE state = '{state.value}'")  # each has a partial index


async def newest(tx: Transaction) -> int:
    """The highest id of a job; 0 when there was never one."""
    return await tx.number("SELECT seq FROM sqlite_sequence WHERE name = 'job'")


async def since(tx: Transaction, newest: int, limit: int) -> tuple[list[AssetKey], int]:
    """The first assets with a job that has an id above `newest`, and the number of these jobs."""
    rows = await tx.all(f"SELECT {ASSET} FROM job WHERE id > ? ORDER BY id LIMIT ?", (newest, limit))
    return [AssetKey(*of) for of in rows], await tx.number("SELECT COUNT(*) FROM job WHERE id > ?", (newest,))


async def prune(tx: Transaction, *, before: float) -> int:
    """Delete jobs that ended before this time, but keep each asset's newest job, which the policy needs."""
    return await tx.execute(f"DELETE FROM job WHERE ended_at < ? AND NOT {_NEWEST}", (before,))
