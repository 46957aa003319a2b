"""Start, stop, reload and kill: whatever happens, the end state is the same."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from imitated_builds import Building
from lab import Lab
from proof import md5_of, prove
from refgenie_cli import Refgenie, recipe_of

pytestmark = pytest.mark.needs("refgenie")


DIGEST = "0123456789abcdef0123456789abcdef0123456789abcdef"


def test_a_second_daemon_says_who_holds_the_state(lab: Lab) -> None:
    first = lab.start()
    second = lab.launch()
    second.expected = 75
    assert second.ended() == 75
    assert f"pid {first.process.pid}" in second.said
    assert str(lab.state) in second.said
    assert lab.ctl("status").code == 0, "the second took the socket away"
    assert first.stop() == 0
    assert not lab.socket.exists()


def test_a_broken_configuration_is_one_line_and_78(lab: Lab) -> None:
    lab.configure(archive={"thread": 3})
    daemon = lab.launch()
    daemon.expected = 78
    assert daemon.ended() == 78
    first = daemon.said.splitlines()[0]
    assert "thread" in first
    assert str(lab.config) in first
    assert "Traceback" not in daemon.said


def test_without_a_daemon_the_client_says_what_to_do(lab: Lab) -> None:
    said = lab.ctl("status")
    assert said.code == 3
    assert str(lab.socket) in said.err


def test_sigterm_gives_a_packing_job_back_and_the_next_start_goes_on(
    lab: Lab, refgenie: Refgenie, tmp_path: Path
) -> None:
    lab.configure(archive={"threads": 1})
    daemon = lab.start()
    with lab.following() as events:
        events.until("archive.published", "fasta")
        refgenie.rounds("demo/big", 1, recipe=recipe_of(tmp_path, "big", files=8, size=12_000_000))
        events.until("job.running", "big")
        assert daemon.stop() == 0
    assert not list(lab.archives.rglob("big__*")), "it packed to the end first"
    assert lab.partials() == []
    lab.start()
    prove(lab.archived("demo/big"), lab.archives, refgenie.folder("demo/big"))
    jobs = [row for row in lab.rows("queue", "list", "--all") if "/big:" in row["registry_path"]]
    assert [(row["state"], row["attempts"]) for row in jobs] == [("succeeded", 1)]


def test_the_second_sigterm_ends_now(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    daemon = lab.start()
    with lab.following() as events:
        events.until("archive.published", "fasta")
        refgenie.rounds("demo/big", 1, recipe=recipe_of(tmp_path, "big", files=8, size=12_000_000))
        events.until("job.running", "big")
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGTERM)
        assert daemon.ended() == 0
    lab.start()
    prove(lab.archived("demo/big"), lab.archives, refgenie.folder("demo/big"))
    assert lab.partials() == []


def test_sighup_brings_new_patterns_into_force(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    lab.configure(archive={"exclude": ["*/draft"]})
    daemon = lab.start()
    refgenie.rounds("demo/draft", 1, recipe=recipe_of(tmp_path, "draft"))
    assert lab.wait("demo/draft").code == 1
    lab.configure()
    daemon.signal(signal.SIGHUP)
    while {row["name"]: row["value"] for row in settings(lab)}["archive.exclude"]:
        assert daemon.process.poll() is None
    lab.archived("demo/draft")

    lab.configure(archive={"exclude": 3})
    daemon.signal(signal.SIGHUP)
    assert lab.ctl("reload").code == 1, "a wrong configuration is refused"
    assert lab.ctl("status").code == 0, "and the old one holds"


def settings(lab: Lab) -> list[dict[str, object]]:
    return lab.rows("call", "config.get", "{}")[0]["settings"]


def recorded(lab: Lab) -> list[tuple[str, str]]:
    """Path and digest of each archive row, read from a copy of the dead daemon's database."""
    copy = lab.root / "copy"
    copy.mkdir(exist_ok=True)
    for path in copy.iterdir():
        path.unlink()
    for path in lab.state.glob("refgenied.sqlite3*"):
        (copy / path.name).write_bytes(path.read_bytes())
    database = sqlite3.connect(copy / "refgenied.sqlite3")
    try:
        return database.execute("SELECT path, digest FROM archive").fetchall()
    finally:
        database.close()


def test_kill_9_at_ten_random_points(lab: Lab) -> None:
    building = Building(lab.genomes, DIGEST, "fast", size=3_000_000)
    dice = random.Random()
    daemon = lab.start()
    for number in range(1, 11):
        if number % 2:
            building.build(number, 0.0)
            time.sleep(dice.uniform(0, 0.7))  # anywhere between the hint and some time after the publish
        else:
            with lab.following() as events:
                for _ in range(len(lab.events("job.running"))):
                    events.until("job.running")
                building.build(number, 0.0)
                events.until("job.running")
                time.sleep(dice.uniform(0, 0.2))  # anywhere between the first byte read and the record
        daemon.kill()
        for path, digest in recorded(lab):  # a row means: that file is there, durably
            # a newer file may stand there already, whose row the kill prevented; then its manifest names it
            found = md5_of(lab.archives / path)
            assert found == digest or found in (lab.archives / path).with_suffix(".json").read_text(), path
        daemon = lab.start()
        prove(lab.archived("fast/rounds"), lab.archives, building.folder)
        assert lab.archive("fast/rounds")["asset_digest"] == building.asset_digest
        assert lab.partials() == [], f"round {number}"
    assert lab.rows("queue", "list") == []
    assert lab.rows("status")[0]["health"] == []
