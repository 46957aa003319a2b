"""`archive.verify`: reads archives back. It may take long."""

import time
from collections.abc import AsyncGenerator
from typing import Annotated

from msgspec import Meta

from refgenied.control import lookup, progress
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import KEEPING_ERRORS, Params, SeveralPaths, require_folder, require_one
from refgenied.control.views import PAGE_ROWS, NamedView, Page, View, row
from refgenied.maintenance.verifier import Verdict
from refgenied.model import ArchiveNotFoundError, ArchiveRecord, BadRegistryPathError, UnreadableError
from refgenied.store import proofs

MOST_RECORDS = 100
"""So many records are in memory at one time, when all are verified."""


class ArchiveVerifyParams(Params, frozen=True):
    paths: SeveralPaths = ()
    all: Annotated[bool, Meta(description="every recorded archive, the one proved longest ago first")] = False
    quick: Annotated[bool, Meta(description="sizes, manifest and record only; no archive is read")] = False
    progress: Annotated[bool, Meta(description="send `progress` and `verified` notifications meanwhile")] = False


class VerdictView(NamedView, frozen=True):
    size: int
    seconds: float
    quick: bool
    damage: str
    """What is wrong, with the first bad member; empty when nothing is wrong."""
    hint: str
    job: int | None
    """The job that makes it again."""
    mended: str
    """What was repaired in its manifest or in the database, in one line; empty when nothing was wrong there."""


class VerifyResult(View, frozen=True):
    verified: int
    """How many archives were read or checked."""
    bytes: int
    seconds: float
    damaged: list[VerdictView]
    """The first damaged archives; a `verified` notification was sent for each too."""
    damaged_total: int


@Verb("archive.verify", writes=True, lasts=True, notifies=("progress", "verified"), errors=KEEPING_ERRORS)
async def archive_verify(context: Context, call: Call, params: ArchiveVerifyParams) -> VerifyResult:
    """Read archives back and compare every byte with their manifests; a damaged archive is marked and made again."""
    require_one("archive.verify", paths=params.paths, all=params.all)
    await require_folder(context, "verified")
    began = time.monotonic()
    verified = size = damaged_total = 0
    damaged: list[VerdictView] = []
    async for record in _records(context, params):
        verified, size = verified + 1, size + record.size
        try:
            async with progress.told(call, record.key, wanted=params.progress) as on_progress:
                verdict = await context.verifier.verify(
                    record.key, call.peer.requester, quick=params.quick, on_progress=on_progress
                )
        except (UnreadableError, BadRegistryPathError) as error:  # this archive only; a shortage ends the verb
            verdict = Verdict(record.key, record.size, 0.0, params.quick, error.message, "it is not marked as damaged")
        except ArchiveNotFoundError:  # it was removed meanwhile
            continue
        view = row(VerdictView, verdict, record.key, context.aliases(record.key.genome_digest) or record.aliases)
        if verdict.damage:
            damaged_total += 1
            damaged.append(view)
            del damaged[PAGE_ROWS:]
        if params.progress:
            await call.notify("verified", view)
    return VerifyResult(
        verified=verified,
        bytes=size,
        seconds=time.monotonic() - began,
        damaged=Page(damaged).rows,
        damaged_total=damaged_total,
    )


async def _records(context: Context, params: ArchiveVerifyParams) -> AsyncGenerator[ArchiveRecord]:
    """The archives to verify. Of all, the one proved longest ago comes first, and few are in memory at one time."""
    for record in [(await lookup.find(context, path))[0] for path in params.paths]:
        yield record
    began, turn = context.clock(), None
    while params.all:
        page, turn = await context.store.ask(proofs.page, context.clock(), MOST_RECORDS, after=turn, before=began)
        for record in page:
            yield record
        if len(page) < MOST_RECORDS:
            return
