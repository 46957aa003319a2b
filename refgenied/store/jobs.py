"""Statements about jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from refgenied.model import ARROWS, Arrow, AssetKey, ConflictError, Job, JobNotFoundError, JobState, Outcome, Priority
from refgenied.store.connection import Row, Transaction
from refgenied.store.values import json_or

_COLUMNS = (
    "id, genome_digest, asset_group, asset, state, priority, force, stamp, attempts, crashes, requested_by, "
    "created_at, not_before, started_at, ended_at, outcome, error_kind, error, crashed_at"
)
_OF_ASSET = "genome_digest = ? AND asset_group = ? AND asset = ?"


def _job(row: Row) -> Job:
    (number, genome, group, asset, state, priority, force, stamp, attempts, crashes, by, created, not_before,
     started, ended, outcome, kind, error, crashed) = row  # fmt: skip
    return Job(
        id=number,
        key=AssetKey(genome, group, asset),
        state=JobState(state),
        priority=priority,
        force=bool(force),
        stamp=stamp,
        attempts=attempts,
        crashes=crashes,
        requested_by=by,
        created_at=created,
        not_before=not_before,
        started_at=started,
        ended_at=ended,
        outcome=Outcome(outcome) if outcome in set(Outcome) else None,
        error_kind=kind,
        error=error,
        crashed_at=tuple(at for at in json_or(crashed, list[float]()) if isinstance(at, int | float)),
    )


def names(key: AssetKey) -> tuple[str, str, str]:
    return (key.genome_digest, key.asset_group, key.asset)


class Wish(msgspec.Struct, frozen=True):
    """That an asset is archived."""

    stamp: str
    """Of the asset's state that is wanted."""
    priority: int
    force: bool = False
    """Make a new archive also when the one in place is right."""


async def add(tx: Transaction, key: AssetKey, wish: Wish, *, requested_by: str, now: float) -> int:
    """A new queued job; sqlite3.IntegrityError when one is queued already."""
    return await tx.insert(
        "INSERT INTO job (genome_digest, asset_group, asset, state, priority, force, stamp, requested_by, "
        "created_at, not_before) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
        (*names(key), wish.priority, int(wish.force), wish.stamp, requested_by, now, now),
    )


async def move(tx: Transaction, job: int, arrow: Arrow, **columns: Any) -> None:
    """Follow one arrow of the state table, setting `columns` as well. ConflictError when the job is elsewhere."""
    sources, target = ARROWS[arrow]
    settings = "".join(f", {name} = ?" for name in columns)
    marks = ", ".join("?" for _ in sources)
    changed = await tx.execute(
        f"UPDATE job SET state = ?{settings} WHERE id = ? AND state IN ({marks})",
        (target, *columns.values(), job, *sorted(sources)),
    )
    if changed != 1:
        found = await get(tx, job)
        state = found.state if found else "gone"
        raise ConflictError(f"job {job} is {state}, so it cannot {arrow.value.replace('_', ' ')}")


async def sharpen(tx: Transaction, job: int, wish: Wish, *, now: float, most_crashes: int) -> None:
    """A second wish for a queued job: the more urgent priority, the stronger wish, the newer stamp count.

    What is asked for or more urgent now, or another state of the asset, does not wait for a back-off. After
    `most_crashes` only another state of the asset counts: whoever asks again and again must not keep the daemon down.
    """
    await tx.execute(
        "UPDATE job SET not_before = ?, attempts = 0, crashes = 0, crashed_at = '[]', error_kind = NULL, error = NULL "
        "WHERE id = ? AND state = 'queued' AND (stamp <> ? OR ((priority > ? OR ? = ?) AND crashes < ?))",
        (now, job, wish.stamp, wish.priority, wish.priority, Priority.ASKED, most_crashes),
    )
    await tx.execute(
        "UPDATE job SET priority = MIN(priority, ?), force = MAX(force, ?), stamp = ? "
        "WHERE id = ? AND state = 'queued'",
        (wish.priority, int(wish.force), wish.stamp, job),
    )


async def release(tx: Transaction, error_kinds: Sequence[str], now: float) -> None:
    """What waits because of these kinds of errors need not wait any more."""
    marks = ", ".join("?" for _ in error_kinds)
    await tx.execute(
        f"UPDATE job SET not_before = ? WHERE state = 'queued' AND error_kind IN ({marks}) AND not_before > ?",
        (now, *error_kinds, now),
    )


async def shift(tx: Transaction, seconds: float) -> None:
    """The clock was set by so much: what waits waits as long as before."""
    await tx.execute("UPDATE job SET not_before = not_before + ? WHERE state = 'queued'", (seconds,))


async def cut_waits(tx: Transaction, now: float, *, longest: float, crashes: int, longest_after_crashes: float) -> None:
    """Nothing waits longer than it may: the clock was ahead when the wait began."""
    await tx.execute(
        "UPDATE job SET not_before = ? WHERE state = 'queued' AND crashes < ? AND not_before > ?",
        (now + longest, crashes, now + longest),
    )
    await tx.execute(
        "UPDATE job SET not_before = ? WHERE state = 'queued' AND not_before > ?",
        (now + longest_after_crashes, now + longest_after_crashes),
    )


