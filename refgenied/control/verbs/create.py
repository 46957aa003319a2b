"""`archive.create`: asks for the archives of assets."""

from typing import Annotated

from msgspec import Meta

from refgenied.control import lookup
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import ASSET_ERRORS, FOLDER_ERRORS, Params, SeveralPaths, require_folder, require_one
from refgenied.control.protocol import error_body
from refgenied.control.views import View
from refgenied.genomes.registry_path import resolve
from refgenied.model import (
    ARCHIVABLE,
    AssetIncompleteError,
    AssetNotFoundError,
    BusyError,
    Priority,
    RefgeniedError,
    Requester,
)
from refgenied.policy import ArchiveState


class ArchiveCreateParams(Params, frozen=True):
    path: Annotated[str, Meta(max_length=1024, description="one registry path; or give `paths`")] = ""
    paths: Annotated[SeveralPaths, Meta(description="several of them")] = ()
    force: Annotated[bool, Meta(description="make it anew, also when it is archived as it is")] = False


class Wish(View, frozen=True):
    path: str
    """The registry path as it was given."""
    registry_path: str | None
    job: int | None
    state: str
    """queued or running; `archived`: the archive is up to date; `refused`: there is an error."""
    created: bool
    """Whether the job is new."""
    error: dict[str, object] | None = None


class Wishes(View, frozen=True):
    results: list[Wish]


@Verb("archive.create", writes=True, errors=(*ASSET_ERRORS, *FOLDER_ERRORS, AssetIncompleteError, BusyError))
async def archive_create(context: Context, call: Call, params: ArchiveCreateParams) -> Wish | Wishes:
    """Ask for the archive of assets; answers with the job of each, one result for `path`, a list for `paths`."""
    require_one("archive.create", path=params.path, paths=params.paths)
    await require_folder(context, "archived")
    await context.reconciler.refreshed([params.path] if params.path else params.paths)

    async def wish(path: str) -> Wish:
        try:
            return await _wish(context, path, call.peer.requester, force=params.force)
        except (AssetNotFoundError, AssetIncompleteError) as error:
            raise await _with_way_back(context, path, error) from None

    if params.path:
        return await wish(params.path)
    results: list[Wish] = []
    for path in params.paths:
        try:
            results.append(await wish(path))
        except RefgeniedError as error:
            results.append(Wish(path, None, None, "refused", created=False, error=error_body(error)))
    return Wishes(results)


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


async def _with_way_back(context: Context, path: str, error: RefgeniedError) -> RefgeniedError:
    """The error. If the asset's archive was removed but its file still exists, the error says so."""
    removal = await lookup.removed(context, path)
    if removal is None:
        return error
    told = await lookup.how_back(context, path, removal)
    return type(error)(f"{error.message}; its archive was removed by {removal.removed_by}", hint=told.hint)
