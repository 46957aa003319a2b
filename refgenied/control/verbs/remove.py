"""`archive.remove`: forgets an archive, and deletes its file on request."""

from contextlib import suppress
from typing import Annotated

import anyio
import anyio.to_thread
from msgspec import Meta

from refgenied.archive.place import Place
from refgenied.archive.publisher import remove
from refgenied.control import lookup
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import ARCHIVE_ERRORS, PathParams, require_folder
from refgenied.control.views import View
from refgenied.control.waiting import changed
from refgenied.model import (
    ENDED,
    ArchiveNotFoundError,
    ArchiveRecord,
    BusyError,
    ConflictError,
    DamagedArchiveError,
    NoSpaceError,
    Removal,
    Requester,
    WriteError,
)
from refgenied.store import archives
from refgenied.store import jobs as rows

STOP_SECONDS = 60.0
"""A running job may take this long to end after it was cancelled, because a publish that has begun is finished."""
STOP_LOOK_SECONDS = 1.0
"""Seconds between two checks whether the job has ended, if no event says so."""


class ArchiveRemoveParams(PathParams, frozen=True):
    delete_file: Annotated[bool, Meta(description="delete the .tgz too; otherwise only the record goes")] = False


class ArchiveRemoved(View, frozen=True):
    registry_path: str
    path: str
    """The archive's file."""
    deleted: bool
    """Whether the file was deleted now."""
    there: bool
    """Whether a file is still at that path."""


@Verb("archive.remove", writes=True, errors=(*ARCHIVE_ERRORS, BusyError, WriteError))
async def archive_remove(context: Context, call: Call, params: ArchiveRemoveParams) -> ArchiveRemoved:
    """Forget an archive, and with `delete_file` delete it. It comes back when the asset is built again or requested."""
    await require_folder(context, "removed")
    # the asset's present stamp is needed, and what its name means now; it may be gone, and only its archive is left
    await context.reconciler.refreshed([params.path], thorough=False)
    try:
        record = await _found(context, params.path)
    except ArchiveNotFoundError:
        left = await lookup.removed(context, params.path) if params.delete_file else None
        if left is None:
            raise
        return await _delete_left_file(context, left)
    with context.jobs.reserved(record.key):
        return await _remove(context, record, call.peer.requester, delete_file=params.delete_file)


async def _found(context: Context, path: str) -> ArchiveRecord:
    """ArchiveNotFoundError, also after a look at the whole genome folder if the path means no asset."""
    try:
        return (await lookup.find(context, path))[0]
    except ArchiveNotFoundError:
        await context.reconciler.refreshed([path])
        return (await lookup.find(context, path))[0]


async def _remove(
    context: Context, record: ArchiveRecord, requester: Requester, *, delete_file: bool
) -> ArchiveRemoved:
    """The caller has reserved the asset. So a job that is stopped here does not begin again."""
    asset = context.reconciler.look.assets.get(record.key)
    await _stop_jobs(context, record, requester)
    removal = Removal(
        key=record.key,
        stamp=(asset and asset.stamp) or record.stamp,  # an asset that cannot be read now has no stamp
        removed_at=max(context.clock(), record.created_at),  # the clock may have been set back
        removed_by=requester.name,
    )
    place = context.archive_folder.place(record.key)
    there_before = await anyio.to_thread.run_sync(place.archive.exists)
    with anyio.CancelScope(shield=True):  # a removal is finished even if the peer hangs up
        try:
            await _forget(context, place, removal, requester, delete_file=delete_file)
        except NoSpaceError:
            if not delete_file:
                raise
            async with context.archive_folder.publishing:  # a deleted file makes room for the mark in the manifest
                await anyio.to_thread.run_sync(_delete, place)
            await _forget(context, place, removal, requester, delete_file=True)
        await _stop_jobs(context, record, requester)  # a look may have queued a job before the removal was recorded
        await context.catalog.catch_up()
    there = await anyio.to_thread.run_sync(place.archive.exists)
    return ArchiveRemoved(record.key.registry_path, str(place.archive), there_before and not there, there)


async def _forget(context: Context, place: Place, removal: Removal, requester: Requester, *, delete_file: bool) -> None:
    async with context.archive_folder.changing(removal.key, context.store) as generation:
        # The manifest is changed first: after a crash the next start reads it and corrects the database.
        await anyio.to_thread.run_sync(_take_away, place, removal, delete_file)
        await context.jobs.records.removed(removal, requester, generation)


async def _delete_left_file(context: Context, removal: Removal) -> ArchiveRemoved:
    """Delete the file that an earlier removal left."""
    place = context.archive_folder.place(removal.key)
    with context.jobs.reserved(removal.key), anyio.CancelScope(shield=True):
        async with context.archive_folder.publishing:
            # a job or an import may have published another archive meanwhile
            if await context.store.ask(archives.removal, removal.key) is None:
                raise BusyError(f"{removal.key.registry_path} was archived again a moment ago", hint="look at it again")
            await anyio.to_thread.run_sync(_take_away, place, removal, True)
        await context.catalog.catch_up(removal.key)  # no event tells of it
    return ArchiveRemoved(removal.key.registry_path, str(place.archive), deleted=True, there=False)


def _take_away(place: Place, removal: Removal, delete_file: bool) -> None:  # noqa: FBT001
    try:
        remove(place, at=removal.removed_at, by=removal.removed_by, stamp=removal.stamp, delete_file=delete_file)
    except (ArchiveNotFoundError, DamagedArchiveError):  # there is no manifest to mark
        if delete_file:
            _delete(place)


def _delete(place: Place) -> None:
    try:
        for path in (place.archive, place.entries):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"{place.archive} cannot be deleted: {error.strerror or error}") from None


async def _stop_jobs(context: Context, record: ArchiveRecord, requester: Requester) -> None:
    """Cancel the jobs that would bring the archive back, and wait until they have ended."""
    with anyio.move_on_after(STOP_SECONDS), context.jobs.feed.subscribed() as subscription:
        while True:
            job = (await context.store.ask(rows.latest, [record.key])).get(record.key)  # jobs that have not ended win
            if job is None or job.state in ENDED:
                return
            with suppress(ConflictError):  # the job has just ended
                await context.jobs.cancel(job.id, requester)
            await changed(subscription, record.key, STOP_LOOK_SECONDS)
    raise BusyError(f"the job of {record.key.registry_path} does not end", hint="try again in a minute")
