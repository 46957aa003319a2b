"""The objects that every part of the daemon uses."""

from dataclasses import dataclass

from anyio.from_thread import check_cancelled

from refgenied.archive.run import OnProgress, Run, no_progress
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.config.settings import Current
from refgenied.genomes.folder import GenomeFolder
from refgenied.health import Clock, Health
from refgenied.queue.jobs import Jobs


@dataclass(frozen=True)
class Core:
    genomes: GenomeFolder
    archive_folder: ArchiveFolder
    jobs: Jobs
    current: Current
    health: Health
    clock: Clock

    def archive_run(self, on_progress: OnProgress = no_progress) -> Run:
        """A `Run` for long work of the archive engine in one of anyio's threads. A cancellation ends the work."""
        return Run(self.current.settings.archive.threads, check_cancelled, on_progress)
