"""`archive.wait`. Real parts over a synthetic genome folder."""

import anyio
import pytest
from controlled import Desk
from parts import Parts, claim
from synthetic import DIGEST, Genomes

from refgenied.model import UnsafeTreeError
from refgenied.shared.progress import Progress

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


async def test_wait_returns_at_once_for_what_is_archived_as_it_is(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    found = await desk.ask("archive.wait", path="t7/fasta")
    assert (found["state"], found["archive"]["registry_path"]) == ("archived", NAME)


async def test_wait_right_after_a_build_sees_the_job_through(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()  # nobody has looked since
    async with anyio.create_task_group() as group:
        group.start_soon(parts.worker.run)
        with anyio.fail_after(10):
            found = await desk.ask("archive.wait", path="t7/fasta", progress=True)
        group.cancel_scope.cancel()
    assert found["state"] == "archived"


async def test_wait_for_a_rebuild_is_not_content_with_the_old_archive(
    parts: Parts, desk: Desk, genomes: Genomes
) -> None:
    key = genomes.build()
    await parts.settle()
    genomes.start(key)
    found = await desk.ask("archive.wait", path="t7/fasta", timeout=0.1)
    assert found["state"] == "timeout", found
    assert "being built" in found["reason"]
    async with anyio.create_task_group() as group:
        group.start_soon(parts.worker.run)
        group.start_soon(parts.reconciler.run)

        async def rebuild() -> None:
            (genomes.folder(key) / "fasta").write_bytes(b"new content")
            genomes.finish(key)
            parts.reconciler.hint()

        group.start_soon(rebuild)
        with anyio.fail_after(10):
            found = await desk.ask("archive.wait", path="t7/fasta")
        group.cancel_scope.cancel()
    assert (found["state"], found["archive"]["source_size"]) == ("archived", len(b"new content"))


async def test_wait_tells_of_a_failed_job(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.reconciler.look_again()
    job = await claim(parts.jobs)
    assert job
    await parts.jobs.fail(job, UnsafeTreeError("a device: x"))
    found = await desk.ask("archive.wait", path="t7/fasta")
    assert (found["state"], found["reason"], found["job"]["error_kind"]) == ("failed", "a device: x", "unsafe_tree")


async def test_wait_ends_at_once_for_what_is_not_archived_by_itself(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    parts.change_settings(exclude=("t7/fasta",))
    key = genomes.build()
    for _ in ("complete", "building"):
        error = await desk.refused("archive.wait", path="t7/fasta")
        assert (error["code"], error["data"]["kind"]) == (1011, "asset_not_wanted")
        assert "excluded by archive.exclude" in error["message"]
        genomes.start(key)
    assert (await desk.refused("archive.wait", path="t7/nothing"))["data"]["kind"] == "asset_not_found"


async def test_wait_shows_progress_of_the_running_job(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.reconciler.look_again()
    job = await claim(parts.jobs)
    assert job
    parts.jobs.progress[job.id] = Progress("packing", 5, 10, 2.5)
    found = await desk.lines("archive.wait", path="t7/fasta", progress=True, timeout=0.6)
    assert found[0]["params"] == {"watch": 1, "job": job.id, "phase": "packing", "done": 5, "total": 10, "rate": 2.5}
    assert found[-1]["result"]["state"] == "timeout"
    assert len(found) == 2, "the same reading is told once"
