"""The objects that the verbs use. The daemon makes them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from refgenied.catalog.updater import Updater
from refgenied.control.readers import Readers
from refgenied.maintenance.importer import Importer
from refgenied.maintenance.rights import Rights
from refgenied.maintenance.verifier import Verifier
from refgenied.queue.core import Core
from refgenied.queue.pause import Pause
from refgenied.reconciler import Reconciler
from refgenied.store import Store
from refgenied.watcher import Watcher


@dataclass(frozen=True)
class Context(Core):
    pause: Pause
    reconciler: Reconciler
    catalog: Updater
    watcher: Watcher
    verifier: Verifier
    rights: Rights
    importer: Importer
    readers: Readers
    started_at: float
    began: float
    """The same moment on the monotonic clock. Nobody can set this clock."""
    shutdown: Callable[[], None]
    """Begin to drain; returns at once."""
    reload: Callable[[], Awaitable[list[str]]]
    """Read the configuration again. It returns the settings that changed and need a restart. Raises ConfigError."""

    @property
    def store(self) -> Store:
        return self.jobs.store

    def aliases(self, genome_digest: str) -> tuple[str, ...]:
        """The genome's aliases, from the last look."""
        genome = self.reconciler.look.genomes.get(genome_digest)
        return genome.aliases if genome else ()
