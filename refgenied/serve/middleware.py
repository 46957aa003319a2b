"""The layer around the refgenieserver app. It decides which edition a request sees, counts downloads, and logs."""

import json
import re
import time
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refgenied import __version__
from refgenied.model import AssetKey
from refgenied.serve.delivery import ByteRange, given_out
from refgenied.serve.editions import ConfigEdition, Shelf, in_view
from refgenied.serve.follower import Follower
from refgenied.serve.refgenieserver import in_origin_form
from refgenied.serve.served_archive import OpenedArchive, ServedArchive
from refgenied.serve.spool import Spool
from refgenied.serve.wire import SCOPE_KEY, Wire
from refgenied.shared.pulls import Answer, Pulls, asks_twice

log = structlog.get_logger("access")

_NAMED = re.compile(
    r"(?:/v3)?/assets/(?P<what>attrs|archive_digest|asset_digest|archive)/(?P<genome>[^/]+)/(?P<group>[^/]+)"
    r"|/v[12]/asset/(?P<genome2>[^/]+)/(?P<group2>[^/]+)(?:/(?P<tag2>[^/]+)/archive_digest|/(?P<what2>archive))?"
)
"""Requests about one asset whose answers must agree with each other."""
_FILE_PATH = re.compile(r"(?:/v3)?/assets/file_path/.*")
_TELLS = ("attrs", "archive_digest", None)
"""The answers to these requests have the archive's digest."""

UNBUFFERED = (b"x-accel-buffering", b"no")
"""With this header nginx reads no more than its client takes, so we notice when the client leaves."""
LONGEST_AGENT = 200
"""Characters of the `User-Agent` that are compared. Two clients that differ only after them count as one."""


class Traffic:
    """An ASGI app: refgenieserver over the current edition, and `/health`."""

    def __init__(self, follower: Follower, spool: Spool) -> None:
        self._follower = follower
        self._spool = spool
        self.pulls = Pulls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._follower.app(scope, receive, send)
            return
        scope = in_origin_form(scope)
        if scope["path"] == "/health":
            health = self.health
            status = 200 if health["status"] == "ok" else 503
            body = json.dumps(health) + "\n"
            answer = Response(body, status, {"cache-control": "no-store"}, "application/json")
            await answer(scope, receive, send)
        else:
            exchange = _Exchange(self._follower.shelf, self.pulls, self._spool, scope, send)
            await exchange.run(self._follower.app, receive)

    @property
    def health(self) -> dict[str, Any]:
        edition, problem = self._follower.shelf.current, self._follower.problem
        return {
            "status": "problem" if problem else "ok",
            "problem": problem,
            "version": __version__,
            "archives": len(edition.archives),
            "mended": edition.mended,
            "config": str(self._follower.config),
            "config_loaded_at": self._follower.loaded_at,
            "downloads_waiting": self._spool.waiting,
            "downloads_problem": self._spool.problem,
        }


