"""Verbs about existing archives: `archive.list`, `archive.get`, `archive.files`, `archive.seek_keys`."""

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
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import READING_ERRORS, PathPageParams, PathParams, PatternPageParams
from refgenied.control.protocol import encode
from refgenied.control.selection import Selection
from refgenied.control.verbs.assets import SeekKeys, origin, seek_keys_page
from refgenied.control.views import STEP, ArchiveView, OriginView, Page, View, archive_view, key_after, shaped
from refgenied.model import (
    ArchiveNotFoundError,
    BadRegistryPathError,
    BuildRecord,
    PermissionDeniedError,
    RefgeniedError,
)
from refgenied.reconciler.key_order import Span
from refgenied.store import archives

BUILD_BYTES = 200_000
"""The most bytes of commands and recipe together in one reply."""
FILES_BYTES = 400_000
"""The most bytes of the first files in `archive.get`."""


class ArchiveList(View, frozen=True):
    archives: list[ArchiveView]
    next: str | None


@Verb("archive.list", errors=(BadRegistryPathError,))
async def archive_list(context: Context, call: Call, params: PatternPageParams) -> ArchiveList:
    """Every recorded archive; a page of them."""
    selects, after = Selection(params.pattern), key_after(params.after)
    page = Page[ArchiveView](limit=params.limit)
    for span in await selects.spans(context):
        left = span.rest(after)
        while left is not None and not page.more:
            left = await _fill(page, context, left, selects)
    return ArchiveList(archives=page.packed, next=page.rows[-1].registry_path if page.more else None)


async def _fill(page: Page[ArchiveView], context: Context, span: Span, selects: Selection) -> Span | None:
    """Take the first archives of the span. Returns the part of it that was not read."""
    step = STEP if selects.pattern else page.step
    records = await context.store.ask(archives.within, *span, step)
    chosen = {record.key: record for record in records if selects(lookup.named(context, record))}
    lost = await context.reconciler.standings.lost(chosen)
    for record in chosen.values():
        if not page.take(lookup.view_with(context, record, lost)):
            break
    return span.rest(records[-1].key) if len(records) == step else None


class ArchiveGetParams(PathParams, frozen=True):
    removed: Annotated[bool, Meta(description="also one that was removed, while its file is there")] = False


class Contents(OriginView, frozen=True):
    """The facts in the manifest beside the archive."""

    seek_keys: dict[str, str]
    """The first seek keys; `archive.seek_keys` has all."""
    recorded_asset_digest: str | None
    build: BuildRecord
    build_cut: bool
    """Whether commands or recipe are too long for a reply; the manifest has them."""
    codec: dict[str, str | int]
    versions: dict[str, str]
    totals: dict[str, int]
    files: list[Entry]
    """The first members: files, folders and links."""
    files_total: int
    manifest: str
    """Path of the manifest."""


class ArchiveDetails(View, frozen=True):
    archive: ArchiveView
    contents: Contents | None
    problem: str
    """Why there are no contents; empty when there are."""


@Verb("archive.get", errors=READING_ERRORS)
async def archive_get(context: Context, call: Call, params: ArchiveGetParams) -> ArchiveDetails:
    """One archive: its record, its seek keys, parents, build commands, recipe and codec, and its first members."""
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
        contents, problem = await anyio.to_thread.run_sync(_contents, context.archive_folder.place(record.key))
    return ArchiveDetails(archive=view, contents=contents, problem=problem)


def _contents(place: Place) -> tuple[Contents | None, str]:
    try:
        manifest = read_manifest(place.manifest)
        first = Page(entries_of(manifest, place.folder), room=FILES_BYTES)
    except RefgeniedError as error:
        return None, error.message
    build, cut = _build(msgspec.structs.replace(manifest.build, log=""))
    contents = shaped(
        Contents,
        manifest,
        build=build,
        build_cut=cut,
        codec=msgspec.structs.asdict(manifest.codec),
        versions=msgspec.structs.asdict(manifest.versions),
        totals=msgspec.structs.asdict(manifest.totals),
        files=first.rows,
        files_total=_members(manifest),
        manifest=str(place.manifest),
        **origin(manifest),
    )
    return contents, ""


def _build(build: BuildRecord) -> tuple[BuildRecord, bool]:
    """Commands and recipe, if they fit into a reply, and whether a part was left out."""
    if len(encode(build)) <= BUILD_BYTES:
        return build, False
    commands = Page(build.commands, limit=len(build.commands) + 1, room=BUILD_BYTES)
    fitting = tuple(command[: BUILD_BYTES // 4] for command in commands.rows)
    return BuildRecord(commands=fitting, recipe=None, log_name=build.log_name), True


def _members(manifest: Manifest) -> int:
    return manifest.totals.files + manifest.totals.folders + manifest.totals.links


class ArchiveFiles(View, frozen=True):
    files: list[Entry]
    next: int | None
    total: int


@Verb("archive.files", errors=(*READING_ERRORS, PermissionDeniedError))
async def archive_files(context: Context, call: Call, params: PathPageParams) -> ArchiveFiles:
    """The members of an archive, in its order: path, type, size, mode, mtime, md5, link target; a page of them."""
    place = await privacy.readable_place(context, call.peer, params.path)

    def read() -> ArchiveFiles:
        manifest = read_manifest(place.manifest)
        rest = itertools.islice(entries_of(manifest, place.folder), params.skip, None)
        page = Page(rest, limit=params.limit)
        return ArchiveFiles(files=page.rows, next=page.next_after(params.skip), total=_members(manifest))

    return await anyio.to_thread.run_sync(read)


@Verb("archive.seek_keys", errors=READING_ERRORS)
async def archive_seek_keys(context: Context, call: Call, params: PathPageParams) -> SeekKeys:
    """The seek keys of one archive and their targets, from its manifest; a page of them."""
    place = await privacy.readable_place(context, call.peer, params.path)
    return await anyio.to_thread.run_sync(lambda: seek_keys_page(read_manifest(place.manifest).seek_keys, params))
