"""The verbs that change what is archived: `archive.create` and `archive.remove`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

import anyio
import anyio.to_thread
import msgspec
from msgspec import Meta

from refgenied.archive.place import Place
from refgenied.archive.publisher import remove
from refgenied.control import lookup
from refgenied.control.changes import Changes
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.protocol import InvalidParamsError, error_body
from refgenied.control.verbs.assets import RegistryPathText
from refgenied.genomes.registry_path import resolve
from refgenied.model import (
    ARCHIVABLE,
    ArchiveFolderNotSetError,
    ArchiveNotFoundError,
    ArchiveRecord,
    Asset,
    AssetIncompleteError,
    AssetKey,
    AssetNotFoundError,
    BadRegistryPathError,
    BusyError,
    ConflictError,
    DamagedArchiveError,
    JobState,
    NoSpaceError,
    Priority,
    RefgeniedError,
    Removal,
    Requester,
    WriteError,
)
from refgenied.policy import ArchiveState
from refgenied.store import jobs as rows

registry: Registry[Context] = Registry()

MOST_PATHS = 1000
STOP_SECONDS = 60.0
"""A running job that is being cancelled may first finish a publish that is past its first rename."""


class ArchiveCreateParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(max_length=1024, description="one registry path; or give `paths`")] = ""
    paths: Annotated[tuple[RegistryPathText, ...], Meta(max_length=MOST_PATHS, description="several of them")] = ()
    force: Annotated[bool, Meta(description="make it anew, also when it is archived as it is")] = False


class Wish(msgspec.Struct, frozen=True):
    path: str
    """As it was asked for."""
    registry_path: str | None
    job: int | None
    state: str
    """queued or running; `archived` when it is archived as it is; `refused` with an error."""
    created: bool
    """Whether the job is a new one."""
    error: dict[str, object] | None = None


class Wishes(msgspec.Struct, frozen=True):
    results: list[Wish]


@registry.verb(
    "archive.create",
    "Ask for the archive of assets; answers with the job of each, one result for `path`, a list for `paths`.",
    params=ArchiveCreateParams,
    writes=True,
    errors=(
        AssetNotFoundError,
        AssetIncompleteError,
        ArchiveFolderNotSetError,
        BadRegistryPathError,
        BusyError,
        WriteError,
    ),
)
async def archive_create(context: Context, call: Call, params: ArchiveCreateParams) -> Wish | Wishes:
    if bool(params.path) == bool(params.paths):
        raise InvalidParamsError("archive.create: give either `path` or `paths`")
    await require_folder(context, "archived")
    await context.reconciler.look_again()
    requester = call.peer.requester
    removals = await lookup.removals(context)
    if params.path:
        try:
            return await _wish(context, params.path, requester, force=params.force)
        except RefgeniedError as error:
            raise await _with_way_back(context, params.path, error, removals) from None
    results: list[Wish] = []
    for path in params.paths:
        try:
            results.append(await _wish(context, path, requester, force=params.force))
        except RefgeniedError as refused:
            error = await _with_way_back(context, path, refused, removals)
            results.append(Wish(path, None, None, "refused", created=False, error=error_body(error)))
    return Wishes(results)


async def _with_way_back(
    context: Context, path: str, error: RefgeniedError, removals: Mapping[AssetKey, Removal]
) -> RefgeniedError:
    """The asset is gone, so nothing can be made of it; an archive of it that was removed may still be there."""
    if not isinstance(error, AssetNotFoundError | AssetIncompleteError):
        return error
    removal = await lookup.removed(context, path, removals)
    if removal is None:
        return error
    told = await lookup.how_back(context, path, removal)
    return type(error)(f"{error.message}; its archive was removed by {removal.removed_by}", hint=told.hint)


async def require_folder(context: Context, doing: str) -> None:
    """`doing`: what cannot be done without one, such as "archived"."""
    if not context.archive_folder.path:
        raise ArchiveFolderNotSetError(
            f"no genome_archive_folder is set, so nothing can be {doing}",
            hint="set refgenie.genome_archive_folder in the configuration (`refgenied init --genome-folder G "
            "--genome-archive-folder A` writes one) or REFGENIE_GENOME_ARCHIVE_FOLDER, and restart refgenied",
        )
    problem = await anyio.to_thread.run_sync(context.archive_folder.problem)
    if problem:
        raise WriteError(problem)


async def _wish(context: Context, path: str, requester: Requester, *, force: bool) -> Wish:
    asset = context.reconciler.look.assets[resolve(context.reconciler.look, path)]
    name = asset.key.registry_path
    if asset.state not in ARCHIVABLE or not asset.stamp:
        raise AssetIncompleteError(
            f"{path} cannot be archived: {asset.reason}",
            hint="`refgeniectl archive wait` waits for a build to finish" if asset.state == "building" else "",
        )
    stands = await context.reconciler.standings.of(asset)
    if stands.archive is ArchiveState.ARCHIVED and stands.job is None and not force:
        return Wish(path, name, None, ArchiveState.ARCHIVED, created=False)
    job, created = await context.jobs.enqueue(
        asset.key, stamp=asset.stamp, priority=Priority.ASKED, force=force, requester=requester
    )
    return Wish(path, name, job.id, job.state, created=created)


class ArchiveRemoveParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: RegistryPathText
    delete_file: Annotated[bool, Meta(description="delete the .tgz too; otherwise only the record goes")] = False


class ArchiveRemoved(msgspec.Struct, frozen=True):
    registry_path: str
    path: str
    """The archive's file."""
    deleted: bool
    """Whether the file was deleted now."""
    there: bool
    """Whether a file is still at that path."""


