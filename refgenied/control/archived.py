"""Recorded archives, as the verbs look for them: also those whose asset is gone from the genome folder."""

from __future__ import annotations

import anyio.to_thread

from refgenied.archive.place import Place
from refgenied.control.context import Context
from refgenied.control.views import ArchiveView, archive_view
from refgenied.genomes.registry_path import parse, resolve
from refgenied.model import (
    ArchiveNotFoundError,
    ArchiveRecord,
    Asset,
    AssetKey,
    AssetNotFoundError,
    AssetState,
    Removal,
)
from refgenied.policy import ArchiveState, Facts, standing


async def find(context: Context, path: str) -> tuple[ArchiveRecord, Facts]:
    """The record of the archive that a registry path means. ArchiveNotFoundError, BadRegistryPathError."""
    facts = await context.reconciler.facts()
    key = _key(context, path, facts)
    record = facts.archives.get(key)
    if record is None:
        raise ArchiveNotFoundError(f"there is no archive of {path}", hint="`refgeniectl archive list` shows them")
    return record, facts


async def removed(context: Context, path: str) -> Removal | None:
    """The removal of the archive that a registry path means, when its file is still there."""
    facts = await context.reconciler.facts()
    try:
        key = resolve(context.reconciler.look, path)
    except AssetNotFoundError:
        fitting = [key for key in facts.removals if _fits(context, path, key, ())]
        key = fitting[0] if len(fitting) == 1 else None
    removal = facts.removals.get(key) if key else None
    if removal is None or not await anyio.to_thread.run_sync(place(context, removal.key).archive.exists):
        return None
    return removal


def _key(context: Context, path: str, facts: Facts) -> AssetKey:
    try:
        return resolve(context.reconciler.look, path)
    except AssetNotFoundError as error:
        found = _recorded(context, path, facts)
        if len(found) == 1:
            return found[0]
        if not found:
            raise ArchiveNotFoundError(f"there is no archive of {path}: {error.message}", hint=error.hint) from None
        names = ", ".join(key.registry_path for key in found[:8])
        raise ArchiveNotFoundError(f"{path} may mean {len(found)} archives", hint=f"write one of {names}") from None


def _recorded(context: Context, path: str, facts: Facts) -> list[AssetKey]:
    """The recorded archives that the path fits."""
    return [key for key, record in facts.archives.items() if _fits(context, path, key, record.aliases)]


def _fits(context: Context, path: str, key: AssetKey, aliases: tuple[str, ...]) -> bool:
    """`aliases`: of the genome, when the last look does not know it."""
    wanted = parse(path)
    return (
        wanted.genome in (key.genome_digest, *(context.aliases(key.genome_digest) or aliases))
        and wanted.asset_group == key.asset_group
        and wanted.asset in (None, key.asset)
    )


def view(context: Context, record: ArchiveRecord, facts: Facts) -> ArchiveView:
    """The record, whether the archive is of the asset as it is now, and whether its file is there."""
    asset = context.reconciler.look.assets.get(record.key)
    problem = facts.lost.get(record.key, "")
    if asset is None:
        state = ArchiveState.STALE if problem or record.damaged is not None else ArchiveState.ARCHIVED
    else:
        state = standing(asset, facts, context.current.settings.archive).archive
    return archive_view(context, record, state, problem)


def named(context: Context, record: ArchiveRecord) -> Asset:
    """Enough of an asset to hold a pattern against."""
    found = context.reconciler.look.assets.get(record.key)
    aliases = context.aliases(record.key.genome_digest) or record.aliases
    return found or Asset(record.key, AssetState.MISSING, "", "", aliases=aliases)


def place(context: Context, key: AssetKey) -> Place:
    return Place(context.archive_folder.path, key)
