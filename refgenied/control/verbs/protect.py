"""`archive.protect`: closes archives to people who may not read their assets."""

from typing import Annotated

from msgspec import Meta

from refgenied.control import lookup
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import KEEPING_ERRORS, Params, SeveralPaths, require_folder, require_one
from refgenied.control.views import NamedView, Page, View, row


class ArchiveProtectParams(Params, frozen=True):
    paths: SeveralPaths = ()
    all: Annotated[bool, Meta(description="every recorded archive")] = False


class GivenView(NamedView, frozen=True):
    before: str
    """Who could read it before: everyone, group or owner."""
    access: str
    """Who may read its asset, and so may read the archive now."""
    problem: str
    """Why its rights could not be changed; empty when they were."""


class ProtectResult(View, frozen=True):
    changed: int
    failed: int
    archives: list[GivenView]
    """The first archives that were changed or could not be changed."""


@Verb("archive.protect", writes=True, errors=KEEPING_ERRORS)
async def archive_protect(context: Context, call: Call, params: ArchiveProtectParams) -> ProtectResult:
    """Let no more people read archives than may read their assets; archives with the right access stay as they are."""
    require_one("archive.protect", paths=params.paths, all=params.all)
    await require_folder(context, "protected")
    keys = None if params.all else [(await lookup.find(context, path))[0].key for path in params.paths]
    done = await context.rights.protect(keys, call.peer.requester)
    rows = (row(GivenView, given, given.key, context.aliases(given.key.genome_digest)) for given in done)
    return ProtectResult(
        changed=sum(given.changed for given in done),
        failed=sum(bool(given.problem) for given in done),
        archives=Page(rows).rows,
    )
