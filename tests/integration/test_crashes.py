"""A job during which the daemon is killed keeps neither the others nor the daemon down."""

import signal
import sys

from lab import HELPERS, Lab
from synthetic import Genomes

KILLING = [sys.executable, str(HELPERS / "killing.py")]


def test_an_asset_whose_pack_always_kills_the_daemon_leaves_all_others_archived(lab: Lab) -> None:
    genomes = Genomes(lab.genomes)
    names = ["a", *(f"b{number:02}" for number in range(20))]
    for name in names:
        genomes.build(name)
    for _ in range(3):
        killed = lab.launch(*KILLING, "a")
        killed.expected = -signal.SIGKILL
        assert killed.ended() == -signal.SIGKILL
    for _ in range(2):  # the next starts change nothing
        daemon = lab.launch(*KILLING, "a")
        daemon.wait_ready()
        assert len(lab.rows("archive", "list")) == 20
        lab.archived("t7/b19")
        (condition,) = lab.rows("status")[0]["health"]
        (job,) = lab.rows("queue", "list")
        assert (job["registry_path"].partition("/")[2], job["state"], job["crashes"]) == ("a:default", "queued", 3)
        assert len(job["crashed_at"]) == 3
        assert "t7/a:default: the daemon was killed 3 times in a row while this job ran (" in condition["message"]
        assert f"refgeniectl queue retry {job['job']}" in condition["message"]
        waited = lab.wait("t7/a", 0.2)
        assert waited.code == 6
        assert "the daemon was killed 3 times in a row" in waited.err
        daemon.stop()
    lab.start()  # this one does not die of it
    assert lab.ctl("queue", "retry", str(job["job"])).code == 0
    lab.archived("t7/a")
    assert lab.rows("status")[0]["health"] == []
