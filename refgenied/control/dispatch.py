"""What a verb is: a name, typed params, a handler. One request runs through `answer`, whatever carries it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Generic, TypeVar, cast

import msgspec
import structlog

from refgenied.control import protocol
from refgenied.control.peer import Peer
from refgenied.control.protocol import InternalError, Request, UnknownVerbError
from refgenied.model import RefgeniedError

log = structlog.get_logger("control")

C = TypeVar("C")
P = TypeVar("P", bound=msgspec.Struct)


class PeerGoneError(Exception):
    """The peer hung up, or does not read: there is nobody to tell anything."""


Send = Callable[[bytes], Awaitable[None]]


@dataclass
class Call:
    """One request, as its handler sees it."""

    id: str | int
    peer: Peer
    send: Send
    begun: bool = field(default=False, init=False)
    """Whether the answer has gone out already, so that only notifications may follow."""

    async def begin(self, state: object) -> None:
        """Answer a watch with the state now; notifications follow."""
        await self.send(protocol.reply(self.id, state))
        self.begun = True

    async def notify(self, method: str, params: dict[str, object]) -> None:
        await self.send(protocol.notification(method, self.id, params))

    async def fail(self, error: RefgeniedError) -> None:
        """Tell of an error: as the answer, or as the end of a watch that was answered already."""
        if self.begun:
            await self.notify("end", {"reason": error.kind, "error": protocol.error_body(error)})
        else:
            await self.send(protocol.error_reply(self.id, error))


@dataclass(frozen=True)
class Verb(Generic[C]):
    name: str
    params: type[msgspec.Struct]
    handler: Callable[[C, Call, msgspec.Struct], Awaitable[object]]
    """Returns the result; of a watch, what its last notification, `end`, says."""
    summary: str
    """What it does, one sentence."""
    writes: bool = False
    """It needs the right to give orders, and is logged."""
    lasts: bool = False
    """It may wait for long, so it ends with its connection, and when the daemon drains."""
    begins: type | None = None
    """Of a watch: what its first answer is. The handler gives it to `Call.begin`."""
    notifies: tuple[str, ...] = ()
    """Notifications that it may send, besides a watch's `end`."""
    errors: tuple[type[RefgeniedError], ...] = ()
    function: Callable[..., object] = field(kw_only=True)
    """The handler as it is written; its types are those of the result."""

    @property
    def answer(self) -> str:
        """One of `description.ANSWERS`."""
        return "watch" if self.begins is not None else "late" if self.lasts else "at once"


Verbs = Mapping[str, Verb[C]]


class Registry(Generic[C]):
    """Collects the verbs of one module by decorating their handlers."""

    def __init__(self) -> None:
        self.verbs: dict[str, Verb[C]] = {}

    def verb(
        self,
        name: str,
        summary: str,
        *,
        params: type[P],
        writes: bool = False,
        lasts: bool = False,
        begins: type | None = None,
        notifies: tuple[str, ...] = (),
        errors: tuple[type[RefgeniedError], ...] = (),
    ) -> Callable[[Callable[[C, Call, P], Awaitable[object]]], Callable[[C, Call, P], Awaitable[object]]]:
        def register(handler: Callable[[C, Call, P], Awaitable[object]]) -> Callable[[C, Call, P], Awaitable[object]]:
            async def typed(context: C, call: Call, given: msgspec.Struct) -> object:
                return await handler(context, call, cast(P, given))

            self.verbs[name] = Verb(
                name, params, typed, summary, writes, lasts, begins, notifies, errors, function=handler
            )
            return handler

        return register


async def answer(verbs: Verbs[C], context: C, request: Request, call: Call) -> None:
    """Run one request and send what comes of it. Raises nothing but cancellation and PeerGoneError."""
    try:
        verb = find(verbs, request.method)
        given = protocol.decode_params(verb.name, request.params, verb.params)
        if verb.writes:
            call.peer.require_write(verb.name)
            log.info("control.write", verb=verb.name, user=call.peer.name, uid=call.peer.uid, pid=call.peer.pid)
        result = await verb.handler(context, call, given)
        if call.begun:
            ending: dict[str, object] = msgspec.to_builtins(result)
            await call.notify("end", ending)
        else:
            await call.send(protocol.reply(request.id, result))
    except RefgeniedError as error:
        await call.fail(error)
    except PeerGoneError:
        raise
    except Exception:
        log.exception("control.internal_error", verb=request.method, user=call.peer.name)
        await call.fail(InternalError("internal error", hint="the daemon's log says more"))


def find(verbs: Verbs[C], name: str) -> Verb[C]:
    """UnknownVerbError, which names the nearest ones."""
    if name in verbs:
        return verbs[name]
    near = get_close_matches(name, verbs, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UnknownVerbError(f"there is no verb {name[:80]!r}", hint=f"{hint}rpc.describe lists them all")
