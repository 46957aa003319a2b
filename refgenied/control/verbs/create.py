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
    Asset,
    AssetIncompleteError,
    AssetNotFoundError,
    BusyError,
    Priority,
    RefgeniedError,
    Requester,
)
from refgenied.policy import ArchiveState, Standing


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
    paths = [params.path] if params.path else params.paths
    await context.reconciler.refreshed(paths)
    assets = [_asset(context, path) for path in paths]
    stands = await context.reconciler.standings.some({asset.key for asset in assets if isinstance(asset, Asset)})
    results: list[Wish] = []
    for path, asset in zip(paths, assets, strict=True):
        try:
            if not isinstance(asset, Asset):
                raise await _with_way_back(context, path, asset)
            here = stands[asset.key][1] if asset.key in stands else None
            results.append(await _wish(context, path, asset, here, call.peer.requester, force=params.force))
        except RefgeniedError as error:
            if params.path:
                raise
            results.append(Wish(path, None, None, "refused", created=False, error=error_body(error)))
    return results[0] if params.path else Wishes(results)


def _asset(context: Context, path: str) -> Asset | RefgeniedError:
    """The asset, or why no archive of it can be made."""
    try:
        asset = context.reconciler.look.assets[resolve(context.reconciler.look, path)]
    except RefgeniedError as error:
        return error
    if asset.state in ARCHIVABLE and asset.stamp:
        return asset
    return AssetIncompleteError(
        f"{path} cannot be archived: {asset.reason}",
        hint="`refgeniectl archive wait` waits for a build to finish" if asset.state == "building" else "",
    )


async def _wish(
    context: Context, path: str, asset: Asset, stands: Standing | None, requester: Requester, *, force: bool
) -> Wish:
    name = asset.key.registry_path
    if stands and stands.archive is ArchiveState.ARCHIVED and stands.job is None and not force:
        return Wish(path, name, None, ArchiveState.ARCHIVED, created=False)
    job, created = await context.jobs.enqueue(
        asset.key, stamp=asset.stamp, priority=Priority.ASKED, force=force, requester=requester
    )
    return Wish(path, name, job.id, job.state, created=created)


async def _with_way_back(context: Context, path: str, error: RefgeniedError) -> RefgeniedError:
    """The error. If the asset's archive was removed but its file still exists, the error says so."""
    if not isinstance(error, AssetNotFoundError | AssetIncompleteError):
        return error
    removal = await lookup.removed(context, path)
    if removal is None:
        return error
    told = await lookup.how_back(context, path, removal)
    return type(error)(f"{error.message}; its archive was removed by {removal.removed_by}", hint=told.hint)
