"""`archive.remove`. Real parts over a synthetic genome folder."""

import json
from pathlib import Path

import anyio
import pytest
from controlled import Desk
from parts import Parts, claim
from synthetic import ALIAS, DIGEST, Genomes

from refgenied.model import JobState

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


async def test_remove_forgets_leaves_the_file_and_holds(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.settle()
    found = await desk.ask("archive.remove", path="t7/fasta")
    assert (found["registry_path"], found["deleted"], found["there"]) == (NAME, False, True)
    assert Path(found["path"]).exists()
    assert await parts.record(key) is None
    assert (await desk.ask("server.scan"))["queued"] == [], "it does not come back by itself"
    manifest = json.loads(Path(found["path"]).with_suffix(".json").read_text())
    assert manifest["removed"]["by"] == "ann", "a database made anew from the folder knows of it"
    assert (await desk.refused("archive.remove", path="t7/fasta"))["data"]["kind"] == "archive_not_found"
    (genomes.folder(key) / "fasta").write_bytes(b"new")
    genomes.start(key)
    genomes.finish(key)
    assert (await desk.ask("server.scan"))["queued"] == [NAME], "but rebuilt it does"


async def test_remove_with_the_file_also_when_the_asset_or_the_manifest_is_gone(
    parts: Parts, desk: Desk, genomes: Genomes
) -> None:
    key = genomes.build()
    await parts.settle()
    genomes.groups.clear()
    genomes.write_config()
    genomes.folder(key).rename(genomes.root / "elsewhere")
    await parts.reconciler.look_again()
    await parts.reconciler.look_again()
    record = await parts.record(key)
    assert record
    path = Path(parts.archive_folder.path, record.path)
    path.with_suffix(".json").unlink()
    found = await desk.ask("archive.remove", path=f"{ALIAS}/fasta", delete_file=True)
    assert (found["deleted"], found["there"]) == (True, False)
    assert not path.exists()
    assert await parts.record(key) is None


async def test_remove_never_takes_another_asset_of_the_group(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    parts.change_settings(automatic=False)
    genomes.build(asset="first")
    genomes.build(asset="second")
    await desk.ask("archive.create", path="t7/fasta:second")
    await parts.work()
    assert (await desk.refused("archive.remove", path="t7/fasta"))["data"]["kind"] == "archive_not_found"
    assert len((await desk.ask("archive.list"))["archives"]) == 1


async def test_remove_cancels_the_job_first(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.settle()
    await desk.ask("archive.create", path="t7/fasta", force=True)
    await desk.ask("archive.remove", path="t7/fasta")
    job = await parts.latest(key)
    assert (job.state, job.error) == (JobState.CANCELLED, "cancelled by ann")
    assert [event.kind for event in await parts.events()][-2:] == ["job.cancelled", "archive.removed"]


async def test_remove_waits_until_a_running_job_has_ended(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.settle()
    await desk.ask("archive.create", path="t7/fasta", force=True)
    job = await claim(parts.jobs)
    assert job
    packing = anyio.Event()

    async def pack() -> None:
        with parts.jobs.running[job.id].scope:
            packing.set()
            await anyio.sleep_forever()
        await parts.jobs.end_cancelled(job, "cancelled", "cancelled by ann")

    async with anyio.create_task_group() as group:
        group.start_soon(pack)
        await packing.wait()
        await desk.ask("archive.remove", path="t7/fasta")
    assert [event.kind for event in await parts.events()][-2:] == ["job.cancelled", "archive.removed"]
    assert await parts.record(key) is None
