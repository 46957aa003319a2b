"""`archive.protect`: archives that more people may read than their assets are closed to these."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from refgenied.control import lookup
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.protocol import InvalidParamsError
from refgenied.control.verbs.assets import RegistryPathText
from refgenied.control.verbs.create import MOST_PATHS, require_folder
from refgenied.control.views import Page, names_of, text
from refgenied.maintenance.rights import Given
from refgenied.model import ArchiveFolderNotSetError, ArchiveNotFoundError, BadRegistryPathError, WriteError

registry: Registry[Context] = Registry()


class ArchiveProtectParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    paths: Annotated[tuple[RegistryPathText, ...], Meta(max_length=MOST_PATHS)] = ()
    all: Annotated[bool, Meta(description="every recorded archive")] = False


class GivenView(msgspec.Struct, frozen=True):
    registry_path: str
    aliases: tuple[str, ...]
    aliases_total: int
    before: str
    """Who could read it: everyone, group or owner."""
    access: str
    """Who may read its asset, and so the archive now."""
    problem: str
    """Why it could not be changed; empty when it was."""


class ProtectResult(msgspec.Struct, frozen=True):
    changed: int
    failed: int
    archives: list[GivenView]
    """The first of them."""


@registry.verb(
    "archive.protect",
    "Let no more people read archives than may read their assets; what is as it should be stays as it is.",
    params=ArchiveProtectParams,
    writes=True,
    errors=(ArchiveNotFoundError, ArchiveFolderNotSetError, BadRegistryPathError, WriteError),
)
async def archive_protect(context: Context, call: Call, params: ArchiveProtectParams) -> ProtectResult:
    if bool(params.paths) == params.all:
        raise InvalidParamsError("archive.protect: give either `paths` or `all`")
    await require_folder(context, "protected")
    keys = None if params.all else [(await lookup.find(context, path))[0].key for path in params.paths]
    done = await context.rights.protect(keys, call.peer.requester)
    return ProtectResult(
        changed=sum(given.changed for given in done),
        failed=sum(bool(given.problem) for given in done),
        archives=Page(_view(context, given) for given in done).rows,
    )


def _view(context: Context, given: Given) -> GivenView:
    names = names_of(context.aliases(given.key.genome_digest))
    return GivenView(
        registry_path=given.key.registry_path,
        aliases=names.aliases,
        aliases_total=names.total,
        before=given.before,
        access=given.access,
        problem=text(given.problem),
    )
