"""Transactions that may wait for other things between two statements, which the daemon itself never needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio

from refgenied.queue.eventlog import Change
from refgenied.queue.jobs import Jobs
from refgenied.store import Store, Transaction


class _Visiting(Transaction):
    """Each of its statements visits the thread of the database."""

    def __init__(self, store: Store) -> None:
        super().__init__(store._connection)
        self._thread = store._thread

    async def _run(self, statement: Callable[..., Any], sql: str, values: Iterable[Any]) -> Any:
        return await self._thread.run(partial(statement, self._connection, sql, tuple(values)))


@asynccontextmanager
async def transaction(store: Store) -> AsyncGenerator[Transaction]:
    """As `Store.ask`: all statements in this context are done, or none."""
    run = store._thread.run
    async with store._lock:
        with anyio.CancelScope(shield=True):
            whole = store._whole()
            await run(whole.__enter__)
            try:
                yield _Visiting(store)
            except BaseException as error:
                await run(partial(whole.__exit__, type(error), error, error.__traceback__))
                raise
            await run(partial(whole.__exit__, None, None, None))


@asynccontextmanager
async def changing(jobs: Jobs) -> AsyncGenerator[Change]:
    """One transaction, whose events subscribers get after it."""
    log = jobs._log
    async with transaction(log.store) as tx:
        change, set_by = await log._begin(tx)
        yield change
    log._done(change, set_by)
