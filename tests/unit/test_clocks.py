"""A clock that was set: back by a day, or right again after it was far ahead."""

import os
import time
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from controlled import Desk, context_of
from parts import Parts, record_of, running
from synthetic import Genomes
from transactions import transaction

from refgenied.config.settings import Watching
from refgenied.genomes.build_folder import moved_lately
from refgenied.maintenance import DAY
from refgenied.maintenance.scrubber import is_due
from refgenied.store import Store, archives, proofs

pytestmark = pytest.mark.anyio


def set_back(parts: Parts) -> None:
    parts.clock = lambda: time.time() - DAY


async def test_uptime_and_the_next_sweep_follow_no_clock_that_is_set(genomes: Genomes) -> None:
    async with running(genomes, watch=Watching(sweep_seconds=600)) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        await anyio.wait_all_tasks_blocked()
        desk = Desk(replace(context_of(parts), clock=lambda: time.time() - DAY))
        set_back(parts)
        info = await desk.ask("server.info")
        assert 60 <= info["uptime"] < 120
        until = info["next_sweep_at"] - (time.time() - DAY)
        assert 300 < until < 800
        group.cancel_scope.cancel()


async def test_what_was_proved_in_the_future_is_due_and_comes_first(tmp_path: Path) -> None:
    now = 1e9
    ahead, old = record_of("ahead", 10**12, now + DAY), record_of("old", 10, now - 9 * DAY)
    assert is_due(ahead, now, 10.0, share=1.0, used=0)
    async with Store.opened(tmp_path) as store:
        for record in (old, ahead):
            await store.ask(archives.put, record)
        page, _ = await store.ask(proofs.page, now, 9)
    assert page == [ahead, old]


@pytest.mark.parametrize(("age", "lately"), [(0, True), (1700, True), (1900, False), (-1700, True), (-DAY, False)])
def test_what_moved_tomorrow_has_not_moved_lately(tmp_path: Path, age: float, lately: bool) -> None:  # noqa: FBT001
    (tmp_path / "file").touch()
    now = time.time() + 3 * DAY  # ctimes are out of reach: only mtimes can be set
    for path in (tmp_path / "file", tmp_path):
        os.utime(path, (now - age, now - age))
    assert moved_lately([str(tmp_path)], now, 1800) == lately


async def test_a_first_start_in_the_future_does_not_make_everything_old(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        for now, first in ((2000.0, 2000.0), (3000.0, 2000.0), (1000.0, 1000.0)):
            assert await store.ask(archives.first_started_at, now) == first
        assert await store.ask(archives.fact, "first_started_at") == "1000.0"


async def test_a_removal_is_never_older_than_what_it_removes(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        desk = Desk(replace(context_of(parts), clock=lambda: time.time() - DAY))
        record = await parts.record(key)
        assert record
        await desk.ask("archive.remove", path="t7/fasta")
        async with transaction(parts.store) as tx:
            removal = (await archives.removals(tx))[key]
        assert removal.removed_at >= record.created_at
