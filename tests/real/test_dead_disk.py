"""A genome folder on a disk that does not answer, before the eyes of a whole server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import REPOSITORY, Lab

HANG = """
import os, sys, time
if "run" in sys.orig_argv:
    import refgenied.reconciler.reconciler
    refgenied.reconciler.reconciler.FIRST_LOOK_ANSWER_SECONDS = 0.1
    from refgenied.genomes.folder import GenomeFolder
    look = GenomeFolder.look
    def hanging(self, now):
        while os.path.exists({flag!r}):
            time.sleep(3600)
        return look(self, now)
    GenomeFolder.look = hanging
"""


class DeadDisk(Lab):
    """Its daemon's looks do not come back while `flag` is there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.flag = root / "hangs"
        (root / "patch").mkdir()
        (root / "patch/sitecustomize.py").write_text(HANG.format(flag=str(self.flag)))

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PYTHONPATH": f"{self.root}/patch:{REPOSITORY}"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[DeadDisk]:
    lab = DeadDisk(tmp_path)
    yield lab
    lab.close()


def test_a_dead_genome_disk_keeps_the_daemon_neither_from_starting_nor_answering_nor_ending(lab: DeadDisk) -> None:
    lab.flag.touch()
    daemon = lab.start()
    assert lab.ctl("status").code == 0
    said = lab.ctl("asset", "list")
    assert said.code == 1, said
    assert "the first look at" in said.err, said
    assert lab.ctl("archive", "list").code == 0
    assert daemon.stop() == 0
