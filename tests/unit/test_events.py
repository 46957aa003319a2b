"""`event.watch` and `job.watch`. Real parts over a synthetic genome folder."""

import anyio
import pytest
from controlled import Desk
from parts import Parts, claim
from synthetic import ALIAS, DIGEST, Genomes
from transactions import changing, transaction

from refgenied.model import NoSpaceError, Priority
from refgenied.queue.feed import MOST_EVENTS_WAITING

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


async def test_job_watch_from_queued_to_the_end(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.reconciler.look_again()
    async with anyio.create_task_group() as group:
        lines: list[dict[str, object]] = []

        async def watch() -> None:
            lines.extend(await desk.lines("job.watch", job=1))
            group.cancel_scope.cancel()

        group.start_soon(watch)
        while not desk.sent:
            await desk.arrived.wait()
        group.start_soon(parts.worker.run)
    assert lines[0]["result"]["job"]["state"] == "queued"
    kinds = [line["params"]["kind"] for line in lines if line.get("method") == "event"]
    assert kinds == ["job.running", "archive.published", "job.succeeded"]
    assert lines[-1]["method"] == "end"
    assert lines[-1]["params"]["reason"] == "done"
    assert lines[-1]["params"]["job"]["outcome"] == "published"
    assert (await desk.lines("job.watch", job=1))[-1]["params"]["reason"] == "done", "one that has ended ends at once"


async def test_job_watch_goes_on_with_the_twin_that_takes_the_place(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.reconciler.look_again()
    first = await claim(parts.jobs)
    assert first
    twin, _ = await parts.jobs.enqueue(key, stamp="newer", priority=Priority.ASKED)
    await parts.jobs.hand_back(first, NoSpaceError("full"))
    async with anyio.create_task_group() as group:
        group.start_soon(parts.worker.run)
        lines = await desk.lines("job.watch", job=first.id)
        group.cancel_scope.cancel()
    assert lines[-1]["params"]["job"]["job"] == twin.id
    assert lines[-1]["params"]["job"]["state"] == "succeeded"


async def test_events_from_the_log_then_live_in_rising_order(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    past = await desk.lines("event.watch", since=0, follow=False)
    assert past[0]["result"] == {"seq": 4, "oldest": 1, "lagged": False, "since": 0}
    assert past[-1] == {
        "jsonrpc": "2.0", "method": "end", "params": {"watch": 1, "reason": "done", "seq": 4, "job": None},
    }  # fmt: skip
    first = past[1]["params"]
    assert (first["kind"], first["registry_path"], first["aliases"]) == ("job.queued", NAME, [ALIAS])
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: desk.lines("event.watch", since=2))
        await desk.until("event")
        genomes.build("index")
        await parts.settle()
        while len(desk.sent) < 7:
            await desk.arrived.wait()
        group.cancel_scope.cancel()
    assert [line["params"]["seq"] for line in desk.sent[1:]] == [3, 4, 5, 6, 7, 8]


async def test_an_event_that_happens_while_the_log_is_read_is_told_once(parts: Parts, desk: Desk) -> None:
    async def log() -> None:
        async with changing(parts.jobs) as change:
            await change.log("queue.paused", by="ann")

    desk.meanwhile = log
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: desk.lines("event.watch", since=0))
        await desk.until("event")
        await log()
        while len(desk.sent) < 3:
            await desk.arrived.wait()
        group.cancel_scope.cancel()
    assert [line["params"]["seq"] for line in desk.sent[1:]] == [1, 2]


async def test_since_from_another_life_is_told(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    found = await desk.lines("event.watch", since=1000, follow=False)
    assert found[0]["result"]["lagged"] is True
    assert [line["params"]["seq"] for line in found[1:-1]] == [1, 2, 3, 4]
    async with transaction(parts.store) as tx:
        await tx.execute("DELETE FROM event WHERE seq <= 2")
    found = await desk.lines("event.watch", since=1, follow=False)
    assert found[0]["result"] == {"seq": 4, "oldest": 3, "lagged": True, "since": 1}
    assert (await desk.lines("event.watch", since=2, follow=False))[0]["result"]["lagged"] is False


async def test_a_slow_subscriber_is_told_lagged_and_cut(parts: Parts, desk: Desk) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: desk.lines("event.watch"))
        while not desk.sent:
            await desk.arrived.wait()
        async with changing(parts.jobs) as change:
            for _ in range(MOST_EVENTS_WAITING + 1):  # more at once than may wait for one subscriber
                await change.log("queue.paused", by="ann")
        with anyio.fail_after(5):
            end = await desk.until("end")
        group.cancel_scope.cancel()
    assert end["reason"] == "lagged"
