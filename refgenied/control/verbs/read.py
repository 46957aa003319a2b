"""`archive.read`: ranges of one file inside an archive."""

from __future__ import annotations

import base64
from typing import Annotated

import anyio.to_thread
import msgspec
from msgspec import Meta

from refgenied.control import lookup, privacy
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Registry
from refgenied.control.verbs.assets import RegistryPathText
from refgenied.model import (
    ArchiveNotFoundError,
    BadRegistryPathError,
    DamagedArchiveError,
    MemberNotFoundError,
    PermissionDeniedError,
    UnreadableError,
)

registry: Registry[Context] = Registry()

MOST = 720 * 1024
"""Bytes of one range: in base64 they fit into one reply."""


class ArchiveReadParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: RegistryPathText
    file: Annotated[str, Meta(min_length=1, max_length=8192, description="path in the asset, as archive.files has it")]
    start: Annotated[int, Meta(ge=0, le=1 << 62)] = 0
    length: Annotated[int, Meta(ge=1, le=MOST)] = MOST


class Range(msgspec.Struct, frozen=True):
    data: str
    """base64; empty at the file's end and behind it."""
    start: int
    length: int
    """Bytes in `data`."""
    size: int
    """Bytes of the whole file."""
    md5: str
    """Of the whole file."""
    file: str
    """The file that was read: where a link leads."""


@registry.verb(
    "archive.read",
    f"Bytes of one file in an archive, at most {MOST} at once; only the blocks that hold them are read.",
    params=ArchiveReadParams,
    errors=(
        ArchiveNotFoundError,
        MemberNotFoundError,
        PermissionDeniedError,
        BadRegistryPathError,
        DamagedArchiveError,
        UnreadableError,
    ),
)
async def archive_read(context: Context, call: Call, params: ArchiveReadParams) -> Range:
    record, _ = await lookup.find(context, params.path)
    await privacy.require_readable(context, call.peer, record)
    place = lookup.place(context, record.key)

    def read() -> Range:
        reader, data = context.readers.read(place, params.file, params.start, params.length)
        return Range(
            data=base64.b64encode(data).decode("ascii"),
            start=params.start,
            length=len(data),
            size=reader.size,
            md5=reader.md5,
            file=reader.entry.path,
        )

    return await anyio.to_thread.run_sync(read)
