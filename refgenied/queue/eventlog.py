"""A change and its events are one transaction, and waits last as long as they should also when the clock is set."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from refgenied.health import Clock
from refgenied.model import AssetKey, Event
from refgenied.queue.feed import Feed
from refgenied.store import Store, Transaction, events
from refgenied.store import jobs as rows

JUMP = 1.0
"""Seconds by which the clock is off from one moment to the next: somebody has set it."""


def since_boot() -> float:
    """Seconds, also those that the machine slept. Nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Change:
    """One transaction, and the events that subscribers hear of after its commit."""

    def __init__(self, tx: Transaction, now: float) -> None:
        self.tx = tx
        self.now = now
        self.events: list[Event] = []

    async def log(self, kind: str, key: AssetKey | None = None, job: int | None = None, **data: Any) -> None:
        self.events.append(await events.add(self.tx, kind, at=self.now, key=key, job=job, **data))


class EventLog:
    def __init__(self, store: Store, feed: Feed, clock: Clock, steady: Clock) -> None:
        self._store = store
        self._feed = feed
        self._clock = clock
        self._steady = steady
        self._set_by = self._set_by_at_start = clock() - steady()

    @asynccontextmanager
    async def change(self) -> AsyncGenerator[Change]:
        """What waits is moved first by as much as the clock was set since the last change."""
        async with self._store.transaction() as tx:
            now, set_by = self._clock(), self._clock() - self._steady()
            jump = set_by - self._set_by
            if abs(jump) > JUMP:
                await rows.shift(tx, jump)
            change = Change(tx, now)
            yield change
        if abs(jump) > JUMP:  # only now: a change that was rolled back has shifted nothing
            self._set_by = set_by
        self._feed.publish(change.events)

    def surely(self) -> float:
        """It is at least so late: the clock's time, or what it would be without having been set forward since."""
        return min(self._clock(), self._steady() + self._set_by_at_start)
