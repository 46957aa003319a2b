"""Answers a request with an archive, as HTTP demands (RFC 9110): HEAD, conditions, ranges.

The ETag is the archive's md5. So a client that has the file already gets no second copy, and an interrupted download is
never continued with a part of another file.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from email.utils import formatdate, parsedate_to_datetime
from secrets import token_hex
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import structlog
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from refgenied.serve.served_archive import OpenedArchive

log = structlog.get_logger("serve")

KIND = "application/octet-stream"
_SEND_BYTES = 1 << 18
MOST_RANGES = 100
"""A client that asks for more ranges in one request gets the whole file."""
HEAD = "refgenied.head"
"""This key in a request's scope marks a HEAD request that is handed to the app as a GET."""

at_hand: ContextVar[OpenedArchive] = ContextVar("at_hand")
"""The archive that was opened for the current request."""
ByteRange = tuple[int, int]
"""The first byte, and the byte after the last."""
GiveOut = Callable[[OpenedArchive, list[ByteRange] | None], None]
given_out: ContextVar[GiveOut] = ContextVar("given_out", default=lambda _opened, _ranges: None)
"""A function that gets the archive that answers the current request, and the ranges (None: the whole archive)."""


def file_response(path: str, **named: Any) -> Response:
    """Replaces Starlette's FileResponse in refgenieserver."""
    opened = at_hand.get(None)
    if opened is None or opened.path != path:
        return FileResponse(path, **named)
    return ArchiveResponse(opened, named["filename"])


class ArchiveResponse(Response):
    def __init__(self, opened: OpenedArchive, filename: str) -> None:
        super().__init__(media_type=KIND)
        self._opened = opened
        self._etag = f'"{_tag(opened.archive.digest)}"'
        self._modified = formatdate(int(opened.stat.st_mtime), usegmt=True)
        quoted = quote(filename)
        name = f'filename="{filename}"' if quoted == filename else f"filename*=utf-8''{quoted}"
        self._fields = {
            "accept-ranges": "bytes",
            "content-disposition": f"attachment; {name}",
            "etag": self._etag,
            "last-modified": self._modified,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope)
        fields = {name: ", ".join(given.getlist(name)) for name in given}  # a repeated field counts as one list
        size = self._opened.stat.st_size
        head = bool(scope.get(HEAD))
        try:
            status = self._condition(fields)
            spans = None if status or head else self._spans(fields, size)
            if spans == []:
                status = 416
                self._fields["content-range"] = f"bytes */{size}"
            if not status and not head:
                given_out.get()(self._opened, spans)
                await self._send_body(receive, send, spans)
                return
            if not status:  # HEAD: the fields of the whole file
                self._fields |= {"content-type": KIND, "content-length": str(size)}
            await Response(None, status or 200, self._fields)(scope, receive, send)
        finally:
            self._opened.close()

    # ----------------------------------------------------------------- the request

    def _condition(self, fields: Mapping[str, str]) -> int:
        """The status 412 or 304 if a condition demands it, in the order of RFC 9110 (13.2.2); else 0."""
        if_match, if_none_match = fields.get("if-match"), fields.get("if-none-match")
        if if_match is not None:
            if not self._is_among(if_match, weak=False):
                return 412
        elif self._changed_since(fields.get("if-unmodified-since")) is True:
            return 412
        if if_none_match is not None:
            return 304 if self._is_among(if_none_match, weak=True) else 0
        return 304 if self._changed_since(fields.get("if-modified-since")) is False else 0

    def _is_among(self, listed: str, *, weak: bool) -> bool:
        """Whether our entity tag is in the list. A weak tag matches only in a weak comparison."""
        if listed.strip() == "*":
            return True
        tags = re.findall(r'(W/)?("[^"]*")', listed)
        return any(tag == self._etag and (weak or not mark) for mark, tag in tags)

    def _changed_since(self, date: str | None) -> bool | None:
        """Whether the file has changed since a date. None: there is no date, or the text must be ignored."""
        try:
            moment = parsedate_to_datetime(date).timestamp() if date else None
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
        return None if moment is None else int(self._opened.stat.st_mtime) > moment

    def _spans(self, fields: Mapping[str, str], size: int) -> list[ByteRange] | None:
        """The ranges to send. None: the whole file. Empty: no range can be satisfied."""
        asked = fields.get("range")
        if_range = fields.get("if-range")
        if asked is None or (if_range is not None and if_range.strip() not in (self._etag, self._modified)):
            return None
        return spans_of(asked, size)

    # ----------------------------------------------------------------- the answer

    async def _send_body(self, receive: Receive, send: Send, spans: list[ByteRange] | None) -> None:
        size = self._opened.stat.st_size
        if spans is None:
            parts, fields, status = [(b"", (0, size))], {"content-type": KIND}, 200
        elif len(spans) == 1:
            (first, end) = spans[0]
            parts, status = [(b"", spans[0])], 206
            fields = {"content-type": KIND, "content-range": f"bytes {first}-{end - 1}/{size}"}
        else:
            boundary = token_hex(13)
            parts, status = list(_multipart(spans, size, boundary)), 206
            fields = {"content-type": f"multipart/byteranges; boundary={boundary}"}
        length = sum(len(before) + end - first for before, (first, end) in parts)
        headers = Headers(self._fields | fields | {"content-length": str(length)}).raw
        await send({"type": "http.response.start", "status": status, "headers": headers})
        async with anyio.create_task_group() as group:

            async def until_gone() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(until_gone)
            whole = True
            for before, span in parts:
                whole = whole and await self._copy(send, before, span)
            if whole:
                await send({"type": "http.response.body", "body": b""})
            group.cancel_scope.cancel()

    async def _copy(self, send: Send, before: bytes, span: ByteRange) -> bool:
        """Send a range. Returns whether the file stayed the same. If not, the connection is cut as a sign."""
        first, end = span
        await send({"type": "http.response.body", "body": before, "more_body": True})
        while first < end:
            problem = "somebody has written to it"
            try:
                data = await anyio.to_thread.run_sync(self._opened.read, min(_SEND_BYTES, end - first), first)
            except OSError as error:
                data, problem = b"", error.strerror or str(error)
            first += len(data)
            if not data or (first == end and not self._opened.untouched):
                log.warning("serve.archive_cut", asset=self._opened.archive.key.registry_path, reason=problem)
                return False
            await send({"type": "http.response.body", "body": data, "more_body": True})
        return True


