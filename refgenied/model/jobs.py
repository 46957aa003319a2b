"""What is to do and what has happened: jobs, their states and arrows, events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from refgenied.model.assets import AssetKey


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Arrow(StrEnum):
    """The only ways a job changes its state. Each is one UPDATE that names the state it comes from."""

    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"  # a permanent error
    RETRY_LATER = "retry_later"  # a transient error: an attempt is charged, with back-off
    HAND_BACK = "hand_back"  # shutdown, or a condition that every job would meet: no attempt is charged
    CRASHED = "crashed"  # found running at start: an attempt is charged
    FOLD = "fold"  # a hand-back that met a queued twin
    CANCEL_QUEUED = "cancel_queued"  # by a user
    CANCEL_RUNNING = "cancel_running"  # by a user
    REVIVE = "revive"  # a user retries an ended job, or one that waits to be tried again


ARROWS: dict[Arrow, tuple[frozenset[JobState], JobState]] = {
    Arrow.CLAIM: (frozenset({JobState.QUEUED}), JobState.RUNNING),
    Arrow.SUCCEED: (frozenset({JobState.RUNNING}), JobState.SUCCEEDED),
    Arrow.FAIL: (frozenset({JobState.RUNNING}), JobState.FAILED),
    Arrow.RETRY_LATER: (frozenset({JobState.RUNNING}), JobState.QUEUED),
    Arrow.HAND_BACK: (frozenset({JobState.RUNNING}), JobState.QUEUED),
    Arrow.CRASHED: (frozenset({JobState.RUNNING}), JobState.QUEUED),
    Arrow.FOLD: (frozenset({JobState.RUNNING}), JobState.CANCELLED),
    Arrow.CANCEL_QUEUED: (frozenset({JobState.QUEUED}), JobState.CANCELLED),
    Arrow.CANCEL_RUNNING: (frozenset({JobState.RUNNING}), JobState.CANCELLED),
    Arrow.REVIVE: (frozenset({JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}), JobState.QUEUED),
}


class Priority:
    """Lower goes first."""

    ASKED = 0
    BUILT = 10
    BACKLOG = 20


class Outcome(StrEnum):
    """How a succeeded job left its archive."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"  # the content is what is already archived: nothing was republished
    ADOPTED = "adopted"  # a proved archive was already in place, only its record was missing


class Requester(msgspec.Struct, frozen=True):
    """Who asked: the daemon itself, or a peer of the control socket."""

    name: str = "refgenied"
    uid: int | None = None
    pid: int | None = None


class Job(msgspec.Struct, frozen=True):
    id: int
    key: AssetKey
    state: JobState
    priority: int
    force: bool
    stamp: str
    """The asset's stamp when the job was queued or claimed last."""
    attempts: int
    """Attempts charged so far, the running one included."""
    crashes: int
    """How many of them took the daemon down, in a row."""
    requested_by: str
    created_at: float
    not_before: float
    started_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    error_kind: str | None = None
    error: str | None = None
    crashed_at: tuple[float, ...] = ()
    """When it took the daemon down, Unix seconds; the last three times at most."""


class Event(msgspec.Struct, frozen=True):
    """One line of the event log. `seq` rises and is never used twice."""

    seq: int
    at: float
    kind: str
    key: AssetKey | None = None
    job: int | None = None
    data: dict[str, Any] = {}