class _Exchange:
    """One request and its answer."""

    def __init__(self, shelf: Shelf, pulls: Pulls, spool: Spool, scope: Scope, send: Send) -> None:
        self._shelf = shelf
        self._pulls = pulls
        self._spool = spool
        self._scope = scope
        self._send = send
        self._client = str((scope.get("client") or ("-",))[0])
        self._agent = Headers(scope=scope).get("user-agent", "")
        self._wire: Wire | None = scope.get(SCOPE_KEY)
        self._opened: OpenedArchive | None = None
        """The archive that answers the request."""
        self._given_out_at = 0.0
        self._likely = ""
        """The id of the likely download, when this answer seems to be one."""
        self._status = 0
        self._ranges: list[ByteRange] | None = None
        """The ranges of the archive that the client asked for; None: the whole archive."""
        self._sent = 0
        self._complete = False

    async def run(self, app: ASGIApp, receive: Receive) -> None:
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
            if self._opened is not None:
                wire = self._wire
                delivered = self._complete and (wire is None or await wire.delivered(self._seems_delivered))
                download = await self._settle(self._opened, delivered=delivered)
            self._log(time.monotonic() - began, delivered, download)
        if self._opened is not None and self._complete:
            await self._send({"type": "http.response.body", "body": b""})

    def _meant(self) -> tuple[str | None, AssetKey | None, ConfigEdition]:
        """The kind of request, its asset, and the edition that the client sees."""
        found = _NAMED.fullmatch(self._scope["path"])
        if found is None:
            return None, None, self._shelf.current
        query = parse_qs(self._scope["query_string"].decode("latin-1"))
        tag = found["tag2"] or query.get("tag", [None])[-1]
        genome, group = unquote(found["genome"] or found["genome2"]), unquote(found["group"] or found["group2"])
        key = self._shelf.current.key_of(genome, group, tag)
        return found["what"] or found["what2"], key, self._shelf.view(self._client, key)

    def _name_remote(self, edition: ConfigEdition) -> None:
        """Add the class of remote to the query, because refgenieserver's own default does not work."""
        query: bytes = self._scope["query_string"]
        if b"remoteClass=" not in query:
            name = next(iter(edition.remotes), "http")
            self._scope["query_string"] = b"&".join(filter(None, (query, f"remoteClass={quote(name)}".encode())))

    def _give_out(self, opened: OpenedArchive, ranges: list[ByteRange] | None) -> None:
        if self._opened is None:
            self._opened, self._ranges = opened, ranges
            self._given_out_at = time.monotonic()

    async def _take(self, message: Message) -> None:
        """Pass on the app's messages. The end of an archive is held back until the client has all of it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if self._opened is not None:
                message = {**message, "headers": [*message["headers"], UNBUFFERED]}
            await self._send(message)
            return
        was_open = self._wire is None or self._wire.is_open
        ends = self._opened is not None and not message.get("more_body", False)
        await self._send({**message, "more_body": True} if ends else message)
        self._complete = ends and was_open
        if was_open:
            self._sent += len(message.get("body", b""))

    def _seems_delivered(self) -> None:
        """The client has all bytes, but may still drop the answer. If we are killed now, the download must count."""
        opened = self._opened
        answer = self._answer(opened.stat.st_size, delivered=True) if opened else None
        if opened and answer and self._pulls.would_take(self._who(opened.archive), answer):
            self._likely = self._spool.likely(opened.archive.key, opened.archive.digest, time.time())

    async def _settle(self, opened: OpenedArchive, *, delivered: bool) -> str:
        """Count the download that this answer completes, if any. Returns its id. The download is on the disk then."""
        archive = opened.archive
        answer = self._answer(opened.stat.st_size, delivered=delivered)
        if answer is None or not self._pulls.take(self._who(archive), answer):
            if self._likely:
                self._spool.not_so(self._likely)
            return ""
        self._shelf.kept(self._client, archive.key)
        return await self._spool.count(archive.key, archive.digest, time.time(), self._likely)

    def _who(self, archive: ServedArchive) -> tuple[str, ...]:
        agent = self._agent[:LONGEST_AGENT]  # memory holds thousands of these texts
        return self._client, agent, archive.key.registry_path, archive.digest

    def _answer(self, size: int, *, delivered: bool) -> Answer | None:
        """The part of an archive of `size` bytes that was sent; None when no part was sent, or several."""
        ranges = [(0, size)] if self._ranges is None else self._ranges
        if not self._status or len(ranges) != 1:
            return None
        first, end = ranges[0]
        sent = self._sent if delivered else min(self._sent, end - first - 1)  # at least the last byte is missing
        return Answer(
            at=time.monotonic(),
            begun=self._given_out_at,
            size=size,
            first=first,
            least=sent,
            most=sent,
            ranged=self._ranges is not None,
            twice=asks_twice(self._agent),
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
            agent=self._agent,
            **extra,
        )
