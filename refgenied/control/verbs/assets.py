"""Verbs about what is in the genome folder."""

from __future__ import annotations

import itertools
from typing import Annotated

import msgspec
from msgspec import Meta

from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.views import (
    PAGE_ROWS,
    ArchiveView,
    AssetView,
    JobView,
    Page,
    archive_view,
    asset_view,
    job_view,
    key_after,
    text,
)
from refgenied.genomes.registry_path import check_pattern, matches, resolve
from refgenied.model import Asset, AssetNotFoundError, AssetState, BadRegistryPathError, BusyError

registry: Registry[Context] = Registry()

Pattern = Annotated[str, Meta(description="registry path with * and ?; alias or digest; `hg38` alone is `hg38/*`")]
RegistryPathText = Annotated[
    str, Meta(min_length=1, max_length=1024, description="registry path; alias or digest; the default asset if unnamed")
]
After = Annotated[str, Meta(description="the `next` of the page before")]
Limit = Annotated[int, Meta(ge=1, le=PAGE_ROWS)]


def selects(pattern: str, asset: Asset) -> bool:
    """Whether a filter covers the asset; an empty one covers all."""
    return not pattern or matches(_whole(pattern), asset)


def checked(pattern: str) -> str:
    """The filter, if it is one. BadRegistryPathError says how to write it."""
    if pattern:
        check_pattern(_whole(pattern))
    return pattern


def _whole(pattern: str) -> str:
    return pattern if "/" in pattern else f"{pattern}/*"


class AssetListParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pattern: Pattern = ""
    state: AssetState | None = None
    after: After = ""
    limit: Limit = PAGE_ROWS


class AssetList(msgspec.Struct, frozen=True):
    assets: list[AssetView]
    next: str | None


@registry.verb(
    "asset.list",
    "Every asset that the last look found, its state and why, and where its archive stands; a page of them.",
    params=AssetListParams,
    errors=(BadRegistryPathError, BusyError),
)
async def asset_list(context: Context, call: Call, params: AssetListParams) -> AssetList:  # noqa: ARG001
    pattern, after = checked(params.pattern), key_after(params.after)
    await context.reconciler.first_looked()
    listed = await context.reconciler.standings.after(after)
    page = Page(
        (
            asset_view(asset, stands)
            for asset, stands in listed
            if (params.state is None or asset.state is params.state) and selects(pattern, asset)
        ),
        limit=params.limit,
    )
    return AssetList(assets=page.rows, next=page.rows[-1].registry_path if page.more else None)


RELATIVES_BYTES = 50_000
"""Of parents, and of children, in one reply."""
SEEK_KEY_BYTES = 100_000
"""Of the first seek keys in `asset.get` and `archive.get`."""


class SeekKeysParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: RegistryPathText
    skip: Annotated[int, Meta(ge=0, description="the `next` of the page before")] = 0
    limit: Limit = PAGE_ROWS


class SeekKeys(msgspec.Struct, frozen=True):
    seek_keys: dict[str, str]
    next: int | None
    total: int


def first_seek_keys(seek_keys: dict[str, str]) -> dict[str, str]:
    return dict(Page(seek_keys.items(), limit=len(seek_keys), room=SEEK_KEY_BYTES).rows)


def seek_keys_page(seek_keys: dict[str, str], params: SeekKeysParams) -> SeekKeys:
    page = Page(itertools.islice(seek_keys.items(), params.skip, None), limit=params.limit)
    following = params.skip + len(page.rows) if page.more else None
    return SeekKeys(dict(page.rows), following, len(seek_keys))


class AssetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: RegistryPathText


class AssetDetails(msgspec.Struct, frozen=True):
    asset: AssetView
    asset_digest: str | None
    description: str
    seek_keys: dict[str, str]
    """The first of them; `asset.seek_keys` has all."""
    seek_keys_total: int
    parents: tuple[str, ...]
    """The first of them, as of the children."""
    children: tuple[str, ...]
    archive: ArchiveView | None
    newest_job: JobView | None


@registry.verb(
    "asset.get",
    "One asset as the last look found it, with its archive and its newest job.",
    params=AssetParams,
    errors=(AssetNotFoundError, BadRegistryPathError, BusyError),
)
async def asset_get(context: Context, call: Call, params: AssetParams) -> AssetDetails:  # noqa: ARG001
    await context.reconciler.first_looked()
    key = resolve(context.reconciler.look, params.path)
    asset = context.reconciler.look.assets[key]
    facts = await context.reconciler.standings.facts(key)
    stands = await context.reconciler.standings.of(asset)
    record, job = facts.archives.get(key), facts.jobs.get(key)
    return AssetDetails(
        asset=asset_view(asset, stands),
        asset_digest=asset.asset_digest,
        description=text(asset.description),
        seek_keys=first_seek_keys(asset.seek_keys),
        seek_keys_total=len(asset.seek_keys),
        parents=tuple(Page(asset.parents, room=RELATIVES_BYTES).rows),
        children=tuple(Page(asset.children, room=RELATIVES_BYTES).rows),
        archive=archive_view(context, record, stands.archive, facts.lost.get(key, "")) if record else None,
        newest_job=job_view(context, job) if job else None,
    )


@registry.verb(
    "asset.seek_keys",
    "The seek keys of one asset and where they lead, in the config's order; a page of them.",
    params=SeekKeysParams,
    errors=(AssetNotFoundError, BadRegistryPathError),
)
async def asset_seek_keys(context: Context, call: Call, params: SeekKeysParams) -> SeekKeys:  # noqa: ARG001
    await context.reconciler.first_looked()
    asset = context.reconciler.look.assets[resolve(context.reconciler.look, params.path)]
    return seek_keys_page(asset.seek_keys, params)
