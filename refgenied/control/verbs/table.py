"""All verbs of the control protocol."""

import sys
from functools import cache

import anyio.to_thread

from refgenied.control.context import Context
from refgenied.control.description import Description, describe
from refgenied.control.dispatch import Call, Verb, verbs_of
from refgenied.control.params import Nothing
from refgenied.control.protocol import PROTOCOL_ERRORS
from refgenied.control.verbs import (
    archives,
    assets,
    config,
    create,
    downloads,
    events,
    imports,
    protect,
    queue,
    read,
    remove,
    server,
    verify,
    wait,
)
from refgenied.control.verbs.imports import ImportView
from refgenied.control.verbs.verify import VerdictView
from refgenied.control.views import EventView, JobView, View
from refgenied.control.waiting import WaitingNotice
from refgenied.model import BusyError, PermissionDeniedError, ShuttingDownError

ANY_VERB = (*PROTOCOL_ERRORS, PermissionDeniedError, BusyError, ShuttingDownError)
"""Errors that every verb may answer with."""


class ProgressNotice(View, frozen=True):
    """The progress of a job, or of reading an archive."""

    phase: str
    """`packing`, `proving` or `reading`."""
    done: int
    """Source bytes that are done."""
    total: int
    """All source bytes; 0: not known yet."""
    rate: float
    """Bytes a second, over the last seconds; 0: not known yet."""
    job: int | None = None
    registry_path: str | None = None


class EndNotice(View, frozen=True):
    """The last notification of a watch."""

    reason: str
    """done, lagged (you were too slow: come back with `since`), shutting_down, or an error's kind."""
    seq: int | None = None
    """The number of the last event that was sent."""
    job: JobView | None = None
    """For job.watch: the job as it is now."""
    error: dict[str, object] | None = None
    """If it ended with an error: code, message and data, as in a reply."""


NOTICES: dict[str, type] = {
    "event": EventView,
    "progress": ProgressNotice,
    "waiting": WaitingNotice,
    "verified": VerdictView,
    "imported": ImportView,
    "end": EndNotice,
}
"""Every notification also has `watch` in its params: the id of its request."""


@Verb("rpc.describe")
async def rpc_describe(context: Context, call: Call, params: Nothing) -> Description:
    """Every verb with its params, result, rights and errors: enough to write a client."""
    return await anyio.to_thread.run_sync(_description)


@cache
def _description() -> Description:
    return describe(VERBS, NOTICES, ANY_VERB)


VERBS = verbs_of(
    server,
    config,
    assets,
    archives,
    create,
    remove,
    downloads,
    wait,
    read,
    verify,
    imports,
    protect,
    queue,
    events,
    sys.modules[__name__],
)
