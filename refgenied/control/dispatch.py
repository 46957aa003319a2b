"""Defines a verb: a name, typed params and a handler. `answer` runs one request, and knows no sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from types import ModuleType
from typing import Any, get_type_hints

import msgspec
import structlog

from refgenied.control import protocol
from refgenied.control.peer import Peer
from refgenied.control.protocol import InternalError, Request, UnknownVerbError
from refgenied.model import RefgeniedError

log = structlog.get_logger("control")

Handler = Callable[..., Awaitable[object]]
"""`async def handler(context, call, params)`. It returns the verb's result; for a watch, the params of `end`."""


Errors = tuple[type[RefgeniedError], ...]


class PeerGoneError(Exception):
    """The peer has hung up, or does not read: no message can reach it."""


@dataclass
class Call:
    """One request, for its handler."""

    id: str | int
    peer: Peer
    send: Callable[[bytes], Awaitable[None]]
    begun: bool = field(default=False, init=False)
    """Whether the answer was sent already. Then only notifications may follow."""

    async def begin(self, state: object) -> None:
        """Answer a watch with the present state. Notifications follow."""
        await self.send(protocol.reply(self.id, state))
        self.begun = True

    async def notify(self, method: str, params: object) -> None:
        """`params`: a struct or a dict."""
        await self.send(protocol.notification(method, self.id, msgspec.to_builtins(params)))

    async def fail(self, error: RefgeniedError) -> None:
        """Send an error: as the answer, or as the end of a watch that was answered already."""
        if self.begun:
            await self.notify("end", {"reason": error.kind, "error": protocol.error_body(error)})
        else:
            await self.send(protocol.error_reply(self.id, error))


@dataclass
class Verb:
    """A decorator for the handler: `@Verb("asset.get")`. The handler's name in the module then means the verb."""

    name: str
    writes: bool = False
    """Whether it needs the right to give orders. Such a verb is logged."""
    lasts: bool = False
    """Whether it may take long. Such a verb ends with its connection, and when the daemon drains."""
    begins: type | None = None
    """The type of a watch's first answer, which the handler gives to `Call.begin`; None: the verb is not a watch."""
    notifies: tuple[str, ...] = ()
    """The notifications that it may send, besides a watch's `end`."""
    errors: Errors = ()
    handler: Handler = field(init=False)

    def __call__(self, handler: Handler) -> Verb:
        self.handler = handler
        return self

    @cached_property
    def params(self) -> type[msgspec.Struct]:
        """The type of the params, from the handler's annotation."""
        return get_type_hints(self.handler)["params"]

    @property
    def summary(self) -> str:
        """The handler's docstring, in one line."""
        return " ".join((self.handler.__doc__ or "").split())

    @property
    def answer(self) -> str:
        """One of `description.ANSWERS`."""
        return "watch" if self.begins is not None else "late" if self.lasts else "at once"


Verbs = Mapping[str, Verb]


def verbs_of(*modules: ModuleType) -> dict[str, Verb]:
    """Name → verb, for all verbs in these modules."""
    found = (value for module in modules for value in vars(module).values())
    return {verb.name: verb for verb in found if isinstance(verb, Verb)}


async def answer(verbs: Verbs, context: Any, request: Request, call: Call) -> None:
    """Run one request and send its answer. It raises only cancellation and PeerGoneError."""
    try:
        verb = find(verbs, request.method)
        given = protocol.decode_params(verb.name, request.params, verb.params)
        if verb.writes:
            call.peer.require_write(verb.name)
            log.info("control.write", verb=verb.name, user=call.peer.name, uid=call.peer.uid, pid=call.peer.pid)
        result = await verb.handler(context, call, given)
        if call.begun:
            await call.notify("end", result)
        else:
            await call.send(protocol.reply(request.id, result))
    except RefgeniedError as error:
        await call.fail(error)
    except PeerGoneError:
        raise
    except Exception:
        log.exception("control.internal_error", verb=request.method, user=call.peer.name)
        await call.fail(InternalError("internal error", hint="the daemon's log says more"))


def find(verbs: Verbs, name: str) -> Verb:
    """The verb with this name. UnknownVerbError names similar verbs."""
    if name in verbs:
        return verbs[name]
    near = get_close_matches(name, verbs, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UnknownVerbError(f"there is no verb {name[:80]!r}", hint=f"{hint}rpc.describe lists them all")
