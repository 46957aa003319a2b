"""What every part of the daemon works with."""

from __future__ import annotations

from dataclasses import dataclass

from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.config import Current
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
