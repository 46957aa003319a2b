"""Verbs about the assets in the genome folder: `asset.list`, `asset.get`, `asset.seek_keys`."""

import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing

from refgenied.archive.format.manifest import Manifest
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import ASSET_ERRORS, PathPageParams, PathParams, PatternPageParams
from refgenied.control.selection import Selection
from refgenied.control.views import (
    ArchiveView,
    AssetView,
    JobView,
    OriginView,
    Page,
    View,
    archive_view,
    asset_view,
    job_view,
    key_after,
    shaped,
)
from refgenied.genomes.registry_path import resolve
from refgenied.model import Asset, AssetState, BadRegistryPathError, BusyError
from refgenied.policy import Standing, standing

RELATIVES_BYTES = 50_000
"""The most bytes of parents, and of children, in one reply."""
SEEK_KEY_BYTES = 100_000
"""The most bytes of the first seek keys in `asset.get` and `archive.get`."""


class AssetListParams(PatternPageParams, frozen=True):
    state: AssetState | None = None


class AssetList(View, frozen=True):
    assets: list[AssetView]
    next: str | None


@Verb("asset.list", errors=(BadRegistryPathError, BusyError))
async def asset_list(context: Context, call: Call, params: AssetListParams) -> AssetList:
    """Every asset of the last look: its state, the reason, and the state of its archive; a page of them."""
    selects, after = Selection(params.pattern, params.state), key_after(params.after)
    await context.reconciler.first_looked()
    page = Page[AssetView](limit=params.limit)
    for span in await selects.spans(context):
        left = span.rest(after)
        if left is not None and not page.more:
            await _fill(page, context.reconciler.standings.within(left, selects=selects, step=page.step))
    return AssetList(assets=page.packed, next=page.rows[-1].registry_path if page.more else None)


async def _fill(page: Page[AssetView], listed: AsyncGenerator[tuple[Asset, Standing]]) -> None:
    async with aclosing(listed):
        async for asset, stands in listed:
            if not page.take(asset_view(asset, stands)):
                return


class SeekKeys(View, frozen=True):
    seek_keys: dict[str, str]
    next: int | None
    total: int


def origin(thing: Asset | Manifest) -> dict[str, object]:
    """The first seek keys and relatives, for an `OriginView`."""
    seek_keys = thing.seek_keys
    return {
        "seek_keys": dict(Page(seek_keys.items(), limit=len(seek_keys), room=SEEK_KEY_BYTES).rows),
        "seek_keys_total": len(seek_keys),
        "parents": Page(thing.parents, room=RELATIVES_BYTES).rows,
        "children": Page(thing.children, room=RELATIVES_BYTES).rows,
    }


def seek_keys_page(seek_keys: dict[str, str], params: PathPageParams) -> SeekKeys:
    page = Page(itertools.islice(seek_keys.items(), params.skip, None), limit=params.limit)
    return SeekKeys(dict(page.rows), page.next_after(params.skip), len(seek_keys))


class AssetDetails(OriginView, frozen=True):
    asset: AssetView
    asset_digest: str | None
    seek_keys: dict[str, str]
    """The first seek keys; `asset.seek_keys` has all."""
    archive: ArchiveView | None
    newest_job: JobView | None


async def _found(context: Context, path: str) -> Asset:
    await context.reconciler.first_looked()
    look = context.reconciler.look
    return look.assets[resolve(look, path)]


@Verb("asset.get", errors=(*ASSET_ERRORS, BusyError))
async def asset_get(context: Context, call: Call, params: PathParams) -> AssetDetails:
    """One asset as the last look found it, with its archive and its newest job."""
    asset = await _found(context, params.path)
    key = asset.key
    facts = await context.reconciler.standings.facts(key)
    stands = standing(asset, facts, context.current.settings.archive)
    record, job = facts.archives.get(key), facts.jobs.get(key)
    return shaped(
        AssetDetails,
        asset,
        asset=asset_view(asset, stands),
        archive=archive_view(context, record, stands.archive, facts.lost.get(key, "")) if record else None,
        newest_job=job_view(context, job) if job else None,
        **origin(asset),
    )


@Verb("asset.seek_keys", errors=ASSET_ERRORS)
async def asset_seek_keys(context: Context, call: Call, params: PathPageParams) -> SeekKeys:
    """The seek keys of one asset and their targets, in the config's order; a page of them."""
    return seek_keys_page((await _found(context, params.path)).seek_keys, params)