async def again(tx: Transaction, limit: int) -> tuple[list[Job], int]:
    """The first of the queued jobs that were tried already, and how many there are."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM job WHERE state = 'queued' AND attempts > 0 ORDER BY id LIMIT ?", (limit,)
    )
    count = await tx.one("SELECT COUNT(*) FROM job WHERE state = 'queued' AND attempts > 0")
    return [_job(row) for row in rows], count[0] if count else 0


async def get(tx: Transaction, job: int) -> Job | None:
    row = await tx.one(f"SELECT {_COLUMNS} FROM job WHERE id = ?", (job,))
    return _job(row) if row else None


async def required(tx: Transaction, job: int) -> Job:
    """JobNotFoundError when there is none, or no longer."""
    found = await get(tx, job)
    if found is None:
        raise JobNotFoundError(f"there is no job {job}", hint="`refgeniectl queue list --all` shows them")
    return found


async def restamp(tx: Transaction, job: int, stamp: str) -> None:
    """The job is for another state of the asset than when it was queued."""
    await tx.execute("UPDATE job SET stamp = ? WHERE id = ?", (stamp, job))


async def in_state(tx: Transaction, key: AssetKey, state: JobState) -> Job | None:
    """The asset's queued or running job; there is at most one of each."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM job WHERE {_OF_ASSET} AND state = ?", (*names(key), state))
    return _job(row) if row else None


async def next_due(tx: Transaction, now: float, *, but_not: Collection[AssetKey] = ()) -> Job | None:
    """The job to run now: due, most urgent, oldest, no other of the same asset running, and none of `but_not`.

    What has taken the daemon down goes last, whoever asked for it: it could do so again before others have their turn.
    """
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM job AS j WHERE state = 'queued' AND not_before <= ? "
        "AND NOT EXISTS (SELECT 1 FROM job AS r WHERE r.state = 'running' AND r.genome_digest = j.genome_digest "
        "AND r.asset_group = j.asset_group AND r.asset = j.asset) ORDER BY crashes > 0, priority, id LIMIT ?",
        (now, len(but_not) + 1),
    )
    return next((job for job in map(_job, rows) if job.key not in but_not), None)


async def next_time(tx: Transaction, *, but_not: Collection[AssetKey] = ()) -> float | None:
    """When the next queued job is due that is none of `but_not`, Unix seconds; None when there is none."""
    rows = await tx.all(
        "SELECT genome_digest, asset_group, asset, not_before FROM job WHERE state = 'queued' "
        "ORDER BY not_before LIMIT ?",
        (len(but_not) + 1,),
    )
    return next((when for *of, when in rows if AssetKey(*of) not in but_not), None)


async def unfinished(tx: Transaction) -> list[Job]:
    """Running ones first, then queued ones in the order in which they will run."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM job WHERE state IN ('running', 'queued') "
        "ORDER BY state = 'queued', crashes > 0, priority, id"
    )
    return [_job(row) for row in rows]


async def running(tx: Transaction) -> list[Job]:
    rows = await tx.all(f"SELECT {_COLUMNS} FROM job WHERE state = 'running' ORDER BY id")
    return [_job(row) for row in rows]


async def before(tx: Transaction, job: Job, now: float) -> int:
    """How many jobs run before a queued one: running ones, and those that are due and go first."""
    row = await tx.one(
        "SELECT COUNT(*) FROM job WHERE state = 'running' OR "
        "(state = 'queued' AND not_before <= ? AND (crashes > 0, priority, id) < (?, ?, ?))",
        (now, job.crashes > 0, job.priority, job.id),
    )
    return int(row[0]) if row else 0


async def latest(tx: Transaction) -> dict[AssetKey, Job]:
    """Each asset's newest job; one that is not ended (a retried old one) before those that are."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM job WHERE state IN ('queued', 'running') "
        "OR id IN (SELECT MAX(id) FROM job GROUP BY genome_digest, asset_group, asset) "
        "ORDER BY state = 'running', state = 'queued', id"  # the last one of an asset stays
    )
    return {job.key: job for job in map(_job, rows)}


async def newest_of(tx: Transaction, key: AssetKey) -> dict[AssetKey, Job]:
    """`latest` for one asset."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM job WHERE {_OF_ASSET} ORDER BY state = 'running', state = 'queued', id", names(key)
    )
    return {job.key: job for job in map(_job, rows)}


async def latest_of(tx: Transaction, key: AssetKey) -> Job | None:
    row = await tx.one(f"SELECT {_COLUMNS} FROM job WHERE {_OF_ASSET} ORDER BY id DESC LIMIT 1", names(key))
    return _job(row) if row else None


async def ended(tx: Transaction, limit: int) -> list[Job]:
    """The last ended jobs, newest first."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM job WHERE state IN ('succeeded', 'failed', 'cancelled') "
        "ORDER BY ended_at DESC, id DESC LIMIT ?",
        (limit,),
    )
    return [_job(row) for row in rows]


async def counts(tx: Transaction) -> dict[str, int]:
    rows = await tx.all("SELECT state, COUNT(*) FROM job GROUP BY state")
    found = {str(state): int(number) for state, number in rows}
    return {state.value: found.get(state, 0) for state in JobState}


async def prune(tx: Transaction, *, before: float) -> int:
    """Forget jobs that ended before then, but never an asset's newest: it says what holds for the asset."""
    return await tx.execute(
        "DELETE FROM job WHERE ended_at < ? AND id NOT IN "
        "(SELECT MAX(id) FROM job GROUP BY genome_digest, asset_group, asset)",
        (before,),
    )
