"""`server.info`, `server.scan`, `server.reload`, `server.shutdown`. Real parts over a synthetic genome folder."""

import pytest
from controlled import Asked, Desk
from parts import Parts, claim
from synthetic import DIGEST, Genomes

from refgenied.shared.progress import Progress

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


async def test_info(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    genomes.build("index")
    genomes.start(genomes.build("slow"))
    before = await desk.ask("server.info")
    assert (before["genome_folder"]["ok"], before["last_look"]["at"]) == (False, 0)
    await parts.reconciler.look_again()
    job = await claim(parts.jobs)
    assert job
    parts.jobs.progress[job.id] = Progress("packing", 5, 10, 2.5)
    await parts.pause.pause(desk.peer.requester)
    parts.health.set("watch", "broken")
    info = await desk.ask("server.info")
    assert info["genome_folder"]["path"] == str(genomes.root)
    assert info["genome_folder"]["ok"]
    assert info["archive_folder"]["free"] > 0
    assert info["assets"]["states"] == {"complete": 2, "building": 1}
    assert info["assets"]["archive"] == {"none": 3, "archived": 0, "stale": 0}
    assert info["queue"] == {"queued": 1, "running": 1, "failed": 0, "paused": "paused by ann"}
    assert info["running"][0]["progress"] == {"phase": "packing", "done": 5, "total": 10, "rate": 2.5}
    assert ("watch", "broken") in [(row["name"], row["message"]) for row in info["health"]]
    assert 60 <= info["uptime"] < 90


async def test_scan_looks_and_says_what_it_queued(desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    found = await desk.ask("server.scan")
    assert (found["assets"], found["states"], found["queued"]) == (1, {"complete": 1}, [NAME])
    assert (await desk.ask("server.scan"))["queued"] == []


async def test_reload_and_shutdown_are_the_daemons(desk: Desk, asked: Asked) -> None:
    asked.restart_needed = ["state.folder"]
    assert await desk.ask("server.reload") == {"restart_needed": ["state.folder"]}
    assert await desk.ask("server.shutdown") == {"shutting_down": True}
    assert (asked.reloads, asked.shutdowns) == (1, 1)
