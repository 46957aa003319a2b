"""Editions: the state of `genome_config.yaml` and of the archives in it at one moment. Which edition does a client see?

When an archive is published again, its flat name leads to the new file before the config names it. A server with the
old config must still send the old file. It noted which file this is when it read the config (`served_archive`).

`refgenie pull` asks for the digest first and then for the archive. If the archive is published again between the two,
the client must still get the archive with that digest, or else it refuses the file. So a client that was told a digest
sees the edition with that digest until it has the archive, for two minutes at most.
"""

import time
from collections import deque
from contextvars import ContextVar
from typing import Any

from starlette.types import Message

from refgenied.catalog.sound import ConfigTree
from refgenied.files.durable import LONGEST_NAME_BYTES
from refgenied.model import AssetKey
from refgenied.serve.served_archive import ServedArchive

PROMISE_SECONDS = 120.0
"""A client that was told a digest may ask for the archive within this time."""
SUPERSEDED_SECONDS = 600.0
"""This long after an edition was replaced, no client sees it any more."""
MOST_PROMISES = 10_000
MOST_TOLD = 1_000
"""A client that was told more often, and has asked for no archive, is promised the last ones."""


class ConfigEdition:
    """`rgc` is refgenie's own object for the config, without the entries that cannot be served."""

    def __init__(
        self,
        rgc: Any,
        genomes: ConfigTree,
        archives: dict[AssetKey, ServedArchive],
        identity: tuple[int, ...],
        mended: tuple[str, ...],
    ) -> None:
        self.rgc = rgc
        self.genomes = genomes
        """Digest → genome, as the config has it."""
        self.mended = mended
        """Lines about parts of the config that were changed or left out, because they cannot be served."""
        self.archives = archives
        self.identity = identity
        """The identity of the config's file; empty when there is no config."""
        self.lists: dict[str, list[Message]] = {}
        """Path and query → the answer, as ASGI messages, of requests that list all of the edition."""
        self.superseded_at: float | None = None
        """When another edition replaced this one, in monotonic seconds."""

    @property
    def remotes(self) -> dict[str, str]:
        """Name → address."""
        remotes: dict[str, dict[str, str]] = self.rgc["remotes"]
        return {name: remote["prefix"] for name, remote in remotes.items()}

    def named(self, genome: str, name: str) -> ServedArchive | None:
        """The archive with files named `{asset group}__{asset}`; None when it is not served."""
        at = name.find("__") if len(name) <= LONGEST_NAME_BYTES else -1
        while at >= 0:  # usually once; only one of several possible assets is served
            archive = self.archives.get(AssetKey(genome, name[:at], name[at + 2 :]))
            if archive is not None:
                return archive
            at = name.find("__", at + 1)
        return None

    def digest_of(self, genome: str) -> str:
        """The genome's digest for a digest or an alias; any other text is returned as it is."""
        try:
            return str(self.rgc.get_genome_alias_digest(alias=genome, fallback=True))
        except Exception:  # noqa: BLE001 - each version of yacman raises another error
            return genome

    def key_of(self, genome: str, group: str, asset: str | None) -> AssetKey:
        """The asset of a request."""
        digest = self.digest_of(genome)
        return AssetKey(digest, group, asset or str(self.rgc.get_default_tag(digest, group)))


in_view: ContextVar[ConfigEdition] = ContextVar("in_view")
"""The edition that the current request sees, from its first line to its last."""


class _Promise:
    def __init__(self, edition: ConfigEdition) -> None:
        self.edition = edition
        self.told: deque[float] = deque(maxlen=MOST_TOLD)

    @property
    def is_over(self) -> bool:
        now = time.monotonic()
        while self.told and self.told[0] < now - PROMISE_SECONDS:
            self.told.popleft()
        since = self.edition.superseded_at
        return not self.told or (since is not None and since < now - SUPERSEDED_SECONDS)


class Shelf:
    """The current edition, and older editions that were promised to clients."""

    def __init__(self, edition: ConfigEdition) -> None:
        self.current = edition
        self._promises: dict[tuple[str, AssetKey], _Promise] = {}
        """The one that was told last is the last."""

    def put(self, edition: ConfigEdition) -> None:
        """Make this the current edition, for all new requests.

        A promise that it keeps as well is now a promise of this edition. So an older one is kept in memory only for
        those of its archives that are others now.
        """
        self.current.superseded_at = time.monotonic()
        self.current = edition
        for (_, key), promise in self._promises.items():
            if self._is_same(promise, key):
                promise.edition = edition
        self.tidy()

    def view(self, client: str, key: AssetKey) -> ConfigEdition:
        """The edition that this client sees when it asks for the asset."""
        promise = self._promises.get((client, key))
        if promise is None:
            return self.current
        if promise.is_over:
            del self._promises[client, key]
            return self.current
        return self.current if self._is_same(promise, key) else promise.edition

    def _is_same(self, promise: _Promise, key: AssetKey) -> bool:
        """Whether the current edition has the promised archive."""
        promised, now = promise.edition.archives.get(key), self.current.archives.get(key)
        return promised is None or (now is not None and now.digest == promised.digest)

    def told(self, client: str, key: AssetKey, edition: ConfigEdition) -> None:
        """Note that the client was told the digest in this edition."""
        promise = self._promises.pop((client, key), None)
        if promise is None or promise.edition.archives.get(key) is not edition.archives.get(key):
            promise = _Promise(edition)
        self._promises[client, key] = promise
        promise.told.append(time.monotonic())
        while len(self._promises) > MOST_PROMISES:
            del self._promises[next(iter(self._promises))]

    def kept(self, client: str, key: AssetKey) -> None:
        """Note that the client has the archive."""
        promise = self._promises.get((client, key))
        if promise is not None:
            promise.told.popleft()
            if not promise.told:
                del self._promises[client, key]

    def forget(self, client: str, key: AssetKey) -> None:
        """The promised archive is gone: drop the promise, so the client is told the current digest next time."""
        self._promises.pop((client, key), None)

    def tidy(self) -> None:
        """Forget the promises whose time is over, and look at no others."""
        oldest = time.monotonic() - PROMISE_SECONDS
        while self._promises:
            who, promise = next(iter(self._promises.items()))
            if promise.told[-1] >= oldest:
                return
            del self._promises[who]
