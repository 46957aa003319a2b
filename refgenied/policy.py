"""Which assets are to be archived: one pure function, used by the reconciler, `asset list` and `archive wait`."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from refgenied.config.settings import Archive
from refgenied.genomes.registry_path import matches
from refgenied.model import (
    Access,
    ArchiveRecord,
    Asset,
    AssetKey,
    AssetState,
    Job,
    JobState,
    Priority,
    RefgeniedError,
    Removal,
)


class ArchiveState(StrEnum):
    NONE = "none"
    ARCHIVED = "archived"  # the archive holds the asset as it is now
    STALE = "stale"  # the asset has changed since, or its archive is gone, cut or damaged


class Facts(msgspec.Struct, frozen=True):
    """The facts in the database and the archive folder at the time of one look."""

    archives: Mapping[AssetKey, ArchiveRecord]
    lost: Mapping[AssetKey, str]
    """Recorded archives with a missing or different file, and what is wrong with each."""
    jobs: Mapping[AssetKey, Job]
    """Each asset's newest job."""
    removals: Mapping[AssetKey, Removal]
    first_started_at: float
    archive_folder: str
    paused: str = ""
    """Why no job starts now; empty when jobs start."""


class Standing(msgspec.Struct, frozen=True):
    """Where one asset stands."""

    archive: ArchiveState
    job: Job | None
    """Its queued or running job."""
    wanted: bool
    """Whether it is archived without a request."""
    why_not: str
    """Why it is not wanted, as a plain line; empty when it is."""
    waits_for: str = ""
    """What its queued job waits for, besides its turn in the queue; empty: it waits only for its turn."""
    priority: int = Priority.BUILT

    @property
    def due(self) -> bool:
        return self.wanted and self.archive is not ArchiveState.ARCHIVED and self.job is None


def access_now(record: ArchiveRecord, asset: Asset | None) -> Access | None:
    """Who may read the asset that was archived; None when nobody knows.

    `asset` is the asset in the last look. While the archive holds the asset as it is now, the look decides; else the
    record decides.
    """
    return asset.access if asset is not None and asset.stamp == record.stamp else record.access


def readers(access: Access, policy: Archive) -> Access:
    """Who may read the archive of an asset with this access."""
    return Access.EVERYONE if access.private and policy.publish_private else access


_MOMENTARY_KINDS = frozenset({"asset_incomplete", "asset_not_found"})
"""These errors are about a moment, not about the asset. They do not prevent the next job."""
_PASSING_KINDS = frozenset(error.kind for error in RefgeniedError.__subclasses__() if not error.permanent)
"""Today no job ends with these errors. A job of refgenied 0.1 that ended with one of them is tried again."""


def standing(asset: Asset, facts: Facts, policy: Archive) -> Standing:
    archive = archive_state(asset, facts.archives.get(asset.key), facts.lost.get(asset.key, ""))
    newest = facts.jobs.get(asset.key)
    job = newest if newest and newest.state in (JobState.QUEUED, JobState.RUNNING) else None
    why_not = _why_not(asset, facts, policy)
    backlog = asset.built_at is None or asset.built_at < facts.first_started_at
    return Standing(
        archive=archive,
        job=job,
        wanted=not why_not,
        why_not=why_not,
        waits_for=_waits_for(job, facts) if job else "",
        priority=Priority.BACKLOG if backlog else Priority.BUILT,
    )


def _waits_for(job: Job, facts: Facts) -> str:
    if job.state is not JobState.QUEUED:
        return ""
    failed = f"job {job.id} is tried again: {job.error}" if job.attempts and job.error else ""
    return "; ".join(filter(None, (facts.paused, failed)))


def archive_state(asset: Asset | None, record: ArchiveRecord | None, problem: str) -> ArchiveState:
    """The state of an asset's archive. `asset`: None when the genome folder has lost it; `problem`: of the file."""
    if record is None:
        return ArchiveState.NONE
    if problem or record.damaged is not None:
        return ArchiveState.STALE
    return ArchiveState.ARCHIVED if asset is None or _is_as_archived(asset, record) else ArchiveState.STALE


def _is_as_archived(asset: Asset, record: ArchiveRecord) -> bool:
    if asset.state is AssetState.MISSING:  # only the archive is left, and it is still right
        return True
    if asset.state is AssetState.UNREGISTERED:  # without refgenie's entry the stamp lacks a part
        return record.files_stamp == asset.files_stamp
    if asset.state is AssetState.PULLED and asset.asset_digest:  # a restored asset has no flags, and other times
        return record.asset_digest == asset.asset_digest
    return record.stamp == asset.stamp


def _why_not(asset: Asset, facts: Facts, policy: Archive) -> str:
    """Why the asset is not archived automatically; empty when it is."""
    return (
        _state_forbids(asset, policy)
        or _policy_forbids(asset, facts, policy)
        or _history_forbids(asset, facts)
        or ("" if facts.archive_folder else "no genome_archive_folder is set")
    )


def _state_forbids(asset: Asset, policy: Archive) -> str:
    allowed = {AssetState.COMPLETE: True, AssetState.PULLED: policy.pulled, AssetState.ADDED: policy.added}
    if allowed.get(asset.state):
        return "" if asset.stamp else asset.reason
    if asset.state in allowed:
        return f"{asset.state} assets are archived when asked (archive create), or by archive.{asset.state} = true"
    if asset.state is AssetState.UNREGISTERED:
        return f"unregistered assets are archived when asked (archive create): {asset.reason}"
    return asset.reason


def _policy_forbids(asset: Asset, facts: Facts, policy: Archive) -> str:
    if not policy.automatic:
        return "archive.automatic is off"
    for pattern in policy.exclude:
        if matches(pattern, asset):
            return f"excluded by archive.exclude ({pattern})"
    if not any(matches(pattern, asset) for pattern in policy.include):
        return "not included by archive.include"
    if not policy.existing and asset.built_at is not None and asset.built_at < facts.first_started_at:
        return "built before the first start, and archive.existing is off"
    return ""


def _history_forbids(asset: Asset, facts: Facts) -> str:
    removal = facts.removals.get(asset.key)
    if removal and removal.stamp == asset.stamp:
        return f"its archive was removed by {removal.removed_by}; it comes back when rebuilt or asked for"
    job = facts.jobs.get(asset.key)
    if job and job.stamp == asset.stamp and job.error_kind not in _MOMENTARY_KINDS | _PASSING_KINDS:
        if job.state is JobState.FAILED:
            return f"job {job.id} failed: {job.error}"
        if job.state is JobState.CANCELLED:
            return f"job {job.id} was cancelled: {job.error}"
    return ""
