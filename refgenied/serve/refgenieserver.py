"""The real refgenieserver app, for any folder, on the versions that pip installs today.

As its `serve` command builds it (v3 at the root and under /v3, v1, v2, the private routes, static files), with these
differences: its config object is the one in view, archives are found by their digest, Starlette 1's
`TemplateResponse` takes the old form that refgenieserver 0.8.0 calls, three of its requests that always fail
(v1's attributes, /remotes/dict without remotes, /assets/file_path without a remote class) don't, and a name that
is not there is answered with 404 everywhere.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any, cast

import structlog

from refgenied.files.regular import SHORTAGE_ERRNOS
from refgenied.model import ShortageError
from refgenied.serve.asking import Asking
from refgenied.serve.delivery import at_hand, file_response
from refgenied.serve.served_archive import ReplacedError
from refgenied.serve.shelf import InView, Shelf, in_view

log = structlog.get_logger("serve")

_PACKAGE = "refgenieserver"
_SERVED = re.compile(
    r"(?:asset_dir_contents|build_recipe|build_log)_(?P<page>.+)\.(?:json|md)|(?P<archive>.+)\.tgz", re.DOTALL
)
"""The files that refgenieserver serves, by the name that they have in common."""
RETRY_AFTER = 5
"""Seconds."""


def build(folder: Path, shelf: Shelf) -> Any:
    """A new app; its classes of remotes are those of the config in force now."""
    for name in [name for name in sys.modules if name.startswith((f"{_PACKAGE}.main", f"{_PACKAGE}.routers"))]:
        del sys.modules[name]  # they read the config when they are imported
    const: Any = importlib.import_module(f"{_PACKAGE}.const")
    helpers: Any = importlib.import_module(f"{_PACKAGE}.helpers")
    main: Any = importlib.import_module(f"{_PACKAGE}.main")
    const.BASE_DIR = helpers.BASE_DIR = str(folder)
    original: Any = getattr(helpers, "original_datapath", helpers.get_datapath_for_genome)
    helpers.original_datapath = original
    helpers.get_datapath_for_genome = _datapath(original)
    helpers.is_data_remote = _is_remote
    main.rgc = InView(shelf)
    main._LOGGER = logging.getLogger(_PACKAGE)  # noqa: SLF001 - the routers import it by this name
    main.templates.TemplateResponse = _old_form(main.templates.TemplateResponse)
    main.templates.env.filters["os_path_join"] = _joined
    app = main.app
    routers = {name: importlib.import_module(f"{_PACKAGE}.routers.{name}").router for name in _ROUTERS}
    sys.modules[f"{_PACKAGE}.routers.version1"].tag = const.DEFAULT_TAG  # type: ignore[attr-defined]  # it logs this name
    for router in ("version1", "version2", "version3"):
        sys.modules[f"{_PACKAGE}.routers.{router}"].FileResponse = file_response  # type: ignore[attr-defined]
    pages: Any = sys.modules[f"{_PACKAGE}.routers.version3"]
    pages.get_asset_dir_contents = _listed(helpers.get_asset_dir_contents)
    for name, prefix in (("version3", ""), *_ROUTERS.items()):
        app.include_router(routers[name], prefix=prefix)
    for module, name in _NOT_THERE:
        app.add_exception_handler(getattr(importlib.import_module(module), name), _not_found)
    for error in (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        app.add_exception_handler(error, _unreadable)
    return Asking(app, shelf)


_NOT_THERE = (("yacman", "UndefinedAliasError"), ("jinja2", "UndefinedError"), ("builtins", "KeyError"))
"""What its pages and some of its older requests end with (500) when a genome, group or asset is not there."""


async def _not_found(request: Any, error: Exception) -> Any:
    responses: Any = importlib.import_module("fastapi.responses")
    asked = (*request.path_params.values(), *request.query_params.values())
    missing = [name for name in asked if name and name in str(error)]
    if not missing:
        raise error  # a mistake on this side
    return responses.JSONResponse({"detail": f"there is nothing here by the name {missing[0]}"}, 404)


async def _unreadable(request: Any, error: Exception) -> Any:
    """A file that only a page needs is not what it should be, or cannot be opened now."""
    responses: Any = importlib.import_module("fastapi.responses")
    log.warning("serve.page_unreadable", path=request.url.path, error=str(error)[:200])
    if isinstance(error, OSError) and error.errno in SHORTAGE_ERRNOS:
        return responses.JSONResponse(
            {"detail": "the server is short of something"}, 503, {"Retry-After": str(RETRY_AFTER)}
        )
    return responses.JSONResponse({"detail": "its file cannot be read"}, 404)


def _listed(original: Any) -> Any:
    """The directory contents that a page shows: names, whatever else stands in the file."""

    def contents(*arguments: Any, **named: Any) -> list[str]:
        found: object = original(*arguments, **named)
        return [str(name) for name in cast("list[object]", found)] if isinstance(found, list) else []

    return contents


def _is_remote(rgc: Any) -> bool:
    """Whether downloads come from elsewhere. The config in view always has `remotes`, perhaps empty."""
    return bool(rgc["remotes"])


_ROUTERS = {"version1": "/v1", "version2": "/v2", "version3": "/v3", "private": "/_private_api"}


def _datapath(original: Any) -> Any:
    """refgenieserver's way from a request to a file: through the digest, for aliases too (v1, v2)."""

    def datapath(rgc: Any, fill_dict: dict[str, str], *arguments: Any, **named: Any) -> tuple[str, bool]:
        edition = in_view.get()
        genome = edition.digest_of(fill_dict["genome"])
        name = fill_dict["file_name"]
        if named.get("remote_key") not in rgc["remotes"]:  # s3:// alone: there is nowhere to send clients to
            rgc = {"remotes": {}}
        path, remote = original(rgc, {**fill_dict, "genome": genome}, *arguments, **named)
        found = _SERVED.fullmatch(name)
        if remote or found is None:
            return path, remote
        held = edition.named(genome, found["page"] or found["archive"])
        if held is None:
            return f"/nonexistent/{genome}/{name}", False
        if found["page"]:
            return path, False
        try:
            opened = held.open()
        except (ReplacedError, ShortageError) as error:
            log.warning("serve.archive_not_given_out", asset=held.key.registry_path, error=str(error))
            raise _later() from None
        at_hand.set(opened)
        return opened.path, False

    return datapath


def _later() -> Exception:
    """Nothing is wrong with the request: the archive is there again in a moment, or its successor."""
    exceptions: Any = importlib.import_module("fastapi.exceptions")
    return exceptions.HTTPException(
        503, "this archive is being replaced, or the server is short of something", {"Retry-After": str(RETRY_AFTER)}
    )


def _joined(parts: list[str | None]) -> str:
    """For a page's links to files; without an address to begin with, the file's name alone."""
    return "/".join(part.rstrip("/") for part in parts if part)


def _old_form(respond: Any) -> Any:
    """`TemplateResponse(name, context)`, as it was before Starlette 1 wanted the request first."""

    def template_response(name: str, context: dict[str, Any]) -> Any:
        return respond(context["request"], name, context)

    return template_response
