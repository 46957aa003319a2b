"""The edition in force, and the one that a client was told of.

`refgenie pull` asks for the digest first and for the archive after that. When the archive is published again in
between, the client must get the one it was told of, or it refuses what it gets. So who was told of an archive sees that
one until he has it, for two minutes at most.
"""

from __future__ import annotations

import time
from collections import deque
from contextvars import ContextVar
from typing import Any

from refgenied.model import AssetKey
from refgenied.serve.editions import Edition

PROMISE_SECONDS = 120.0
"""From the digest to the archive."""
SUPERSEDED_SECONDS = 600.0
"""An edition that was replaced so long ago binds nobody."""
MOST_PROMISES = 10_000

in_view: ContextVar[Edition] = ContextVar("in_view")
"""The edition that the request under way sees, from its first line to its last."""


class _Promise:
    def __init__(self, edition: Edition) -> None:
        self.edition = edition
        self.told: deque[float] = deque()


class Shelf:
    def __init__(self, edition: Edition) -> None:
        self.current = edition
        self._promises: dict[tuple[str, AssetKey], _Promise] = {}

    def put(self, edition: Edition) -> None:
        """From now on new requests see this one."""
        self.current.superseded_at = time.monotonic()
        self.current = edition
        self.tidy()

    def view(self, client: str, key: AssetKey) -> Edition:
        """What this client is to see of the asset."""
        promise = self._promises.get((client, key))
        if promise is None:
            return self.current
        if self._is_over(promise):
            del self._promises[client, key]
            return self.current
        ours, now = promise.edition.archives.get(key), self.current.archives.get(key)
        return self.current if ours is None or (now is not None and now.digest == ours.digest) else promise.edition

    def told(self, client: str, key: AssetKey, edition: Edition) -> None:
        """The client knows the digest that this edition has."""
        promise = self._promises.get((client, key))
        if promise is None or promise.edition.archives.get(key) is not edition.archives.get(key):
            promise = self._promises[client, key] = _Promise(edition)
        promise.told.append(time.monotonic())
        while len(self._promises) > MOST_PROMISES:
            del self._promises[next(iter(self._promises))]

    def kept(self, client: str, key: AssetKey) -> None:
        """The client has the archive."""
        promise = self._promises.get((client, key))
        if promise is not None:
            promise.told.popleft()
            if not promise.told:
                del self._promises[client, key]

    def forget(self, client: str, key: AssetKey) -> None:
        """What this client was told of is not to be had any more: next time it is told of what there is."""
        self._promises.pop((client, key), None)

    def tidy(self) -> None:
        """Forget what nobody waits for."""
        for who in [who for who, promise in self._promises.items() if self._is_over(promise)]:
            del self._promises[who]

    def _is_over(self, promise: _Promise) -> bool:
        now = time.monotonic()
        while promise.told and promise.told[0] < now - PROMISE_SECONDS:
            promise.told.popleft()
        since = promise.edition.superseded_at
        return not promise.told or (since is not None and since < now - SUPERSEDED_SECONDS)


class InView:
    """Stands where refgenieserver has its config object, and is the one that the request under way sees."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def _rgc(self) -> Any:
        return in_view.get(self._shelf.current).rgc

    def get_genome_alias(self, digest: str, **named: Any) -> Any:
        """A page of an asset whose parent is of a genome that is not served shows that genome's digest."""
        try:
            return self._rgc().get_genome_alias(digest=digest, **named)
        except Exception:  # noqa: BLE001 - yacman has an error of its own for each of its versions
            return digest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rgc(), name)

    def __getitem__(self, name: str) -> Any:
        return self._rgc()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rgc()
