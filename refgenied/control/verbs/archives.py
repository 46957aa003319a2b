"""Verbs about archives that are there."""

from __future__ import annotations

import itertools
from typing import Annotated

import anyio.to_thread
import msgspec
from msgspec import Meta

from refgenied.archive.format.entries import Entry
from refgenied.archive.format.manifest import Manifest, entries_of, read_manifest
from refgenied.archive.place import Place
from refgenied.control import lookup, privacy
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.protocol import encode
from refgenied.control.verbs.assets import (
    RELATIVES_BYTES,
    After,
    Limit,
    Pattern,
    RegistryPathText,
    SeekKeys,
    SeekKeysParams,
    checked,
    first_seek_keys,
    seek_keys_page,
    selects,
)
from refgenied.control.views import PAGE_ROWS, ArchiveView, Page, archive_view, key_after, text
from refgenied.model import (
    ArchiveNotFoundError,
    BadRegistryPathError,
    BuildRecord,
    DamagedArchiveError,
    PermissionDeniedError,
    RefgeniedError,
    UnreadableError,
)

registry: Registry[Context] = Registry()

BUILD_BYTES = 200_000
"""Of commands and recipe together in one reply."""
FILES_BYTES = 400_000
"""Of the first files in `archive.get`."""


class ArchiveListParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pattern: Pattern = ""
    after: After = ""
    limit: Limit = PAGE_ROWS


class ArchiveList(msgspec.Struct, frozen=True):
    archives: list[ArchiveView]
    next: str | None


@registry.verb(
    "archive.list", "Every recorded archive; a page of them.", params=ArchiveListParams, errors=(BadRegistryPathError,)
)
async def archive_list(context: Context, call: Call, params: ArchiveListParams) -> ArchiveList:  # noqa: ARG001
    pattern, after = checked(params.pattern), key_after(params.after)
    facts = await context.reconciler.standings.facts()
    page = Page(
        (
            lookup.view(context, record, facts)
            for key, record in facts.archives.items()
            if (after is None or key > after) and selects(pattern, lookup.named(context, record))
        ),
        limit=params.limit,
    )
    return ArchiveList(archives=page.rows, next=page.rows[-1].registry_path if page.more else None)


class ArchiveGetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: RegistryPathText
    removed: Annotated[bool, Meta(description="also one that was removed, while its file is there")] = False


class Contents(msgspec.Struct, frozen=True):
    """What the manifest beside the archive says."""

    description: str
    seek_keys: dict[str, str]
    """The first of them; `archive.seek_keys` has all."""
    seek_keys_total: int
    parents: tuple[str, ...]
    """The first of them, as of the children."""
    children: tuple[str, ...]
    recorded_asset_digest: str | None
    build: BuildRecord
    build_cut: bool
    """Commands or recipe are too long for a reply; the manifest has them."""
    codec: dict[str, str | int]
    versions: dict[str, str]
    totals: dict[str, int]
    files: list[Entry]
    """The first members, folders and links too."""
    files_total: int
    manifest: str
    """Path of the manifest."""


class ArchiveDetails(msgspec.Struct, frozen=True):
    archive: ArchiveView
    contents: Contents | None
    problem: str
    """Why there are no contents; empty when there are."""


@registry.verb(
    "archive.get",
    "One archive: its record, its seek keys, parents, build commands, recipe and codec, and its first members.",
    params=ArchiveGetParams,
    errors=(ArchiveNotFoundError, BadRegistryPathError, DamagedArchiveError, UnreadableError),
)
async def archive_get(context: Context, call: Call, params: ArchiveGetParams) -> ArchiveDetails:
    try:
        record, facts = await lookup.find(context, params.path)
        view = lookup.view(context, record, facts)
    except ArchiveNotFoundError:
        removal = await lookup.removed(context, params.path) if params.removed else None
        if removal is None:
            raise
        record = await lookup.removed_record(context, removal)
        view = archive_view(context, record, "removed", f"removed by {removal.removed_by}")
    contents, problem = None, await privacy.why_hidden(context, call.peer, record)
    if not problem:
        contents, problem = await anyio.to_thread.run_sync(_contents, lookup.place(context, record.key))
    return ArchiveDetails(archive=view, contents=contents, problem=problem)


