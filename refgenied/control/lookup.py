"""Finds recorded archives for the verbs, even if the asset is gone from the genome folder."""

import shlex
import time
from collections.abc import Callable, Mapping
from functools import partial

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
from refgenied.policy import Facts, archive_state
from refgenied.store import archives


async def find(context: Context, path: str) -> tuple[ArchiveRecord, Facts]:
    """The record of the archive with this registry path. ArchiveNotFoundError, BadRegistryPathError.

    If the archive was removed, the error says so, and says how to get it back. The facts are about this asset alone.
    """
    none = ArchiveNotFoundError(f"there is no archive of {path}", hint="`refgeniectl archive list` shows them")
    try:
        key = await _key(context, path)
        facts = await context.reconciler.standings.facts(key)
        if key in facts.archives:
            return facts.archives[key], facts
    except ArchiveNotFoundError as error:
        none = error
    removal = await _removal(context, path)
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


async def removed(context: Context, path: str) -> Removal | None:
    """The removal of the archive that a registry path means, when its file is still there."""
    removal = await _removal(context, path)
    return removal if removal is not None and await _is_there(context, removal) else None


async def key_of(context: Context, path: str) -> AssetKey:
    """The asset with this registry path: it exists, or its archive is recorded or was removed.

    AssetNotFoundError, ArchiveNotFoundError, BadRegistryPathError.
    """
    removal = await _removal(context, path)
    return removal.key if removal is not None else await _key(context, path)


async def _removal(context: Context, path: str) -> Removal | None:
    """The removal of the asset with this registry path; None when there is none, or several fit."""
    try:
        return await context.store.ask(archives.removal, resolve(context.reconciler.look, path))
    except AssetNotFoundError:
        pass

    def fitting() -> list[Removal]:
        return [one for one in known if _is_called(context, wanted.genome, one.key, partial(_aliases, context, one))]

    wanted = parse(path)
    known = await context.store.ask(archives.removals_of, wanted.asset_group, wanted.asset)
    found = await anyio.to_thread.run_sync(fitting) if known else []
    return found[0] if len(found) == 1 else None


def _aliases(context: Context, removal: Removal) -> tuple[str, ...]:
    try:
        return read_manifest(context.archive_folder.place(removal.key).manifest).aliases
    except RefgeniedError:
        return ()


async def _is_there(context: Context, removal: Removal) -> bool:
    return await anyio.to_thread.run_sync(context.archive_folder.place(removal.key).archive.exists)


async def _key(context: Context, path: str) -> AssetKey:
    try:
        return resolve(context.reconciler.look, path)
    except AssetNotFoundError as error:
        found = await _recorded(context, path)
        if len(found) == 1:
            return found[0]
        if not found:
            raise ArchiveNotFoundError(f"there is no archive of {path}: {error.message}", hint=error.hint) from None
        names = ", ".join(key.registry_path for key in found[:8])
        raise ArchiveNotFoundError(f"{path} may mean {len(found)} archives", hint=f"write one of {names}") from None


async def _recorded(context: Context, path: str) -> list[AssetKey]:
    """The recorded archives that fit the path, of assets that are gone from the last look."""
    wanted, look = parse(path), context.reconciler.look
    digests = [one.digest for one in look.genomes.values() if wanted.genome in (one.digest, *one.aliases)]
    found = await context.store.ask(
        archives.named, {wanted.genome, *digests}, wanted.genome, wanted.asset_group, wanted.asset
    )
    return [key for key, aliases in found if _is_called(context, wanted.genome, key, lambda known=aliases: known)]


def _is_called(context: Context, genome: str, key: AssetKey, aliases: Callable[[], tuple[str, ...]]) -> bool:
    """Whether the asset's genome has this name. `aliases`: its aliases if the last look has no such genome any more."""
    return genome == key.genome_digest or genome in (context.aliases(key.genome_digest) or aliases())


def view(context: Context, record: ArchiveRecord, facts: Facts) -> ArchiveView:
    """The record, with the state of the archive: whether it is up to date, and whether its file exists."""
    return view_with(context, record, facts.lost)


def view_with(context: Context, record: ArchiveRecord, lost: Mapping[AssetKey, str]) -> ArchiveView:
    """The same, from the part of the facts that it needs."""
    asset = context.reconciler.look.assets.get(record.key)
    problem = lost.get(record.key, "")
    return archive_view(context, record, archive_state(asset, record, problem), problem)


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
