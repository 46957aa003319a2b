"""The real refgenieserver app, for any folder, with the versions of its libraries that pip installs today.

It is built as its `serve` command builds it (v3 at the root and under /v3, v1, v2, the private routes, static files),
with these differences:

- Its config object is the edition that the request sees, and archives are found by their digest.
- `TemplateResponse` of Starlette 1 takes the old arguments that refgenieserver 0.8.0 passes.
- Three requests work here that always fail in the original: v1's attributes, /remotes/dict without remotes,
  /assets/file_path without a remote class.
- HEAD is a GET without the body.
- The answer for a name that does not exist is always 404. In the original, pages fail with 500. The same holds for a
  name that cannot exist (with a NUL or a line's end).
"""

import importlib
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refgenied.files.regular import is_shortage
from refgenied.model import ShortageError
from refgenied.serve.delivery import HEAD, at_hand, file_response
from refgenied.serve.editions import ConfigEdition, Shelf, in_view
from refgenied.serve.lists import is_list, list_all
from refgenied.serve.served_archive import ReplacedError

log = structlog.get_logger("serve")

_PACKAGE = "refgenieserver"
_ROUTERS = {"version1": "/v1", "version2": "/v2", "version3": "/v3", "private": "/_private_api"}
_NOT_THERE = (("yacman", "UndefinedAliasError"), ("jinja2", "UndefinedError"), ("builtins", "KeyError"))
"""Errors that its pages and some older requests raise (500) when a genome, group or asset does not exist."""
_SERVED = re.compile(
    r"(?:asset_dir_contents|build_recipe|build_log)_(?P<page>.+)\.(?:json|md)|(?P<archive>.+)\.tgz", re.DOTALL
)
"""The names of the files that refgenieserver serves for an asset. All contain `{asset group}__{asset}`."""
_PAGE = re.compile(
    r"(?:/v3)?/(?:genomes|assets)/splash/(?P<genome>[^/]+)(?:/(?P<group>[^/]+))?"
    r"|/v2/asset/(?P<genome2>[^/]+)/(?P<group2>[^/]+)/splash"
)
_OF_RANGES = (b"range", b"if-range")
"""Starlette refuses (400) ranges that should be ignored. So files that are not archives are sent whole."""
_RETRY_AFTER = {"Retry-After": "5"}
"""A client may try again after this many seconds."""


