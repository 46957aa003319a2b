"""Makes a change and its events one transaction. If somebody sets the clock, no job waits longer or shorter."""

import time
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from refgenied.health import Clock
from refgenied.model import AssetKey, Event
from refgenied.queue.feed import Feed
from refgenied.store import Store, Transaction, events
from refgenied.store import jobs as rows

P = ParamSpec("P")
T = TypeVar("T")

CLOCK_WAS_SET_SECONDS = 1.0
"""If the clock jumps by more than this from one change to the next, somebody has set it."""


def since_boot() -> float:
    """Seconds since the machine was started, with the time that it slept. Nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Change:
    """One transaction, and the events that subscribers get after its commit."""

    def __init__(self, tx: Transaction, now: float) -> None:
        self.tx = tx
        self.now = now
        self.events: list[Event] = []

    async def log(self, kind: str, key: AssetKey | None = None, job: int | None = None, **data: Any) -> None:
        self.events.append(await events.add(self.tx, kind, at=self.now, key=key, job=job, **data))


class EventLog:
    def __init__(self, store: Store, feed: Feed, clock: Clock, steady: Clock) -> None:
        self.store = store
        self._feed = feed
        self._clock = clock
        self._steady = steady
        self._set_by = self._set_by_at_start = clock() - steady()

    async def write(
        self, body: Callable[Concatenate[Change, P], Coroutine[Any, Any, T]], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """One transaction with its events. `body` waits for the transaction alone, as for `Store.ask`.

        If the clock was set, the times of waiting jobs are first moved as much.
        """

        async def whole(tx: Transaction) -> tuple[Change, float, T]:
            change, set_by = await self._begin(tx)
            return change, set_by, await body(change, *arguments, **named)

        change, set_by, result = await self.store.ask(whole)
        self._done(change, set_by)
        return result

    async def _begin(self, tx: Transaction) -> tuple[Change, float]:
        now, set_by = self._clock(), self._clock() - self._steady()
        jump = set_by - self._set_by
        if abs(jump) > CLOCK_WAS_SET_SECONDS:
            await rows.shift(tx, jump)
        return Change(tx, now), set_by

    def _done(self, change: Change, set_by: float) -> None:
        """Call it after the commit, because a rollback also undoes the move."""
        if abs(set_by - self._set_by) > CLOCK_WAS_SET_SECONDS:
            self._set_by = set_by
        self._feed.publish(change.events)

    def surely(self) -> float:
        """A time that has surely come: the clock's time, or the time without changes if somebody set it forward."""
        return min(self._clock(), self._steady() + self._set_by_at_start)


class Writer:
    """A part of the daemon whose methods write to the database, each in one transaction."""

    def __init__(self, log: EventLog) -> None:
        self.log = log


W = TypeVar("W", bound=Writer)


def written(
    method: Callable[Concatenate[W, Change, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[W, P], Coroutine[Any, Any, T]]:
    """A method that is one transaction with its events: its callers leave out `change`."""

    @wraps(method)
    async def whole(self: W, *arguments: P.args, **named: P.kwargs) -> T:
        return await self.log.write(partial(method, self), *arguments, **named)

    return whole
