"""Finds recorded archives for the verbs, even if the asset is gone from the genome folder."""

import shlex
import time
from collections.abc import Callable, Iterable, Mapping

import anyio.to_thread

from refgenied.archive.format.manifest import read_manifest
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
    RefgeniedError,
    Removal,
)
from refgenied.policy import ArchiveState, Facts, standing
from refgenied.store import archives


async def find(context: Context, path: str) -> tuple[ArchiveRecord, Facts]:
    """The record of the archive with this registry path. ArchiveNotFoundError, BadRegistryPathError.

    If the archive was removed, the error says so, and says how to get it back.
    """
    facts = await context.reconciler.standings.facts()
    none = ArchiveNotFoundError(f"there is no archive of {path}", hint="`refgeniectl archive list` shows them")
    try:
        key = _key(context, path, facts)
        if key in facts.archives:
            return facts.archives[key], facts
    except ArchiveNotFoundError as error:
        none = error
    removal = await _removal(context, path, facts.removals)
    raise none if removal is None else await how_back(context, path, removal)


async def how_back(context: Context, path: str, removal: Removal) -> ArchiveNotFoundError:
    """The error for a request about an archive that was removed."""
    day = time.strftime("%Y-%m-%d", time.localtime(removal.removed_at))
    said = f"there is no archive of {path}: {removal.removed_by} removed it on {day}"
    if await _is_there(context, removal):
        return ArchiveNotFoundError(said, hint=f"`refgeniectl archive import {shlex.quote(path)}` brings it back")
    return ArchiveNotFoundError(
        f"{said}, and its file is gone", hint=f"`refgeniectl archive create {shlex.quote(path)}` makes it anew"
    )


async def removed(context: Context, path: str, known: Mapping[AssetKey, Removal] | None = None) -> Removal | None:
    """The removal of the archive that a registry path means, when its file is still there.

    `known`: all removals; a caller with many paths reads them only once.
    """
    known = await context.store.ask(archives.removals) if known is None else known
    removal = await _removal(context, path, known)
    return removal if removal is not None and await _is_there(context, removal) else None


async def key_of(context: Context, path: str) -> AssetKey:
    """The asset with this registry path: it exists, or its archive is recorded or was removed.

    AssetNotFoundError, ArchiveNotFoundError, BadRegistryPathError.
    """
    facts = await context.reconciler.standings.facts()
    removal = await _removal(context, path, facts.removals)
    return removal.key if removal is not None else _key(context, path, facts)


async def _removal(context: Context, path: str, removals: Mapping[AssetKey, Removal]) -> Removal | None:
    """The removal of the asset with this registry path; None when there is none, or several fit."""
    if not removals:
        return None

    def aliases(key: AssetKey) -> tuple[str, ...]:
        try:
            return read_manifest(context.archive_folder.place(key).manifest).aliases
        except RefgeniedError:
            return ()

    try:
        return removals.get(resolve(context.reconciler.look, path))
    except AssetNotFoundError:
        found = await anyio.to_thread.run_sync(_fitting, context, path, removals, aliases)
        return removals[found[0]] if len(found) == 1 else None


async def _is_there(context: Context, removal: Removal) -> bool:
    return await anyio.to_thread.run_sync(context.archive_folder.place(removal.key).archive.exists)


def _key(context: Context, path: str, facts: Facts) -> AssetKey:
    try:
        return resolve(context.reconciler.look, path)
    except AssetNotFoundError as error:
        found = _fitting(context, path, facts.archives, lambda key: facts.archives[key].aliases)
        if len(found) == 1:
            return found[0]
        if not found:
            raise ArchiveNotFoundError(f"there is no archive of {path}: {error.message}", hint=error.hint) from None
        names = ", ".join(key.registry_path for key in found[:8])
        raise ArchiveNotFoundError(f"{path} may mean {len(found)} archives", hint=f"write one of {names}") from None


def _fitting(
    context: Context, path: str, keys: Iterable[AssetKey], aliases: Callable[[AssetKey], tuple[str, ...]]
) -> list[AssetKey]:
    """The assets that fit the path. `aliases`: of the genome, if the last look has no such genome any more."""
    wanted = parse(path)
    return [
        key
        for key in keys
        if wanted.asset_group == key.asset_group
        and wanted.asset in (None, key.asset)
        and (
            wanted.genome == key.genome_digest or wanted.genome in (context.aliases(key.genome_digest) or aliases(key))
        )
    ]


def view(context: Context, record: ArchiveRecord, facts: Facts) -> ArchiveView:
    """The record, with the state of the archive: whether it is up to date, and whether its file exists."""
    asset = context.reconciler.look.assets.get(record.key)
    problem = facts.lost.get(record.key, "")
    if asset is None:
        state = ArchiveState.STALE if problem or record.damaged is not None else ArchiveState.ARCHIVED
    else:
        state = standing(asset, facts, context.current.settings.archive).archive
    return archive_view(context, record, state, problem)


async def removed_record(context: Context, removal: Removal) -> ArchiveRecord:
    """The record of a removed archive, made from its manifest. DamagedArchiveError, UnreadableError."""
    where = context.archive_folder.place(removal.key)
    manifest = await anyio.to_thread.run_sync(read_manifest, where.manifest)
    return manifest.record(where.relative)


def named(context: Context, record: ArchiveRecord) -> Asset:
    """The archive's asset, or an `Asset` with just the fields for `params.selection`."""
    found = context.reconciler.look.assets.get(record.key)
    aliases = context.aliases(record.key.genome_digest) or record.aliases
    return found or Asset(record.key, AssetState.MISSING, "", "", aliases=aliases)