def build(folder: Path, shelf: Shelf) -> ASGIApp:
    """A new app, with the classes of remotes in the current config."""
    for name in [name for name in sys.modules if name.startswith((f"{_PACKAGE}.main", f"{_PACKAGE}.routers"))]:
        del sys.modules[name]  # these modules read the config when they are imported
    const: Any = importlib.import_module(f"{_PACKAGE}.const")
    helpers: Any = importlib.import_module(f"{_PACKAGE}.helpers")
    main: Any = importlib.import_module(f"{_PACKAGE}.main")
    const.BASE_DIR = helpers.BASE_DIR = str(folder)
    original: Any = getattr(helpers, "original_datapath", helpers.get_datapath_for_genome)
    helpers.original_datapath = original
    helpers.get_datapath_for_genome = _datapath(original)
    helpers.is_data_remote = _is_remote
    main.rgc = _InView(shelf)
    main._LOGGER = logging.getLogger(_PACKAGE)  # noqa: SLF001 - the routers import it by this name
    main.templates.TemplateResponse = _old_form(main.templates.TemplateResponse)
    main.templates.env.filters["os_path_join"] = _joined
    app = main.app
    routers: dict[str, Any] = {name: importlib.import_module(f"{_PACKAGE}.routers.{name}") for name in _ROUTERS}
    routers["version1"].tag = const.DEFAULT_TAG  # it logs this name
    for name in ("version1", "version2", "version3"):
        routers[name].FileResponse = file_response
    routers["version3"].get_asset_dir_contents = _listed(helpers.get_asset_dir_contents)
    for name, prefix in (("version3", ""), *_ROUTERS.items()):
        app.include_router(routers[name].router, prefix=prefix)
    for module, name in _NOT_THERE:
        app.add_exception_handler(getattr(importlib.import_module(module), name), _not_found)
    for error in (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        app.add_exception_handler(error, _unreadable)
    return _asked(app, shelf)


# ----------------------------------------------------------------- its answers


async def _not_found(request: Request, error: Exception) -> Response:
    asked = (*request.path_params.values(), *request.query_params.values())
    missing = [name for name in asked if name and name in str(error)]
    if not missing:
        raise error  # an error in the server itself
    return _no_such_name(missing[0])


def _no_such_name(name: str) -> Response:
    return JSONResponse({"detail": f"there is nothing here by the name {name[:200]}"}, 404)


async def _unreadable(request: Request, error: Exception) -> Response:
    """The answer when a file that only a page needs is damaged, or cannot be opened now."""
    log.warning("serve.page_unreadable", path=request.url.path, error=str(error)[:200])
    if is_shortage(error):
        return JSONResponse({"detail": "the server is short of something"}, 503, _RETRY_AFTER)
    return JSONResponse({"detail": "its file cannot be read"}, 404)


def _listed(original: Callable[..., object]) -> Callable[..., list[str]]:
    """The directory contents that a page shows. Only names are taken from the file."""

    def contents(*arguments: Any, **named: Any) -> list[str]:
        found = original(*arguments, **named)
        return [str(name) for name in cast("list[object]", found)] if isinstance(found, list) else []

    return contents


def _is_remote(rgc: Any) -> bool:
    """Whether clients download from another server. The config always has `remotes`, which may be empty."""
    return bool(rgc["remotes"])


def _datapath(original: Any) -> Any:
    """Replaces refgenieserver's function from a request to a file: it uses the digest, even for aliases (v1, v2)."""

    def datapath(rgc: Any, fill_dict: dict[str, str], *arguments: Any, **named: Any) -> tuple[str, bool]:
        edition = in_view.get()
        genome = edition.digest_of(fill_dict["genome"])
        name = fill_dict["file_name"]
        if named.get("remote_key") not in rgc["remotes"]:  # only s3:// is known: clients cannot be sent there
            rgc = {"remotes": {}}
        path, remote = original(rgc, {**fill_dict, "genome": genome}, *arguments, **named)
        found = _SERVED.fullmatch(name)
        if remote or found is None:
            return path, remote
        archive = edition.named(genome, found["page"] or found["archive"])
        if archive is None:
            return f"/nonexistent/{genome}/{name}", False
        if found["page"]:
            return path, False
        try:
            opened = archive.open()
        except (ReplacedError, ShortageError) as error:  # in a moment this archive or a new one can be opened
            log.warning("serve.archive_not_given_out", asset=archive.key.registry_path, error=str(error))
            detail = "this archive is being replaced, or the server is short of something"
            raise HTTPException(503, detail, _RETRY_AFTER) from None
        at_hand.set(opened)
        return opened.path, False

    return datapath


def _joined(parts: list[str | None]) -> str:
    """A link to a file on a page. Without an address, the link is only the file's name."""
    return "/".join(part.rstrip("/") for part in parts if part)


def _old_form(respond: Any) -> Any:
    """`TemplateResponse(name, context)`, as it was before Starlette 1 wanted the request first."""

    def template_response(name: str, context: dict[str, Any]) -> Any:
        return respond(context["request"], name, context)

    return template_response


class _InView:
    """Replaces refgenieserver's config object by the config object of the edition that the current request sees."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def _rgc(self) -> Any:
        return in_view.get(self._shelf.current).rgc

    def get_genome_alias(self, digest: str, **named: Any) -> Any:
        """The genome's alias; its digest when it is not served (an asset's parent may belong to such a genome)."""
        try:
            return self._rgc().get_genome_alias(digest=digest, **named)
        except Exception:  # noqa: BLE001 - each version of yacman raises another error
            return digest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rgc(), name)

    def __getitem__(self, name: str) -> Any:
        return self._rgc()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rgc()


# ----------------------------------------------------------------- its requests


def in_origin_form(scope: Scope) -> Scope:
    """Shorten a whole address to its path. Every server must accept such a request (RFC 9112, 3.2.2)."""
    found = re.match(r"https?://[^/?#]*(?=/)", scope["path"], re.IGNORECASE)
    if found is None:
        return scope
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return {**scope, "path": scope["path"][found.end() :], "raw_path": raw[len(found[0].encode()) :]}


def _asked(app: ASGIApp, shelf: Shelf) -> ASGIApp:
    """The app around refgenieserver's: it changes requests into those that refgenieserver can answer."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        head = scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET", HEAD: True}
        if "/archive" not in scope["path"]:
            scope = {**scope, "headers": [field for field in scope["headers"] if field[0] not in _OF_RANGES]}

        async def answer(message: Message) -> None:
            if message.get("status") == 405:  # where GET is allowed, HEAD is
                headers = [(name, b"GET, HEAD" if name.lower() == b"allow" else it) for name, it in message["headers"]]
                message = {**message, "headers": headers}
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        missing = _missing(scope, shelf)
        if is_list(scope):
            await list_all(app, in_view.get(shelf.current), scope, receive, answer)
        else:
            await (app if missing is None else _no_such_name(missing))(scope, receive, answer)

    return asked


def _missing(scope: Scope, shelf: Shelf) -> str | None:
    """The name in a request for a page that does not exist; None when refgenieserver itself can answer."""
    path: str = scope["path"]
    if not path.isprintable():
        return path
    page = _PAGE.fullmatch(path)
    if page is None:
        return None
    query = parse_qs(scope["query_string"].decode("latin-1"))
    edition = in_view.get(shelf.current)
    genome, group = page["genome"] or page["genome2"], page["group"] or page["group2"]
    return _not_in(edition, genome, group, query.get("tag", [None])[-1])


def _not_in(edition: ConfigEdition, genome: str, group: str | None, tag: str | None) -> str | None:
    body = edition.genomes.get(edition.digest_of(genome))
    if body is None:
        return genome
    if group is None:
        return None
    if group not in body["assets"]:
        return group
    return tag if tag and tag not in body["assets"][group]["tags"] else None
