"""Waiting for something that concerns one asset or one job, without missing it and without waiting for ever."""

from __future__ import annotations

import anyio

from refgenied.model import AssetKey
from refgenied.queue.feed import Subscription


class Changes:
    """Open the subscription before the state is read: what changes in between is then seen."""

    def __init__(self, subscription: Subscription, *, key: AssetKey) -> None:
        self._subscription = subscription
        self._key = key

    async def wait(self, seconds: float) -> bool:
        """Whether the asset's jobs or archive may have changed within so many seconds; returns at once when so."""
        with anyio.move_on_after(seconds):
            while True:
                events = await self._subscription.take()
                if self._subscription.lagged:
                    self._subscription.lagged = False  # nothing is passed on from here: look at the state anew
                    return True
                if any(event.key == self._key for event in events):
                    return True
        return False