def _tag(digest: str) -> str:
    """The digest, or a hash of it if it cannot be an entity tag (another program's config may have any text there)."""
    return digest if re.fullmatch(r"[!#-~]+", digest) else hashlib.sha256(digest.encode()).hexdigest()


def _multipart(spans: list[ByteRange], size: int, boundary: str) -> Iterator[tuple[bytes, ByteRange]]:
    """Each range with the text before it; at the end the closing text with an empty range."""
    newline = ""
    for first, end in spans:
        head = f"{newline}--{boundary}\r\nContent-Type: {KIND}\r\nContent-Range: bytes {first}-{end - 1}/{size}\r\n\r\n"
        yield head.encode("latin-1"), (first, end)
        newline = "\r\n"
    yield f"\r\n--{boundary}--\r\n".encode("latin-1"), (0, 0)


_RANGE = re.compile(r"(?P<first>\d+)-(?P<last>\d*)|-(?P<suffix>\d+)", re.ASCII)


def spans_of(asked: str, size: int) -> list[ByteRange] | None:
    """The ranges in a Range field for a file of this size, in the same order; ranges that overlap are merged.

    None: the field must be ignored (another unit, a text that the grammar does not allow, too many ranges). Empty: no
    range is inside the file.
    """
    unit, equals, listed = asked.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    texts = [text.strip(" \t") for text in listed.split(",")]
    texts = [text for text in texts if text]  # empty elements of a list are allowed
    if not texts or len(texts) > MOST_RANGES:
        return None
    spans: list[ByteRange] = []
    for text in texts:
        found = _RANGE.fullmatch(text)
        if found is None or len(text) > 40:
            return None
        if found["suffix"] is not None:
            first, end = max(0, size - int(found["suffix"])), size
        else:
            first, end = int(found["first"]), min(int(found["last"]) + 1, size) if found["last"] else size
            if found["last"] and int(found["last"]) < first:
                return None
        if first < end:
            spans.append((first, end))
    return _merged(spans)


def _merged(spans: list[ByteRange]) -> list[ByteRange]:
    """Ranges that touch or overlap become one. If none touch, all stay in the order of the request."""
    merged: list[ByteRange] = []
    for first, end in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((first, end))
    return spans if len(merged) == len(spans) else merged