def _contents(place: Place) -> tuple[Contents | None, str]:
    try:
        manifest = read_manifest(place.manifest)
        page = Page(entries_of(manifest, place.folder), room=FILES_BYTES)
    except RefgeniedError as error:
        return None, error.message
    build, cut = _build(msgspec.structs.replace(manifest.build, log=""))
    contents = Contents(
        description=text(manifest.description),
        seek_keys=first_seek_keys(manifest.seek_keys),
        seek_keys_total=len(manifest.seek_keys),
        parents=tuple(Page(manifest.parents, room=RELATIVES_BYTES).rows),
        children=tuple(Page(manifest.children, room=RELATIVES_BYTES).rows),
        recorded_asset_digest=manifest.recorded_asset_digest,
        build=build,
        build_cut=cut,
        codec=msgspec.structs.asdict(manifest.codec),
        versions=msgspec.structs.asdict(manifest.versions),
        totals=msgspec.structs.asdict(manifest.totals),
        files=page.rows,
        files_total=_members(manifest),
        manifest=str(place.manifest),
    )
    return contents, ""


def _build(build: BuildRecord) -> tuple[BuildRecord, bool]:
    """Commands and recipe, as far as they fit into a reply, and whether something was left out."""
    if len(encode(build)) <= BUILD_BYTES:
        return build, False
    commands = Page(build.commands, limit=len(build.commands) + 1, room=BUILD_BYTES)
    fitting = tuple(command[: BUILD_BYTES // 4] for command in commands.rows)
    return BuildRecord(commands=fitting, recipe=None, log_name=build.log_name), True


def _members(manifest: Manifest) -> int:
    return manifest.totals.files + manifest.totals.folders + manifest.totals.links


class ArchiveFilesParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: RegistryPathText
    skip: Annotated[int, Meta(ge=0, description="the `next` of the page before")] = 0
    limit: Limit = PAGE_ROWS


class ArchiveFiles(msgspec.Struct, frozen=True):
    files: list[Entry]
    next: int | None
    total: int


@registry.verb(
    "archive.files",
    "What is inside an archive, in its order: path, type, size, mode, mtime, md5, link target; a page of it.",
    params=ArchiveFilesParams,
    errors=(ArchiveNotFoundError, BadRegistryPathError, DamagedArchiveError, PermissionDeniedError, UnreadableError),
)
async def archive_files(context: Context, call: Call, params: ArchiveFilesParams) -> ArchiveFiles:
    record, _ = await lookup.find(context, params.path)
    await privacy.require_readable(context, call.peer, record)
    place = lookup.place(context, record.key)

    def read() -> ArchiveFiles:
        manifest = read_manifest(place.manifest)
        rest = itertools.islice(entries_of(manifest, place.folder), params.skip, None)
        page = Page(rest, limit=params.limit)
        following = params.skip + len(page.rows) if page.more else None
        return ArchiveFiles(files=page.rows, next=following, total=_members(manifest))

    return await anyio.to_thread.run_sync(read)


@registry.verb(
    "archive.seek_keys",
    "The seek keys of one archive and where they lead, as its manifest has them; a page of them.",
    params=SeekKeysParams,
    errors=(ArchiveNotFoundError, BadRegistryPathError, DamagedArchiveError, UnreadableError),
)
async def archive_seek_keys(context: Context, call: Call, params: SeekKeysParams) -> SeekKeys:
    record, _ = await lookup.find(context, params.path)
    await privacy.require_readable(context, call.peer, record)
    place = lookup.place(context, record.key)
    return await anyio.to_thread.run_sync(lambda: seek_keys_page(read_manifest(place.manifest).seek_keys, params))
