"""The errors: each has one line for people, one kind for programs, and says whether another attempt can help."""

from typing import ClassVar


class RefgeniedError(Exception):
    """Base of every error for people: one clear line, and a hint that says what to do.

    `code` is the JSON-RPC error code, `kind` its stable name. `permanent` means that another attempt cannot help while
    the asset stays as it is.
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
    """Nobody asked for the asset's archive, and the policy or its state forbids an automatic archive."""

    code, kind = 1011, "asset_not_wanted"


class MemberNotFoundError(RefgeniedError):
    """The archive exists, but has no such member."""

    code, kind = 1012, "member_not_found"


class BadArgumentError(RefgeniedError, ValueError):
    """A caller of the library gave an impossible value."""

    code, kind = 1013, "bad_argument"


class UnsafeTreeError(RefgeniedError):
    """The asset is refused: it has a link that leads out, a device, a FIFO or a socket. The message names it."""

    code, kind = 1020, "unsafe_tree"


class DigestMismatchError(RefgeniedError):
    """The files do not have the digest in refgenie's config."""

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


class ShortageError(RefgeniedError):
    """The process or the machine is short of descriptors or memory for the moment: no file is at fault."""

    code, kind, permanent = 1027, "shortage", False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint or "raise the limit (a service: LimitNOFILE=, MemoryMax=), or free some")


class WriteError(RefgeniedError):
    """The archive could not be written, for another reason than a full disk."""

    code, kind, permanent = 1025, "write_failed", False


class CrashedError(RefgeniedError):
    """The daemon was killed, or the machine went down, while a job ran."""

    code, kind, permanent = 1028, "crashed", False


class DamagedArchiveError(RefgeniedError):
    """An archive does not agree with its manifest."""

    code, kind, permanent = 1026, "archive_damaged", False


class ConfigError(RefgeniedError):
    """The configuration is wrong: `refgenied` says so in one line and exits with 78 (EX_CONFIG)."""

    code, kind = 1030, "config"


class StateError(RefgeniedError):
    """The state folder or database cannot be used."""

    code, kind = 1031, "state"


class AlreadyRunningError(RefgeniedError):
    """Another daemon holds the state folder or the archive folder: `refgenied` exits with 75 (EX_TEMPFAIL)."""

    code, kind = 1033, "already_running"
