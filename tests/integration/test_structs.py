"""Several threads may be the first that read a struct."""

import subprocess
import sys
from pathlib import Path

from refgenied.archive import pack

READ_AT_ONCE = """
import sys, threading
from pathlib import Path
import refgenied.archive
from refgenied.archive.format.manifest import read_manifest

sys.setswitchinterval(1e-6)
together = threading.Barrier(8)
found = []

def read():
    together.wait()
    found.append(read_manifest(Path(sys.argv[1])))

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == 8
"""


def test_threads_that_read_the_first_manifest_together_do_not_crash(tmp_path: Path) -> None:
    folder = tmp_path / "default"
    folder.mkdir()
    (folder / "x.fa").write_text(">x\nACGT\n")
    pack(folder, tmp_path / "x.tgz")
    for _ in range(10):
        run = [sys.executable, "-c", READ_AT_ONCE, str(tmp_path / "x.json")]
        assert subprocess.run(run, check=False).returncode == 0
