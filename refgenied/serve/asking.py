"""What refgenieserver is asked, made such that it can answer.

HEAD is a GET without the body. A name that is not there is 404 on pages, too, which would fail (500) while they are
drawn. What no name can have (a NUL, a line's end) is not there either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from refgenied.serve.delivery import HEAD
from refgenied.serve.editions import Edition
from refgenied.serve.shelf import Shelf, in_view

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_PAGE = re.compile(
    r"(?:/v3)?/(?:genomes|assets)/splash/(?P<genome>[^/]+)(?:/(?P<group>[^/]+))?"
    r"|/v2/asset/(?P<genome2>[^/]+)/(?P<group2>[^/]+)/splash"
)


_OF_RANGES = (b"range", b"if-range")
"""Of other files than archives all is sent: Starlette refuses (400) ranges that are to be passed over."""


def in_origin_form(scope: Scope) -> Scope:
    """A client that takes us for a proxy asks for a whole address, which every server must accept (RFC 9112, 3.2.2)."""
    found = re.match(r"https?://[^/?#]*(?=/)", scope["path"], re.IGNORECASE)
    if found is None:
        return scope
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return {**scope, "path": scope["path"][found.end() :], "raw_path": raw[len(found[0].encode()) :]}


class Asking:
    """An ASGI app around refgenieserver's."""

    def __init__(self, app: Any, shelf: Shelf) -> None:
        self._app = app
        self._shelf = shelf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET", HEAD: True}
        if "/archive" not in scope["path"]:
            scope = {**scope, "headers": [field for field in scope["headers"] if field[0] not in _OF_RANGES]}
        answer = _without_body(send) if head else send
        missing = self._missing(scope)
        if missing is None:
            await self._app(scope, receive, _allowing_head(answer))
        else:
            await _not_there(answer, missing)

    def _missing(self, scope: Scope) -> str | None:
        """The name in a request that leads nowhere; None when it is for refgenieserver to say."""
        path: str = scope["path"]
        if not path.isprintable():
            return path
        page = _PAGE.fullmatch(path)
        if page is None:
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        edition = in_view.get(self._shelf.current)
        genome, group = page["genome"] or page["genome2"], page["group"] or page["group2"]
        return _not_in(edition, genome, group, query.get("tag", [None])[-1])


def _not_in(edition: Edition, genome: str, group: str | None, tag: str | None) -> str | None:
    genomes = edition.genomes
    body = genomes.get(edition.digest_of(genome))
    if body is None:
        return genome
    if group is None:
        return None
    if group not in body["assets"]:
        return group
    return tag if tag and tag not in body["assets"][group]["tags"] else None


async def _not_there(send: Send, name: str) -> None:
    text = json.dumps({"detail": f"there is nothing here by the name {name[:200]}"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _without_body(send: Send) -> Send:
    async def take(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return take


def _allowing_head(send: Send) -> Send:
    """Where it says that only GET is allowed, HEAD is."""

    async def take(message: Message) -> None:
        if message.get("status") == 405:
            headers = [
                (name, b"GET, HEAD" if name.lower() == b"allow" else value) for name, value in message["headers"]
            ]
            message = {**message, "headers": headers}
        await send(message)

    return take
