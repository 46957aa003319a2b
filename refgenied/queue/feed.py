"""Events for subscribers. They get events after the commit, in order, and cannot make the daemon wait."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import anyio

from refgenied.model import AssetKey, Event

MOST_EVENTS_WAITING = 1000
"""Events that may wait for one subscriber. A subscriber that is slower is told `lagged` and gets nothing more."""


class Subscription:
    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._kinds = kinds
        self._waiting: list[Event] = []
        self._arrived = anyio.Event()
        self.lagged = False

    @property
    def pending(self) -> bool:
        """Whether `take` would return at once."""
        return bool(self._waiting) or self.lagged

    def offer(self, event: Event) -> None:
        if not event.kind.startswith(self._kinds):
            return
        if len(self._waiting) >= MOST_EVENTS_WAITING:
            self.lagged = True
            self._waiting.clear()
        if not self.lagged:
            self._waiting.append(event)
        self._arrived.set()

    async def take(self) -> list[Event]:
        """Wait for events and take all of them. After the subscriber has lagged, the list is empty."""
        while not self.pending:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        taken, self._waiting = self._waiting, []
        return taken

    def skip(self) -> None:
        """Drop the waiting events, and begin again after a lag."""
        self._waiting.clear()
        self.lagged = False


class Touched(Subscription):
    """The assets that events were about, each once, for who reads them again later. It cannot lag: it holds at most
    one key of each asset.
    """

    def __init__(self, kinds: tuple[str, ...]) -> None:
        super().__init__(kinds)
        self.keys: set[AssetKey] = set()

    def offer(self, event: Event) -> None:
        if event.key is not None and event.kind.startswith(self._kinds):
            self.keys.add(event.key)


class Feed:
    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def touched(self, *kinds: str) -> Touched:
        """The assets of all events of these kinds from now on, until the daemon ends."""
        touched = Touched(kinds or ("",))
        self._subscriptions.add(touched)
        return touched

    def subscribe(self, *kinds: str) -> Subscription:
        """Events of which the kind begins with one of `kinds` (no kinds: all events), until the daemon ends."""
        subscription = Subscription(kinds or ("",))
        self._subscriptions.add(subscription)
        return subscription

    @contextmanager
    def subscribed(self, *kinds: str) -> Generator[Subscription]:
        """`subscribe` until the end of the `with`."""
        subscription = self.subscribe(*kinds)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def publish(self, events: Iterable[Event]) -> None:
        """Hand committed events to all subscribers; never waits."""
        for event in events:
            for subscription in self._subscriptions:
                subscription.offer(event)
