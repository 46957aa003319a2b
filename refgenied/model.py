"""The words of the project as frozen types, the job state table and the errors. No I/O, no clock.

Everything imports this module; it imports nothing of ours.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec

# --------------------------------------------------------------------------- assets


class AssetKey(msgspec.Struct, frozen=True, order=True):
    """The identity of one asset: three names, never an alias."""

    genome_digest: str
    asset_group: str
    asset: str

    @property
    def registry_path(self) -> str:
        """`{genome_digest}/{asset_group}:{asset}`."""
        return f"{self.genome_digest}/{self.asset_group}:{self.asset}"

    def aliased(self, alias: str) -> str:
        """The same registry path as a person writes it: `hg38/fasta:default`."""
        return f"{alias}/{self.asset_group}:{self.asset}"


class AssetState(StrEnum):
    """What the genome folder says about one asset."""

    COMPLETE = "complete"  # built here, finished, registered
    BUILDING = "building"  # a running flag or lock, and something moved lately
    FAILED = "failed"  # the last build left a failed flag
    INTERRUPTED = "interrupted"  # a running flag or lock, and nothing has moved for long
    UNREGISTERED = "unregistered"  # complete on disk, absent from refgenie's config
    PULLED = "pulled"  # downloaded: at refgenie's own place, no build flags
    ADDED = "added"  # `refgenie add`: somewhere else in the genome folder, no build flags
    MISSING = "missing"  # in refgenie's config (or archived), but not on disk
    UNREADABLE = "unreadable"  # a folder or file that may not or cannot be read


ARCHIVABLE = frozenset({AssetState.COMPLETE, AssetState.UNREGISTERED, AssetState.PULLED, AssetState.ADDED})
"""States in which an asset's files are at rest, so that an archive of them can be asked for."""


class Asset(msgspec.Struct, frozen=True):
    """One asset as one look at the genome folder found it."""

    key: AssetKey
    state: AssetState
    reason: str
    """One plain line: why this state."""
    folder: str
    """Absolute path of the folder with the asset's files (it may be missing)."""
    aliases: tuple[str, ...] = ()
    stamp: str = ""
    """Changes whenever the files, the build flags or refgenie's entry change; empty when they could not be
    read or are not at rest. Two equal stamps mean: not built again, nothing touched in between."""
    files_stamp: str = ""
    """The part of `stamp` that covers the files alone (path, type, mode, size, mtime, ctime, inode)."""
    built_at: float | None = None
    """When the build finished (mtime of its completed flag, Unix seconds); None without a flag."""
    asset_digest: str | None = None
    """refgenie's own digest of the files, as its config has it."""
    description: str = ""
    seek_keys: dict[str, str] = {}
    parents: tuple[str, ...] = ()
    """Registry paths of the assets this one was built from, as refgenie's config has them."""
    children: tuple[str, ...] = ()


class BuildRecord(msgspec.Struct, frozen=True):
    """How an asset was built, as far as its build folder tells."""

    commands: tuple[str, ...] = ()
    recipe: dict[str, Any] | None = None
    log_name: str | None = None
    log: str = ""
    """The log's text, its first 256 KiB; "" without one."""


class Genome(msgspec.Struct, frozen=True):
    digest: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    default_assets: dict[str, str] = {}
    """Asset group → the asset that is meant when a registry path names none."""


class Problem(msgspec.Struct, frozen=True):
    """Something in the genome folder that could not be read; it never stops the others."""

    path: str
    message: str


class Look(msgspec.Struct, frozen=True):
    """All that one look at the genome folder found."""

    assets: dict[AssetKey, Asset]
    genomes: dict[str, Genome]
    problems: tuple[Problem, ...]
    layout: str
    """`refgenie 0.13 (genome_config.yaml)` or `refgenie 1`, for people."""
    root: tuple[int, int] | None
    """(device, inode) of the genome folder; None when it is not there."""
    watch: tuple[str, ...]
    """Folders whose changes are worth another look."""
    servers: tuple[str, ...] = ()
    config_version: str = ""

    @property
    def ok(self) -> bool:
        """Whether the root and refgenie's config could be read, so that absence means something."""
        return self.root is not None


# --------------------------------------------------------------------------- jobs


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
    FAIL = "fail"  # a permanent error, or the last attempt
    RETRY_LATER = "retry_later"  # a transient error: an attempt is charged, with back-off
    HAND_BACK = "hand_back"  # shutdown or a full disk: no attempt is charged
    CRASHED = "crashed"  # found running at start: an attempt is charged
    CRASHED_OUT = "crashed_out"  # it took the daemon down too often
    FOLD = "fold"  # a hand-back that met a queued twin
    CANCEL_QUEUED = "cancel_queued"  # by a user
    CANCEL_RUNNING = "cancel_running"  # by a user
    REVIVE = "revive"  # a user retries an ended job


