"""What the verbs work with; the daemon builds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.catalog.updater import Keeper
from refgenied.config import Current
from refgenied.control.readers import Readers
from refgenied.health import Clock, Health
from refgenied.maintenance.importer import Importer
from refgenied.maintenance.rights import Rights
from refgenied.maintenance.verifier import Verifier
from refgenied.queue.feed import Feed
from refgenied.queue.jobs import Jobs
from refgenied.queue.pause import Pause
from refgenied.reconciler import Reconciler
from refgenied.store import Store
from refgenied.watcher import Watcher


@dataclass(frozen=True)
class Context:
    store: Store
    feed: Feed
    jobs: Jobs
    pause: Pause
    reconciler: Reconciler
    archive_folder: ArchiveFolder
    keeper: Keeper
    health: Health
    current: Current
    clock: Clock
    started_at: float
    began: float
    """The same moment on the monotonic clock, which nobody sets."""
    watcher: Watcher
    verifier: Verifier
    rights: Rights
    importer: Importer
    readers: Readers
    shutdown: Callable[[], None]
    """Begin to drain; returns at once."""
    reload: Callable[[], Awaitable[list[str]]]
    """Read the configuration again: the settings that changed and need a restart. Raises ConfigError."""

    def aliases(self, genome_digest: str) -> tuple[str, ...]:
        """The genome's aliases, as the last look found them."""
        genome = self.reconciler.look.genomes.get(genome_digest)
        return genome.aliases if genome else ()
