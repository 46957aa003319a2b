"""All verbs of the control protocol."""

from __future__ import annotations

import msgspec

from refgenied.control import (
    verbs_archives,
    verbs_assets,
    verbs_create,
    verbs_downloads,
    verbs_keep,
    verbs_protect,
    verbs_queue,
    verbs_read,
    verbs_server,
    verbs_wait,
    verbs_watch,
    verbs_weblogs,
)
from refgenied.control.context import Context
from refgenied.control.protocol import (
    MAX_REPLY,
    MAX_REQUEST,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    ParseError,
    UnknownVerbError,
)
from refgenied.control.verb import Call, Registry, Verb, describe
from refgenied.control.verbs_server import Nothing
from refgenied.model import BusyError, PermissionDeniedError, ShuttingDownError

registry: Registry[Context] = Registry()

ANY_VERB = (
    ParseError,
    InvalidRequestError,
    UnknownVerbError,
    InvalidParamsError,
    InternalError,
    PermissionDeniedError,
    BusyError,
    ShuttingDownError,
)
"""Errors that every verb may answer with."""


class Description(msgspec.Struct, frozen=True):
    protocol: str
    max_request: int
    max_reply: int
    notifications: dict[str, str]
    errors: list[dict[str, object]]
    """Of any verb."""
    verbs: list[dict[str, object]]


NOTIFICATIONS = {
    "event": "of a watch: seq, at, kind, registry_path, aliases, job, data",
    "progress": "job or registry_path, phase, done and total (source bytes), rate (bytes a second)",
    "waiting": "of archive.wait and job.watch, when asked for: cause (the same while only numbers change), reason",
    "verified": "of archive.verify: one archive, as in its result's `damaged`",
    "imported": "of archive.import: one archive, as in its result's `refused`",
    "end": "the last one of a watch: reason is done, lagged (come back with `since`), shutting_down or an error's kind",
}
"""Each carries the id of its request as `watch`."""


@registry.verb("rpc.describe", "Every verb with its params, rights and errors.", params=Nothing)
async def rpc_describe(context: Context, call: Call, params: Nothing) -> Description:  # noqa: ARG001
    return Description(
        protocol="JSON-RPC 2.0, one object a line, named params, no batches, id required",
        max_request=MAX_REQUEST,
        max_reply=MAX_REPLY,
        notifications=NOTIFICATIONS,
        errors=[{"code": error.code, "kind": error.kind} for error in ANY_VERB],
        verbs=describe(VERBS),
    )


VERBS: dict[str, Verb[Context]] = {
    name: verb
    for part in (
        verbs_server,
        verbs_assets,
        verbs_archives,
        verbs_create,
        verbs_downloads,
        verbs_wait,
        verbs_read,
        verbs_keep,
        verbs_protect,
        verbs_queue,
        verbs_watch,
        verbs_weblogs,
    )
    for name, verb in part.registry.verbs.items()
} | registry.verbs
