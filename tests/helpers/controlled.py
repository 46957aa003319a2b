"""Parts with everything that the control socket needs: a context for the verbs, calls, a served socket."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import msgspec
from parts import Parts

from refgenied.config.settings import Control
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, answer
from refgenied.control.peer import Peer
from refgenied.control.protocol import Request
from refgenied.control.readers import Readers
from refgenied.control.server import Server, serving
from refgenied.control.verbs.table import VERBS
from refgenied.watcher import Watcher

Row = dict[str, Any]


@dataclass
class Asked:
    """What the daemon was told to do."""

    shutdowns: int = 0
    reloads: int = 0
    restart_needed: list[str] = field(default_factory=list)


def context_of(parts: Parts, asked: Asked | None = None) -> Context:
    asked = asked or Asked()

    def shutdown() -> None:
        asked.shutdowns += 1

    async def reload() -> list[str]:
        asked.reloads += 1
        return asked.restart_needed

    return Context(
        **vars(parts.core) | {"clock": time.time},
        pause=parts.pause,
        reconciler=parts.reconciler,
        catalog=parts.catalog,
        started_at=time.time() - 60,
        began=time.monotonic() - 60,
        watcher=Watcher(parts.reconciler, parts.current, parts.health),
        verifier=parts.verifier,
        rights=parts.rights,
        importer=parts.importer,
        readers=Readers(),
        shutdown=shutdown,
        reload=reload,
    )


ANN = Peer(uid=1001, pid=42, name="ann", may_write=True, group="refgenie")
BOB = Peer(uid=1002, pid=43, name="bob", may_write=False, group="refgenie")


class Desk:
    """Asks verbs as the socket does, without one."""

    def __init__(self, context: Context, peer: Peer = ANN) -> None:
        self.context = context
        self.peer = peer
        self.sent: list[Row] = []
        """Every line of the last call, in order."""
        self.arrived = anyio.Event()
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """Something that happens while the first line is being sent."""

    async def ask(self, method: str, **params: object) -> Any:
        """The result; an AssertionError with the error instead of one."""
        sent = await self.lines(method, **params)
        assert "error" not in sent[-1], sent[-1]
        return sent[-1]["result"]

    async def refused(self, method: str, **params: object) -> Row:
        """The error."""
        sent = await self.lines(method, **params)
        assert "error" in sent[-1], sent[-1]
        return sent[-1]["error"]

    async def lines(self, method: str, **params: object) -> list[Row]:
        self.sent = []

        async def send(line: bytes) -> None:
            assert line.endswith(b"\n")
            assert line.count(b"\n") == 1
            self.sent.append(json.loads(line))
            self.arrived.set()
            self.arrived = anyio.Event()
            if self.meanwhile:
                happen, self.meanwhile = self.meanwhile, None
                await happen()

        request = Request("2.0", 1, method, msgspec.Raw(msgspec.json.encode(params)))
        await answer(VERBS, self.context, request, Call(1, self.peer, send))
        return self.sent

    async def until(self, method: str) -> Row:
        """Wait for a notification of the call that runs in another task."""
        with anyio.fail_after(10):
            while True:
                for line in self.sent:
                    if line.get("method") == method:
                        return line["params"]
                await self.arrived.wait()


@asynccontextmanager
async def served(parts: Parts, *, work: bool = True, **control: object) -> AsyncGenerator[Server]:
    """The parts behind a real socket, with a worker and the catalog."""
    settings = parts.current.settings
    fields: Row = {"socket": str(parts.root / "control.sock"), "group": "no-such-group"} | control
    parts.current.settings = msgspec.structs.replace(settings, control=msgspec.convert(fields, Control))
    old = {name: os.environ.pop(name, None) for name in ("LISTEN_PID", "LISTEN_FDS")}
    assert old == {"LISTEN_PID": None, "LISTEN_FDS": None}
    async with anyio.create_task_group() as group, serving(context_of(parts)) as server:
        group.start_soon(server.run)
        if work:
            group.start_soon(parts.worker.run)
            group.start_soon(parts.catalog.run)
        yield server
        group.cancel_scope.cancel()
