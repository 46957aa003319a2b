"""Packing in a process of its own: on a full disk, and how much memory it takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import HELPERS
from packing import KEY, make_tree, noise

from refgenied.archive.format.manifest import iter_files
from refgenied.archive.place import Place

FULL_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from packing import draft_of, below
from refgenied.model import NoSpaceError
try:
    draft_of(Path({source!r}), Path("disk/archives"), threads=2)
except NoSpaceError as error:
    print(error.message)
    print(below(Path("disk")))
"""


def test_a_full_disk_is_no_space_and_leaves_nothing(tmp_path):
    source = make_tree(tmp_path / "source", {b"a": noise(30_000_000)})
    (tmp_path / "disk").mkdir()
    code = FULL_DISK.format(tests=str(HELPERS), source=str(source))
    script = 'mount -t tmpfs -o size=8m tmpfs disk && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no private tmpfs can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    message, left = done.stdout.splitlines()
    assert "has no room for .fasta__default.tgz.partial" in message
    assert "bytes are free" in message
    assert left == "['archives']"


def test_memory_stays_bounded_with_many_files_and_a_big_one(tmp_path):
    """In a process of its own, for its own peak: 60 MB of it is Python with what it imports."""
    source = make_tree(tmp_path / "source", {b"big": b"ACGTTGCA" * 5_000_000})
    for number in range(1500):
        (source / f"{number:04}").write_bytes(b"%d" % number)
    code = (
        f"import sys; sys.path.insert(0, {str(HELPERS)!r})\n"
        "from pathlib import Path; from packing import publish\n"
        f"publish(Path({str(source)!r}), Path({str(tmp_path / 'archives')!r}), threads=2)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 100_000
    place = Place(tmp_path / "archives", KEY)
    entries = list(iter_files(place.manifest))
    assert len(entries) == 1502
    assert place.entries.exists()
