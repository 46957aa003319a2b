"""`archive.read`: ranges of one file inside an archive."""

import base64
from typing import Annotated

import anyio.to_thread
from msgspec import Meta

from refgenied.control import privacy
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import READING_ERRORS, PathParams
from refgenied.control.views import View
from refgenied.model import MemberNotFoundError, PermissionDeniedError

MOST_RANGE_BYTES = 720 * 1024
"""The most bytes of one range: in base64 they fit into one reply."""


class ArchiveReadParams(PathParams, frozen=True):
    file: Annotated[str, Meta(min_length=1, max_length=8192, description="path in the asset, as archive.files has it")]
    start: Annotated[int, Meta(ge=0, le=1 << 62)] = 0
    length: Annotated[int, Meta(ge=1, le=MOST_RANGE_BYTES)] = MOST_RANGE_BYTES


class Range(View, frozen=True):
    data: str
    """The bytes in base64; empty at the file's end and after it."""
    start: int
    length: int
    """Bytes in `data`."""
    size: int
    """Bytes of the whole file."""
    md5: str
    """The md5 of the whole file."""
    file: str
    """The path of the file that was read: for a link, its target."""


@Verb("archive.read", errors=(*READING_ERRORS, MemberNotFoundError, PermissionDeniedError))
async def archive_read(context: Context, call: Call, params: ArchiveReadParams) -> Range:
    """Bytes of one file in an archive, at most 737280 at once; only the blocks with these bytes are read."""
    place = await privacy.readable_place(context, call.peer, params.path)

    def read() -> Range:
        reader, data = context.readers.read(place, params.file, params.start, params.length)
        text = base64.b64encode(data).decode("ascii")
        return Range(text, params.start, len(data), reader.size, reader.md5, reader.entry.path)

    return await anyio.to_thread.run_sync(read)
