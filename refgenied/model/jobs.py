"""Work and history: jobs, their states, the arrows between the states, and events."""

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
    """The only changes of a job's state. Each is one UPDATE that names the old state."""

    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"  # a permanent error
    RETRY_LATER = "retry_later"  # an error that may go away: the attempt counts, and the next one waits longer
    HAND_BACK = "hand_back"  # shutdown, or a condition that stops every job: the attempt does not count
    CRASHED = "crashed"  # it was running when the daemon started: the attempt counts
    FOLD = "fold"  # it cannot be handed back, because the same asset has a queued job already
    CANCEL_QUEUED = "cancel_queued"  # a user cancels a queued job
    CANCEL_RUNNING = "cancel_running"  # a user cancels a running job
    REVIVE = "revive"  # a user retries a job that ended, or one that waits for its next attempt


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
    """A job with a lower number goes first."""

    ASKED = 0
    BUILT = 10
    BACKLOG = 20


class Outcome(StrEnum):
    """What a succeeded job has done with its archive."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"  # the archive already has this content: nothing was published again
    ADOPTED = "adopted"  # a proved archive existed already; only its record was missing


class Requester(msgspec.Struct, frozen=True):
    """Who asked for a job: the daemon itself, or a user at the control socket."""

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
    """The asset's stamp when the job was last queued or claimed."""
    attempts: int
    """Attempts that count so far, with the running one."""
    crashes: int
    """How many attempts in a row have ended because the daemon died."""
    requested_by: str
    created_at: float
    not_before: float
    started_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    error_kind: str | None = None
    error: str | None = None
    crashed_at: tuple[float, ...] = ()
    """When the daemon died while the job ran, Unix seconds; at most the last three times."""


class Event(msgspec.Struct, frozen=True):
    """One line of the event log. `seq` rises, and each number is used only once."""

    seq: int
    at: float
    kind: str
    key: AssetKey | None = None
    job: int | None = None
    data: dict[str, Any] = {}
