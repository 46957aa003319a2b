"""Around the refgenieserver app: what a request sees, what a download is, what is logged."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import structlog

from refgenied.model import AssetKey
from refgenied.serve.asking import in_origin_form
from refgenied.serve.delivery import given_out
from refgenied.serve.editions import Edition
from refgenied.serve.served_archive import Held
from refgenied.serve.wire import SCOPE_KEY, Wire
from refgenied.serve.shelf import Shelf, in_view
from refgenied.serve.spool import Spool
from refgenied.shared.pulls import Answer, Pulls, asks_twice

log = structlog.get_logger("access")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_NAMED = re.compile(
    r"(?:/v3)?/assets/(?P<what>attrs|archive_digest|asset_digest|archive)/(?P<genome>[^/]+)/(?P<group>[^/]+)"
    r"|/v[12]/asset/(?P<genome2>[^/]+)/(?P<group2>[^/]+)(?:/(?P<tag2>[^/]+)/archive_digest|/(?P<what2>archive))?"
)
"""Requests whose answers must agree with each other about one asset."""
_FILE_PATH = re.compile(r"(?:/v3)?/assets/file_path/.*")
_TELLS = ("attrs", "archive_digest", None)
"""Those of them that give the archive's digest."""

UNBUFFERED = (b"x-accel-buffering", b"no")
"""nginx reads no more than its client takes, so that a client that leaves is seen here."""
LONGEST_AGENT = 200
"""Characters of a client's name for itself that tell it from others."""


class Traffic:
    """An ASGI app."""

    def __init__(self, app: Any, shelf: Shelf, spool: Spool, health: Callable[[], dict[str, Any]]) -> None:
        self.app = app
        self._shelf = shelf
        self._spool = spool
        self._health = health
        self.pulls = Pulls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = in_origin_form(scope) if scope["type"] == "http" else scope
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"] == "/health":
            await self._answer_health(send)
        else:
            await _Exchange(self._shelf, self.pulls, self._spool, scope, send).run(self.app, receive)

    async def _answer_health(self, send: Send) -> None:
        health = self._health()
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        status = 200 if health["status"] == "ok" else 503
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(health).encode() + b"\n"})


