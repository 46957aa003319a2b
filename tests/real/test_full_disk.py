"""A full archive disk pauses the queue, leaves nothing half-made, and is over by itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab
from proof import prove
from refgenie_cli import Refgenie, recipe_of

pytestmark = pytest.mark.needs("refgenie", "root")


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Path]:
    """The archive folder on a disk of 4 MiB."""
    lab.archives.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(lab.archives)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield lab.archives
    finally:
        lab.close()
        lab.daemons.clear()
        subprocess.run(["umount", str(lab.archives)], check=True)


def test_the_queue_waits_for_room_and_goes_on(small_disk: Path, lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    lab.start()
    lab.archived("demo/fasta")
    with lab.following() as events:
        refgenie.rounds("demo/big", 1, recipe=recipe_of(tmp_path, "big", files=4, size=2_000_000))
        refused = events.until("job.requeued", "big")
    assert refused["data"]["error_kind"] == "no_space"
    while not (status := lab.rows("status")[0])["queue"]["paused"]:
        pass
    assert "space" in [condition["name"] for condition in status["health"]]
    assert "room" in status["queue"]["paused"]
    assert not list(small_disk.rglob("big__*")), "a file under the final name"
    assert lab.partials() == []
    assert [row["attempts"] for row in lab.rows("queue", "list")] == [0], "a full disk charges no attempt"
    assert lab.wait("demo/big", 1).code == 6

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    prove(lab.archived("demo/big"), lab.archives, refgenie.folder("demo/big"))
    status = lab.rows("status")[0]
    assert (status["health"], status["queue"]["paused"]) == ([], "")