@registry.verb(
    "archive.remove",
    "Forget an archive, and with `delete_file` delete it; it comes back when the asset is rebuilt or asked for.",
    params=ArchiveRemoveParams,
    writes=True,
    errors=(ArchiveNotFoundError, BadRegistryPathError, BusyError, WriteError),
)
async def archive_remove(context: Context, call: Call, params: ArchiveRemoveParams) -> ArchiveRemoved:
    await context.reconciler.look_again()
    await require_folder(context, "removed")
    requester = call.peer.requester
    try:
        record, _ = await lookup.find(context, params.path)
    except ArchiveNotFoundError:
        left = await lookup.removed(context, params.path) if params.delete_file else None
        if left is None:
            raise
        return await _deleted(context, left)
    with context.jobs.reserved(record.key):
        return await _removed(context, record, requester, delete_file=params.delete_file)


async def _removed(
    context: Context, record: ArchiveRecord, requester: Requester, *, delete_file: bool
) -> ArchiveRemoved:
    """The asset is reserved: what ends below does not begin again."""
    asset = context.reconciler.look.assets.get(record.key)
    await _stop_jobs(context, record, requester)
    removal = Removal(
        key=record.key,
        stamp=_stamp(asset, record),
        removed_at=max(context.clock(), record.created_at),  # a clock that was set back does not turn them round
        removed_by=requester.name,
    )
    place = lookup.place(context, record.key)
    there_before = await anyio.to_thread.run_sync(place.archive.exists)
    with anyio.CancelScope(shield=True):  # the peer may hang up; half a removal helps nobody
        try:
            await _forget(context, place, removal, requester, delete_file=delete_file)
        except NoSpaceError:
            if not delete_file:
                raise
            await anyio.to_thread.run_sync(_delete, place)  # it makes room for the note of it
            await _forget(context, place, removal, requester, delete_file=True)
        await _stop_jobs(context, record, requester)  # one that a look queued before the removal was known
        await context.keeper.refresh()
    there = await anyio.to_thread.run_sync(place.archive.exists)
    return ArchiveRemoved(
        registry_path=record.key.registry_path,
        path=str(place.archive),
        deleted=there_before and not there,
        there=there,
    )


async def _forget(context: Context, place: Place, removal: Removal, requester: Requester, *, delete_file: bool) -> None:
    async with context.archive_folder.changing(removal.key, context.store) as generation:
        # First the manifest: after a crash the next start reads it, and the database follows.
        await anyio.to_thread.run_sync(_take_away, place, removal, delete_file)
        await context.jobs.records.removed(removal, requester, generation)


async def _deleted(context: Context, removal: Removal) -> ArchiveRemoved:
    """The file that an earlier removal left behind."""
    place = lookup.place(context, removal.key)
    with context.jobs.reserved(removal.key), anyio.CancelScope(shield=True):
        async with context.archive_folder.publishing:
            if removal.key not in await lookup.removals(context):  # a job, or an import, was quicker: it is another
                raise BusyError(f"{removal.key.registry_path} was archived again a moment ago", hint="look at it again")
            await anyio.to_thread.run_sync(_take_away, place, removal, True)
        await context.keeper.refresh()
    return ArchiveRemoved(removal.key.registry_path, str(place.archive), deleted=True, there=False)


def _stamp(asset: Asset | None, record: ArchiveRecord) -> str:
    return (asset and asset.stamp) or record.stamp  # an asset that cannot be read now has none


def _take_away(place: Place, removal: Removal, delete_file: bool) -> None:  # noqa: FBT001
    try:
        remove(place, at=removal.removed_at, by=removal.removed_by, stamp=removal.stamp, delete_file=delete_file)
    except (ArchiveNotFoundError, DamagedArchiveError):  # no manifest to mark: the record and the file still go
        if delete_file:
            _delete(place)


def _delete(place: Place) -> None:
    try:
        for path in (place.archive, place.entries):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"{place.archive} cannot be deleted: {error.strerror or error}") from None


async def _stop_jobs(context: Context, record: ArchiveRecord, requester: Requester) -> None:
    """Cancel what would bring the archive back, and wait until it has ended."""
    with anyio.move_on_after(STOP_SECONDS), context.feed.subscribed() as subscription:
        changes = Changes(subscription, key=record.key)
        while True:
            async with context.store.transaction() as tx:
                found = [await rows.in_state(tx, record.key, state) for state in (JobState.QUEUED, JobState.RUNNING)]
            unfinished = [job for job in found if job is not None]
            if not unfinished:
                return
            for job in unfinished:
                with suppress(ConflictError):  # it has just ended
                    await context.jobs.cancel(job.id, requester)
            await changes.wait(1.0)
    raise BusyError(f"the job of {record.key.registry_path} does not end", hint="try again in a minute")
