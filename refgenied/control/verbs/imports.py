"""`archive.import`: records archives that exist already. It may take long."""

import time
from collections.abc import AsyncGenerator
from typing import Annotated

from msgspec import Meta

from refgenied.archive.discover import Found
from refgenied.control import lookup, progress
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import KEEPING_ERRORS, Params, require_folder, require_not_both
from refgenied.control.protocol import InvalidParamsError
from refgenied.control.views import PAGE_ROWS, Page, View, row
from refgenied.maintenance.importer import Taken
from refgenied.model import AssetNotFoundError, NoSpaceError, ShortageError, StateError, UnreadableError


class ArchiveImportParams(Params, frozen=True):
    folder: Annotated[str, Meta(max_length=4096, description="absolute; empty: the archive folder itself")] = ""
    path: Annotated[str, Meta(max_length=4096)] = ""
    """instead of a folder one archive, which may have been removed: its registry path, or the absolute path of its .tgz
    """
    progress: Annotated[bool, Meta(description="send `progress` and `imported` notifications meanwhile")] = False


class ImportView(View, frozen=True):
    registry_path: str
    maker: str
    """The program that made it: refgenied, refgenieserver or refgenie 1."""
    path: str
    """The path where it was found."""
    taken: str
    """imported, known (it was recorded already), removed (its manifest says so) or refused."""
    size: int
    reason: str


class ImportResult(View, frozen=True):
    folder: str
    """The folder that was searched, or the one archive that was named."""
    counts: dict[str, int]
    seconds: float
    refused: list[ImportView]
    """The first refused archives; an `imported` notification was sent for each too."""


@Verb(
    "archive.import",
    writes=True,
    lasts=True,
    notifies=("progress", "imported"),
    errors=(*KEEPING_ERRORS, AssetNotFoundError, NoSpaceError, ShortageError, StateError, UnreadableError),
)
async def archive_import(context: Context, call: Call, params: ArchiveImportParams) -> ImportResult:
    """Record the archives in a folder, and bring them into the archive folder; nothing is compressed."""
    if params.folder and not params.folder.startswith("/"):
        raise InvalidParamsError("archive.import: `folder` must be an absolute path")
    require_not_both("archive.import", folder=params.folder or None, path=params.path or None)
    await require_folder(context, "imported")
    began = time.monotonic()
    counts = {taken.value: 0 for taken in Taken}
    refused: list[ImportView] = []
    async for found in _to_import(context, params):
        async with progress.told(call, found.key, wanted=params.progress) as on_progress:
            taken = await context.importer.take(
                found, call.peer.requester, by_name=bool(params.path), on_progress=on_progress
            )
        view = row(ImportView, taken, taken.key, ())
        counts[taken.taken] += 1
        if taken.taken is Taken.REFUSED:
            refused.append(view)
            del refused[PAGE_ROWS:]
        if params.progress:
            await call.notify("imported", view)
    context.reconciler.judge_again()
    if params.path:
        await context.catalog.catch_up()  # the client may want to pull the archive next
    return ImportResult(
        folder=params.path or params.folder or context.archive_folder.path,
        counts=counts,
        seconds=time.monotonic() - began,
        refused=Page(refused).rows,
    )


async def _to_import(context: Context, params: ArchiveImportParams) -> AsyncGenerator[Found]:
    if params.path:
        wanted = params.path if params.path.startswith("/") else await lookup.key_of(context, params.path)
        yield await context.importer.find_one(wanted)
        return
    await context.catalog.catch_up()  # until then a flat name may still lead to an older archive, found as another one
    async for found in context.importer.find(params.folder):
        yield found