class _Exchange:
    """One request and its answer."""

    def __init__(self, shelf: Shelf, pulls: Pulls, spool: Spool, scope: Scope, send: Send) -> None:
        self._shelf = shelf
        self._pulls = pulls
        self._spool = spool
        self._scope = scope
        self._send = send
        self._client = str((scope.get("client") or ("-",))[0])
        self._headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self._wire: Wire | None = scope.get(SCOPE_KEY)
        self._held: Held | None = None
        self._given_out_at = 0.0
        self._likely = ""
        """The id of the download that this seems to be."""
        self._status = 0
        self._range: tuple[int, int] | None = None
        self._sent = 0
        self._complete = False

    async def run(self, app: Any, receive: Receive) -> None:
        began = time.monotonic()
        what, key, edition = self._meant()
        if _FILE_PATH.fullmatch(self._scope["path"]):
            self._name_remote(edition)
        seen = in_view.set(edition)
        asked = given_out.set(self._give_out)
        delivered: bool | None = None
        download = ""
        try:
            await app(self._scope, receive, self._take)
            if self._status == 200 and key and what in _TELLS:
                self._shelf.told(self._client, key, edition)
            elif self._status == 503 and key:
                self._shelf.forget(self._client, key)
        finally:
            given_out.reset(asked)
            in_view.reset(seen)
            if self._held is not None:
                delivered = self._complete and await self._delivered()
                download = await self._settle(self._held, delivered=delivered)
            self._log(time.monotonic() - began, delivered, download)
        if self._held is not None and self._complete:
            await self._send({"type": "http.response.body", "body": b""})

    def _meant(self) -> tuple[str | None, AssetKey | None, Edition]:
        """What is asked of which asset, and the edition that this client is to see."""
        found = _NAMED.fullmatch(self._scope["path"])
        if found is None:
            return None, None, self._shelf.current
        query = parse_qs(self._scope["query_string"].decode("latin-1"))
        tag = found["tag2"] or query.get("tag", [None])[-1]
        genome, group = unquote(found["genome"] or found["genome2"]), unquote(found["group"] or found["group2"])
        key = self._shelf.current.key_of(genome, group, tag)
        return found["what"] or found["what2"], key, self._shelf.view(self._client, key)

    def _name_remote(self, edition: Edition) -> None:
        """refgenieserver's own default for the class of remote is one that it cannot use."""
        query: bytes = self._scope["query_string"]
        if b"remoteClass=" not in query:
            name = next(iter(edition.remotes), "http")
            self._scope["query_string"] = b"&".join(filter(None, (query, f"remoteClass={quote(name)}".encode())))

    def _give_out(self, held: Held) -> None:
        if self._held is None:
            self._held = held
            self._given_out_at = time.monotonic()

    async def _take(self, message: Message) -> None:
        """Pass on what the app sends; the end of an archive waits until the client has it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._range = _range(message["headers"])
            if self._held is not None:
                message = {**message, "headers": [*message["headers"], UNBUFFERED]}
            await self._send(message)
            return
        body, last = message.get("body", b""), not message.get("more_body", False)
        was_open = self._wire is None or self._wire.is_open
        if self._held is None or not last:
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            self._complete = was_open
        if was_open:
            self._sent += len(body)

    async def _delivered(self) -> bool:
        return await self._wire.delivered(self._seems_delivered) if self._wire else True

    def _seems_delivered(self) -> None:
        """The client has all; it may still turn out that it wanted less. A kill now must not lose the download."""
        held = self._held
        answer = self._answer(held, delivered=True) if held else None
        if held and answer and self._pulls.would_take(self._who(held), answer):
            self._likely = self._spool.likely(held.key, held.digest, time.time())

    async def _settle(self, held: Held, *, delivered: bool) -> str:
        """Count it if this completes a download; its id then. It is on the disk when this returns."""
        answer = self._answer(held, delivered=delivered)
        if answer is None or not self._pulls.take(self._who(held), answer):
            if self._likely:
                self._spool.not_so(self._likely)
            return ""
        self._shelf.kept(self._client, held.key)
        return await self._spool.count(held.key, held.digest, time.time(), self._likely)

    def _who(self, held: Held) -> tuple[str, ...]:
        agent = self._headers.get(b"user-agent", "")[:LONGEST_AGENT]  # thousands of them are remembered
        return self._client, agent, held.key.registry_path, held.digest

    def _answer(self, held: Held, *, delivered: bool) -> Answer | None:
        """None for what is no part of an archive, or several."""
        span = (0, held.size) if self._status == 200 else self._range if self._status == 206 else None
        if span is None:
            return None
        sent = self._sent if delivered else min(self._sent, span[1] - span[0] - 1)  # the last byte at least is missing
        return Answer(
            at=time.monotonic(),
            begun=self._given_out_at,
            size=held.size,
            first=span[0],
            least=sent,
            most=sent,
            ranged=self._status == 206,
            twice=asks_twice(self._headers.get(b"user-agent", "")),
        )

    def _log(self, seconds: float, delivered: bool | None, download: str) -> None:  # noqa: FBT001
        extra: dict[str, Any] = {} if delivered is None else {"delivered": delivered}
        if download:
            extra["download"] = download
        log.info(
            "request",
            client=self._client,
            method=self._scope["method"],
            path=self._scope["path"],
            query=self._scope["query_string"].decode("latin-1"),
            status=self._status,
            bytes=self._sent,
            seconds=round(seconds, 3),
            agent=self._headers.get(b"user-agent", ""),
            **extra,
        )


def _range(headers: list[tuple[bytes, bytes]]) -> tuple[int, int] | None:
    """Of a 206 answer with one range: [first, after last). Several ranges in one answer are not counted."""
    for name, value in headers:
        found = re.fullmatch(rb"bytes (\d+)-(\d+)/\d+", value) if name.lower() == b"content-range" else None
        if found:
            return int(found[1]), int(found[2]) + 1
    return None