ARROWS: dict[Arrow, tuple[frozenset[JobState], JobState]] = {
    Arrow.CLAIM: (frozenset({JobState.QUEUED}), JobState.RUNNING),
    Arrow.SUCCEED: (frozenset({JobState.RUNNING}), JobState.SUCCEEDED),
    Arrow.FAIL: (frozenset({JobState.RUNNING}), JobState.FAILED),
    Arrow.RETRY_LATER: (frozenset({JobState.RUNNING}), JobState.QUEUED),
    Arrow.HAND_BACK: (frozenset({JobState.RUNNING}), JobState.QUEUED),
    Arrow.CRASHED: (frozenset({JobState.RUNNING}), JobState.QUEUED),
    Arrow.CRASHED_OUT: (frozenset({JobState.RUNNING}), JobState.FAILED),
    Arrow.FOLD: (frozenset({JobState.RUNNING}), JobState.CANCELLED),
    Arrow.CANCEL_QUEUED: (frozenset({JobState.QUEUED}), JobState.CANCELLED),
    Arrow.CANCEL_RUNNING: (frozenset({JobState.RUNNING}), JobState.CANCELLED),
    Arrow.REVIVE: (frozenset({JobState.FAILED, JobState.CANCELLED}), JobState.QUEUED),
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


class Progress(msgspec.Struct, frozen=True):
    """Where a running job is. Bytes are source bytes."""

    phase: str
    """`packing`, `proving` or `publishing`."""
    done: int
    total: int
    rate: float = 0.0
    """Bytes a second, over the last seconds."""


class Event(msgspec.Struct, frozen=True):
    """One line of the event log. `seq` rises and is never used twice."""

    seq: int
    at: float
    kind: str
    key: AssetKey | None = None
    job: int | None = None
    data: dict[str, Any] = {}


# --------------------------------------------------------------------------- archives


class ArchiveRecord(msgspec.Struct, frozen=True):
    """What the database knows of one archive. The manifest beside the file knows more."""

    key: AssetKey
    aliases: tuple[str, ...]
    path: str
    """Relative to the archive folder, so that the folder can be moved."""
    size: int
    digest: str
    """md5 of the `.tgz`, as refgenie uses."""
    asset_digest: str
    content_digest: str
    files: int
    """Number of regular files inside."""
    source_size: int
    """Bytes of those files."""
    stamp: str
    files_stamp: str
    created_at: float
    proved_at: float | None = None
    """When the file was last read back and agreed with its manifest."""
    download_count: int = 0
    requested_by: str = "refgenied"
    damaged: str | None = None
    """What a verify found wrong, in one line with the first bad member; None while nothing is known to be wrong."""


class Removal(msgspec.Struct, frozen=True):
    """A user removed this asset's archive; it is not archived again by itself while the stamp holds."""

    key: AssetKey
    stamp: str
    removed_at: float
    removed_by: str


# --------------------------------------------------------------------------- errors


class RefgeniedError(Exception):
    """Base of every error that is meant for a person: one clear line, and a hint what to do.

    `code` is the JSON-RPC error code, `kind` its stable name. `permanent` says that trying again cannot help
    while the asset stays as it is.
    """

    code: ClassVar[int] = 1000
    kind: ClassVar[str] = "error"
    permanent: ClassVar[bool] = True

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class AssetNotFoundError(RefgeniedError):
    code, kind = 1001, "asset_not_found"


class AssetIncompleteError(RefgeniedError):
    code, kind = 1002, "asset_incomplete"


class ArchiveNotFoundError(RefgeniedError):
    code, kind = 1003, "archive_not_found"


class ArchiveFolderNotSetError(RefgeniedError):
    code, kind = 1004, "archive_folder_not_set"


class JobNotFoundError(RefgeniedError):
    code, kind = 1005, "job_not_found"


class PermissionDeniedError(RefgeniedError):
    code, kind = 1006, "permission_denied"


class ConflictError(RefgeniedError):
    code, kind = 1007, "conflict"


class ShuttingDownError(RefgeniedError):
    code, kind = 1008, "shutting_down"


class BusyError(RefgeniedError):
    code, kind = 1009, "busy"


class BadRegistryPathError(RefgeniedError):
    code, kind = 1010, "bad_registry_path"


class AssetNotWantedError(RefgeniedError):
    """Nobody asked for its archive, and the policy or its state says that none is made by itself."""

    code, kind = 1011, "asset_not_wanted"


class MemberNotFoundError(RefgeniedError):
    """The archive is there, and has no such member."""

    code, kind = 1012, "member_not_found"


class UnsafeTreeError(RefgeniedError):
    """A link that leads out, a device, a FIFO, a socket: the asset is refused, and the member is named."""

    code, kind = 1020, "unsafe_tree"


class DigestMismatchError(RefgeniedError):
    """The files are not what refgenie's config says they are."""

    code, kind = 1021, "digest_mismatch"


class SourceChangedError(RefgeniedError):
    """The asset changed while it was read."""

    code, kind, permanent = 1022, "source_changed", False


class UnreadableError(RefgeniedError):
    """A file or folder could not be read (rights, I/O error)."""

    code, kind, permanent = 1023, "unreadable", False


class NoSpaceError(RefgeniedError):
    """The archive folder's disk (or a quota) is full."""

    code, kind, permanent = 1024, "no_space", False


class WriteError(RefgeniedError):
    """The archive could not be written, for another reason than space."""

    code, kind, permanent = 1025, "write_failed", False


class DamagedArchiveError(RefgeniedError):
    """An archive does not agree with its manifest."""

    code, kind, permanent = 1026, "archive_damaged", False


class ConfigError(RefgeniedError):
    """The configuration is wrong: `refgenied` says so in one line and exits 78 (EX_CONFIG)."""

    code, kind = 1030, "config"


class StateError(RefgeniedError):
    """The state folder or database cannot be used."""

    code, kind = 1031, "state"


class AlreadyRunningError(RefgeniedError):
    """Another daemon holds the state folder or the archive folder: exit 75 (EX_TEMPFAIL)."""

    code, kind = 1033, "already_running"
