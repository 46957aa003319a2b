"""Event fan-out: subscribers hear of a change after its commit, in order, and never hold the daemon up."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import anyio

from refgenied.model import Event

QUEUE = 1000
"""Events that may wait for one subscriber; one that is slower than that is told `lagged` and cut."""


class Subscription:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: list[Event] = []
        self._arrived = anyio.Event()
        self.lagged = False

    def offer(self, event: Event) -> None:
        if len(self._waiting) >= self._limit:
            self.lagged = True
            self._waiting.clear()
        if not self.lagged:
            self._waiting.append(event)
        self._arrived.set()

    async def take(self) -> list[Event]:
        """Wait for events and take all that are there; an empty list once the subscriber has lagged."""
        while not self._waiting and not self.lagged:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        taken, self._waiting = self._waiting, []
        return taken


class Feed:
    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    @contextmanager
    def subscribed(self, limit: int = QUEUE) -> Generator[Subscription]:
        subscription = Subscription(limit)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def publish(self, events: Iterable[Event]) -> None:
        """Hand committed events to all subscribers; never waits."""
        for event in events:
            for subscription in self._subscriptions:
                subscription.offer(event)
