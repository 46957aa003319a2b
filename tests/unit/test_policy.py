"""What is wanted: one answer for each asset, with its reason."""

import msgspec
import pytest

from refgenied.config.settings import Archive
from refgenied.model import ArchiveRecord, Asset, AssetKey, AssetState, Job, JobState, Priority, Removal
from refgenied.policy import ArchiveState, Facts, Standing, standing

KEY = AssetKey("d" * 48, "fasta", "default")
FIRST_START = 1000.0


def asset(state: AssetState = AssetState.COMPLETE, stamp: str = "now", built_at: float | None = 2000.0) -> Asset:
    return Asset(key=KEY, state=state, reason="because", folder="/g", aliases=("t7",), stamp=stamp, built_at=built_at)


def archived(stamp: str) -> dict[AssetKey, ArchiveRecord]:
    return {
        KEY: ArchiveRecord(
            key=KEY, aliases=("t7",), path="p", size=1, digest="", asset_digest="", content_digest="", files=1,
            source_size=1, stamp=stamp, files_stamp="f", created_at=1.0,
        )
    }  # fmt: skip


def job(state: JobState, stamp: str = "now", kind: str = "unsafe_tree") -> dict[AssetKey, Job]:
    return {
        KEY: Job(
            id=7, key=KEY, state=state, priority=10, force=False, stamp=stamp, attempts=1, crashes=0,
            requested_by="ann", created_at=1.0, not_before=1.0, error_kind=kind, error="it broke",
        )
    }  # fmt: skip


def facts(**changes: object) -> Facts:
    fields: dict[str, object] = {
        "archives": {}, "lost": {}, "jobs": {}, "removals": {}, "first_started_at": FIRST_START,
        "archive_folder": "/a",
    }  # fmt: skip
    return Facts(**(fields | changes))


def stands(found: Asset, policy: Archive | None = None, **changes: object) -> Standing:
    return standing(found, facts(**changes), policy or Archive())


def test_a_complete_asset_is_due() -> None:
    found = stands(asset())
    assert (found.due, found.archive, found.priority) == (True, ArchiveState.NONE, Priority.BUILT)


@pytest.mark.parametrize("state", sorted(set(AssetState) - {AssetState.COMPLETE}))
def test_no_other_state_is_archived_by_itself_and_the_reason_is_given(state: AssetState) -> None:
    found = stands(asset(state))
    assert not found.wanted
    assert found.why_not


def test_an_archive_is_not_stale_because_refgenies_entry_was_lost() -> None:
    lost = msgspec.structs.replace(asset(AssetState.UNREGISTERED, stamp="other"), files_stamp="f")
    assert stands(lost, archives=archived("now")).archive is ArchiveState.ARCHIVED
    changed = msgspec.structs.replace(lost, files_stamp="g")
    assert stands(changed, archives=archived("now")).archive is ArchiveState.STALE


def test_a_pulled_asset_is_as_archived_when_refgenies_digest_says_so() -> None:
    pulled = msgspec.structs.replace(asset(AssetState.PULLED, stamp="other"), asset_digest="x")
    same = {KEY: msgspec.structs.replace(archived("now")[KEY], asset_digest="x")}
    assert stands(pulled, archives=same).archive is ArchiveState.ARCHIVED
    assert stands(pulled, archives=archived("now")).archive is ArchiveState.STALE


def test_the_policy_lets_pulled_and_added_assets_in() -> None:
    assert stands(asset(AssetState.PULLED), Archive(pulled=True)).due
    assert stands(asset(AssetState.ADDED), Archive(added=True)).due
    assert not stands(asset(AssetState.ADDED, stamp=""), Archive(added=True)).due, "outside the genome folder"


def test_what_was_built_before_the_first_start_waits_behind_newer_builds_or_is_left_out() -> None:
    old = asset(built_at=FIRST_START - 1)
    assert stands(old).priority == Priority.BACKLOG
    assert "before the first start" in stands(old, Archive(existing=False)).why_not
    assert stands(asset(), Archive(existing=False)).due


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Archive(automatic=False), "archive.automatic is off"),
        (Archive(include=("hg38/*",)), "not included"),
        (Archive(exclude=("t7/fasta",)), "excluded by archive.exclude (t7/fasta)"),
    ],
)
def test_patterns_and_the_switch(policy: Archive, reason: str) -> None:
    assert reason in stands(asset(), policy).why_not


def test_archived_stale_and_lost() -> None:
    assert stands(asset(), archives=archived("now")).archive is ArchiveState.ARCHIVED
    assert stands(asset(), archives=archived("then")).archive is ArchiveState.STALE
    lost = stands(asset(), archives=archived("now"), lost={KEY: "gone"})
    assert (lost.archive, lost.due) == (ArchiveState.STALE, True)


def test_an_archive_outlives_its_asset() -> None:
    found = stands(asset(AssetState.MISSING, stamp=""), archives=archived("then"))
    assert (found.archive, found.due) == (ArchiveState.ARCHIVED, False)


def test_a_failed_or_cancelled_job_holds_for_that_state_of_the_asset_only() -> None:
    for state in (JobState.FAILED, JobState.CANCELLED):
        assert "job 7" in stands(asset(), jobs=job(state)).why_not
        assert stands(asset(), jobs=job(state, stamp="then")).due


def test_an_error_that_tells_of_a_moment_holds_nothing() -> None:
    assert stands(asset(), jobs=job(JobState.CANCELLED, kind="asset_incomplete")).due


@pytest.mark.parametrize("kind", ["write_failed", "unreadable", "source_changed", "archive_damaged", "crashed"])
def test_what_may_pass_holds_nothing_also_when_an_older_version_gave_it_up(kind: str) -> None:
    assert stands(asset(), jobs=job(JobState.FAILED, kind=kind)).due


def test_what_a_queued_job_waits_for_is_told() -> None:
    assert stands(asset(), jobs=job(JobState.QUEUED)).waits_for == "job 7 is tried again: it broke"
    paused = stands(asset(), jobs=job(JobState.QUEUED), paused="paused by ann").waits_for
    assert paused == "paused by ann; job 7 is tried again: it broke"
    assert stands(asset(), jobs=job(JobState.RUNNING), paused="paused by ann").waits_for == ""


def test_a_queued_or_running_job_is_shown_and_nothing_is_due() -> None:
    for state in (JobState.QUEUED, JobState.RUNNING):
        found = stands(asset(), jobs=job(state))
        assert found.job
        assert (found.job.state, found.due) == (state, False)


def test_a_removal_holds_until_the_asset_is_built_again() -> None:
    removal = {KEY: Removal(KEY, "now", 1.0, "ann")}
    assert "removed by ann" in stands(asset(), removals=removal).why_not
    assert stands(asset(stamp="later"), removals=removal).due


def test_without_an_archive_folder_nothing_is_due() -> None:
    found = stands(asset(), archive_folder="")
    assert (found.due, found.why_not) == (False, "no genome_archive_folder is set")
