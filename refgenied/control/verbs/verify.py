"""Verbs that keep archives sound and known: `archive.verify` and `archive.import`. Both may take long."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import msgspec
from msgspec import Meta

from refgenied.archive import Found, OnProgress, Phase
from refgenied.control import lookup
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.protocol import InvalidParamsError
from refgenied.control.verbs.assets import RegistryPathText
from refgenied.control.verbs.create import MOST_PATHS, require_folder
from refgenied.control.views import Page, names_of, text
from refgenied.maintenance.importer import Import, Taken
from refgenied.maintenance.verifier import Verdict
from refgenied.model import (
    ArchiveFolderNotSetError,
    ArchiveNotFoundError,
    ArchiveRecord,
    AssetKey,
    AssetNotFoundError,
    BadRegistryPathError,
    NoSpaceError,
    ShortageError,
    StateError,
    UnreadableError,
    WriteError,
)
from refgenied.shared.progress import Meter, Progress

registry: Registry[Context] = Registry()

TICK = 0.1
"""Seconds between two readings of progress."""


class ArchiveVerifyParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    paths: Annotated[tuple[RegistryPathText, ...], Meta(max_length=MOST_PATHS)] = ()
    all: Annotated[bool, Meta(description="every recorded archive, the one proved longest ago first")] = False
    quick: Annotated[bool, Meta(description="sizes, manifest and record only; no archive is read")] = False
    progress: Annotated[bool, Meta(description="send `progress` and `verified` notifications meanwhile")] = False


class VerdictView(msgspec.Struct, frozen=True):
    registry_path: str
    aliases: tuple[str, ...]
    aliases_total: int
    size: int
    seconds: float
    quick: bool
    damage: str
    """What is wrong, with the first bad member; empty when all is well."""
    hint: str
    job: int | None
    """The job that makes it anew."""
    mended: str
    """What was put right in its manifest or in the database, in one line; empty when nothing was wrong there."""


class VerifyResult(msgspec.Struct, frozen=True):
    verified: int
    """How many archives were looked at."""
    bytes: int
    seconds: float
    damaged: list[VerdictView]
    """The first of them; each was also told by `verified`."""
    damaged_total: int


@registry.verb(
    "archive.verify",
    "Read archives back and compare every byte with their manifests; a damaged one is marked, and made anew.",
    params=ArchiveVerifyParams,
    writes=True,
    lasts=True,
    notifies=("progress", "verified"),
    errors=(
        ArchiveNotFoundError,
        ArchiveFolderNotSetError,
        BadRegistryPathError,
        WriteError,
    ),
)
async def archive_verify(context: Context, call: Call, params: ArchiveVerifyParams) -> VerifyResult:
    if bool(params.paths) == params.all:
        raise InvalidParamsError("archive.verify: give either `paths` or `all`")
    await require_folder(context, "verified")
    records = await _records(context, params)
    began = time.monotonic()
    damaged: list[VerdictView] = []
    for record in records:
        try:
            async with _telling(call, record.key, told=params.progress) as on_progress:
                verdict = await context.verifier.verify(
                    record.key, call.peer.requester, quick=params.quick, on_progress=on_progress
                )
        except (UnreadableError, BadRegistryPathError) as error:  # of this one; a shortage ends it all
            verdict = Verdict(record.key, record.size, 0.0, params.quick, error.message, "it is not marked as damaged")
        except ArchiveNotFoundError:  # removed meanwhile
            continue
        view = _verdict_view(context, verdict, record)
        if verdict.damage:
            damaged.append(view)
        if params.progress:
            await call.notify("verified", msgspec.to_builtins(view))
    return VerifyResult(
        verified=len(records),
        bytes=sum(record.size for record in records),
        seconds=time.monotonic() - began,
        damaged=Page(damaged).rows,
        damaged_total=len(damaged),
    )


async def _records(context: Context, params: ArchiveVerifyParams) -> list[ArchiveRecord]:
    if params.all:
        facts = await context.reconciler.standings.facts()
        return sorted(facts.archives.values(), key=lambda record: (record.proved_before(context.clock()), record.key))
    return [(await lookup.find(context, path))[0] for path in params.paths]


def _verdict_view(context: Context, verdict: Verdict, record: ArchiveRecord) -> VerdictView:
    names = names_of(context.aliases(verdict.key.genome_digest) or record.aliases)
    return VerdictView(
        registry_path=verdict.key.registry_path,
        aliases=names.aliases,
        aliases_total=names.total,
        size=verdict.size,
        seconds=verdict.seconds,
        quick=verdict.quick,
        damage=text(verdict.damage),
        hint=verdict.hint,
        job=verdict.job,
        mended=verdict.mended,
    )


class ArchiveImportParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    folder: Annotated[str, Meta(max_length=4096, description="absolute; empty: the archive folder itself")] = ""
    path: Annotated[
        str,
        Meta(
            max_length=4096,
            description="instead of a folder one archive, also one that was removed: its registry path, or the "
            "absolute path of its .tgz",
        ),
    ] = ""
    progress: Annotated[bool, Meta(description="send `progress` and `imported` notifications meanwhile")] = False


class ImportView(msgspec.Struct, frozen=True):
    registry_path: str
    maker: str
    """Who made it: refgenied, refgenieserver or refgenie 1."""
    path: str
    """Where it was found."""
    taken: str
    """imported, known (it was recorded already), removed (its manifest says so) or refused."""
    size: int
    reason: str


class ImportResult(msgspec.Struct, frozen=True):
    folder: str
    """Where was looked: a folder, or the one archive that was named."""
    counts: dict[str, int]
    seconds: float
    refused: list[ImportView]
    """The first of them; each was also told by `imported`."""


@registry.verb(
    "archive.import",
    "Take archives that lie in a folder into the database, and into the archive folder; nothing is compressed.",
    params=ArchiveImportParams,
    writes=True,
    lasts=True,
    notifies=("progress", "imported"),
    errors=(
        ArchiveFolderNotSetError,
        ArchiveNotFoundError,
        AssetNotFoundError,
        BadRegistryPathError,
        NoSpaceError,
        ShortageError,
        StateError,
        UnreadableError,
        WriteError,
    ),
)
async def archive_import(context: Context, call: Call, params: ArchiveImportParams) -> ImportResult:
    if params.folder and not params.folder.startswith("/"):
        raise InvalidParamsError("archive.import: `folder` must be an absolute path")
    if params.folder and params.path:
        raise InvalidParamsError("archive.import: give either `folder` or `path`")
    await require_folder(context, "imported")
    began = time.monotonic()
    counts = dict.fromkeys((taken.value for taken in Taken), 0)
    refused: list[ImportView] = []
    for found in await _to_import(context, params):
        async with _telling(call, found.key, told=params.progress) as on_progress:
            taken = await context.importer.take(
                found, call.peer.requester, by_name=bool(params.path), on_progress=on_progress
            )
        view = _import_view(taken)
        counts[taken.taken] += 1
        if taken.taken is Taken.REFUSED:
            refused.append(view)
        if params.progress:
            await call.notify("imported", msgspec.to_builtins(view))
    context.reconciler.hint()
    if params.path:
        await context.keeper.refresh()  # who brought it back may want to pull it next
    return ImportResult(
        folder=params.path or params.folder or context.archive_folder.path,
        counts=counts,
        seconds=time.monotonic() - began,
        refused=Page(refused).rows,
    )


async def _to_import(context: Context, params: ArchiveImportParams) -> list[Found]:
    if not params.path:
        return await context.importer.find(params.folder)
    if params.path.startswith("/"):
        return [await context.importer.find_one(params.path)]
    return [await context.importer.find_one(await lookup.key_of(context, params.path))]


def _import_view(taken: Import) -> ImportView:
    return ImportView(
        registry_path=taken.key.registry_path,
        maker=taken.maker,
        path=taken.path,
        taken=taken.taken,
        size=taken.size,
        reason=text(taken.reason),
    )


@asynccontextmanager
async def _telling(call: Call, key: AssetKey, *, told: bool) -> AsyncGenerator[OnProgress]:
    """While this is open, what the callback is given (in any thread) is sent to the peer, if it wants to know."""
    meter = Meter()
    latest: list[Progress] = []

    def on_progress(phase: Phase, done: int, total: int) -> None:
        latest[:] = [meter.reading(phase, done, total)]

    if not told:
        yield on_progress
        return
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_tell, call, key, latest)
            yield on_progress
            group.cancel_scope.cancel()
    except BaseExceptionGroup as several:  # the group wraps what goes through it; nobody above expects that
        raise several.exceptions[0] from None


async def _tell(call: Call, key: AssetKey, latest: list[Progress]) -> None:
    while True:
        await anyio.sleep(TICK)
        if latest:
            reading = latest.pop()
            await call.notify("progress", {"registry_path": key.registry_path, **reading.message()})
