"""Verbs about jobs and the queue. Real parts over a synthetic genome folder."""

import pytest
from controlled import Desk
from parts import Parts, claim
from synthetic import Genomes

from refgenied.model import ConflictError

pytestmark = pytest.mark.anyio


async def test_job_list_get_cancel_retry(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    for group in "abc":
        genomes.build(group)
    await parts.reconciler.look_again()
    running = await claim(parts.jobs)
    assert running
    listed = (await desk.ask("job.list"))["jobs"]
    assert [job["state"] for job in listed] == ["running", "queued", "queued"]
    first = await desk.ask("job.list", limit=2)
    assert [job["job"] for job in (await desk.ask("job.list", skip=first["next"]))["jobs"]] == [listed[2]["job"]]
    number = listed[1]["job"]
    assert (await desk.ask("job.cancel", job=number))["state"] == "cancelled"
    assert (await desk.ask("job.get", job=number))["error"] == "cancelled by ann"
    assert [job["job"] for job in (await desk.ask("job.list", ended=5))["jobs"]][-1] == number
    assert (await desk.refused("job.cancel", job=number))["code"] == ConflictError.code
    assert (await desk.ask("job.retry", job=number))["state"] == "queued"
    assert (await desk.refused("job.get", job=999))["data"]["kind"] == "job_not_found"


async def test_pause_and_resume(parts: Parts, desk: Desk) -> None:
    assert await desk.ask("queue.pause") == {"paused": "paused by ann", "changed": True}
    assert (await desk.ask("queue.pause"))["changed"] is False
    assert parts.pause.active
    assert await desk.ask("queue.resume") == {"paused": "", "changed": True}
    assert (await desk.ask("queue.resume"))["changed"] is False
