"""`archive.create`: asks for the archives of assets."""

from collections.abc import Mapping
from itertools import islice
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
    AssetKey,
    AssetNotFoundError,
    BusyError,
    Job,
    Priority,
    RefgeniedError,
    Requester,
)
from refgenied.policy import ArchiveState, Standing
from refgenied.store.jobs import Need

JOBS_AT_ONCE = 64
"""So many jobs are queued in one transaction, and others have the database between two."""


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
    assets = {path: _asset(context, path) for path in paths}
    there = {asset.key: asset for asset in assets.values() if isinstance(asset, Asset)}
    jobs = await _jobs(context, there, call.peer.requester, force=params.force)
    if params.path:
        return _wish(params.path, await _found(context, params.path, assets[params.path]), jobs)
    results: list[Wish] = []
    for path in paths:
        try:
            results.append(_wish(path, await _found(context, path, assets[path]), jobs))
        except RefgeniedError as error:
            results.append(Wish(path, None, None, "refused", created=False, error=error_body(error)))
    return Wishes(results)


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


async def _jobs(
    context: Context, assets: Mapping[AssetKey, Asset], requester: Requester, *, force: bool
) -> dict[AssetKey, tuple[Job, bool]]:
    """The job of each asset, and whether it is new; none for an asset that is archived as it is."""
    stands = await context.reconciler.standings.some(assets.keys())
    needs = {
        key: Need(asset.stamp, Priority.ASKED, force=force)
        for key, asset in assets.items()
        if force or key not in stands or not _is_archived(stands[key][1])
    }
    jobs: dict[AssetKey, tuple[Job, bool]] = {}
    left = iter(needs.items())
    while step := dict(islice(left, JOBS_AT_ONCE)):
        jobs |= await context.jobs.enqueue_all(step, requester)
    return jobs


def _is_archived(stands: Standing) -> bool:
    return stands.archive is ArchiveState.ARCHIVED and stands.job is None


def _wish(path: str, asset: Asset, jobs: dict[AssetKey, tuple[Job, bool]]) -> Wish:
    name = asset.key.registry_path
    if asset.key not in jobs:
        return Wish(path, name, None, ArchiveState.ARCHIVED, created=False)
    job, created = jobs[asset.key]
    jobs[asset.key] = (job, False)  # another path of this request may mean the same asset
    return Wish(path, name, job.id, job.state, created=created)


async def _found(context: Context, path: str, asset: Asset | RefgeniedError) -> Asset:
    """The asset, or its error. If the asset's archive was removed but its file still exists, the error says so."""
    if isinstance(asset, Asset):
        return asset
    if isinstance(asset, AssetNotFoundError | AssetIncompleteError):
        removal = await lookup.removed(context, path)
        if removal is not None:
            told = await lookup.how_back(context, path, removal)
            raise type(asset)(f"{asset.message}; its archive was removed by {removal.removed_by}", hint=told.hint)
    raise asset
