"""Params that several verbs take, and the checks that they share."""

from collections.abc import Iterable
from typing import Annotated

import anyio.to_thread
import msgspec
from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.protocol import InvalidParamsError
from refgenied.control.views import PAGE_ROWS
from refgenied.model import (
    ArchiveFolderNotSetError,
    ArchiveNotFoundError,
    AssetNotFoundError,
    BadRegistryPathError,
    DamagedArchiveError,
    UnreadableError,
    WriteError,
)

MOST_PATHS = 1000

Pattern = Annotated[str, Meta(description="registry path with * and ?; alias or digest; `hg38` alone is `hg38/*`")]
RegistryPathText = Annotated[
    str, Meta(min_length=1, max_length=1024, description="registry path; alias or digest; the default asset if unnamed")
]
After = Annotated[str, Meta(description="the `next` of the page before")]
Skip = Annotated[int, Meta(ge=0, description="the `next` of the page before")]
Limit = Annotated[int, Meta(ge=1, le=PAGE_ROWS)]
SeveralPaths = Annotated[tuple[RegistryPathText, ...], Meta(max_length=MOST_PATHS)]
JobNumber = Annotated[int, Meta(ge=1, le=2**63 - 1)]

ASSET_ERRORS = (AssetNotFoundError, BadRegistryPathError)
"""The errors of a verb that takes the registry path of an asset."""
ARCHIVE_ERRORS = (ArchiveNotFoundError, BadRegistryPathError)
"""The errors of a verb that takes the registry path of an archive."""
FOLDER_ERRORS = (ArchiveFolderNotSetError, WriteError)
"""The errors of `require_folder`."""
READING_ERRORS = (*ARCHIVE_ERRORS, DamagedArchiveError, UnreadableError)
"""The errors of a verb that reads the manifest of one archive."""
KEEPING_ERRORS = (*ARCHIVE_ERRORS, *FOLDER_ERRORS)
"""The errors of a verb that works on recorded archives in the archive folder."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The params of a verb."""


class Nothing(Params, frozen=True):
    """No params."""


class PathParams(Params, frozen=True):
    path: RegistryPathText


class PathPageParams(PathParams, frozen=True):
    """A page of things that belong to one asset or archive."""

    skip: Skip = 0
    limit: Limit = PAGE_ROWS


class PatternPageParams(Params, frozen=True):
    """A page of the assets or archives that match a pattern."""

    pattern: Pattern = ""
    after: After = ""
    limit: Limit = PAGE_ROWS


def require_one(verb: str, **given: object) -> None:
    """InvalidParamsError unless exactly one of these params is given."""
    if sum(map(bool, given.values())) != 1:
        raise _not_both(verb, given)


def require_not_both(verb: str, **given: object) -> None:
    """InvalidParamsError when more than one of these params is given (None means: not given)."""
    if sum(value is not None for value in given.values()) > 1:
        raise _not_both(verb, given)


def _not_both(verb: str, names: Iterable[str]) -> InvalidParamsError:
    return InvalidParamsError(f"{verb}: give either {' or '.join(f'`{name}`' for name in names)}")


async def require_folder(context: Context, doing: str) -> None:
    """ArchiveFolderNotSetError, WriteError: no archive folder can be used. `doing`: a word for the error's text."""
    if not context.archive_folder.path:
        raise ArchiveFolderNotSetError(
            f"no genome_archive_folder is set, so nothing can be {doing}",
            hint="set refgenie.genome_archive_folder in the configuration (`refgenied init --genome-folder G "
            "--genome-archive-folder A` writes one) or REFGENIE_GENOME_ARCHIVE_FOLDER, and restart refgenied",
        )
    problem = await anyio.to_thread.run_sync(context.archive_folder.problem)
    if problem:
        raise WriteError(problem)
