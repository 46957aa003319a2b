"""The numbers of `status` are kept by change: they are right after every kind of change, and a wrong one is found."""

import random
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import anyio
import msgspec
import pytest
from many import filled, keys_of, look_of, record_of, see
from parts import Parts, running
from synthetic import Genomes
from transactions import changing

from refgenied.model import ArchiveRecord, AssetKey, AssetState, Removal, StateError
from refgenied.policy import ArchiveState
from refgenied.reconciler import standings
from refgenied.reconciler.key_order import EVERYTHING
from refgenied.reconciler.tally import Counts, Tally
from refgenied.store import archives

pytestmark = pytest.mark.anyio

KEYS = keys_of(30)


@pytest.fixture
async def parts(genomes: Genomes) -> AsyncGenerator[Parts]:
    async with running(genomes) as parts:
        await filled(parts, KEYS)
        yield parts


async def truth(parts: Parts) -> Counts:
    """Counted anew, by parts that have kept nothing."""
    reconciler = parts.reconciler
    anew = standings.Standings(parts.core, parts.pause, reconciler.last, 0.0)
    rows = (await anew.all()).values()
    states = Counter(asset.state for asset, _ in rows)
    return Counts(len(rows), states, Counter(stands.archive for _, stands in rows))


async def right(parts: Parts) -> Counts:
    """The kept numbers, which must be right."""
    found, true = await parts.reconciler.standings.counts(), await truth(parts)
    assert found.total == true.total
    assert +found.states == +true.states
    assert +found.archive == +true.archive
    return found


async def test_counts_follow_looks_and_archives(parts: Parts) -> None:
    assert (await right(parts)).archive == {ArchiveState.ARCHIVED: 30}
    look = look_of(KEYS)
    changed = msgspec.structs.replace(look.assets[KEYS[3]], stamp="t")
    building = msgspec.structs.replace(look.assets[KEYS[4]], state=AssetState.BUILDING)
    new = look_of(keys_of(32)).assets
    before = parts.reconciler.look.assets
    see(parts, msgspec.structs.replace(look, assets=new | before | {KEYS[3]: changed, KEYS[4]: building}))
    assert +(await right(parts)).archive == {ArchiveState.ARCHIVED: 29, ArchiveState.STALE: 1, ArchiveState.NONE: 2}
    async with changing(parts.jobs) as change:
        await archives.put(change.tx, msgspec.structs.replace(record_of(parts, KEYS[3]), stamp="t"))
        await change.log("archive.published", KEYS[3])
        await archives.put_removal(change.tx, Removal(KEYS[5], "s", 1.0, "ann"))
        await archives.forget(change.tx, KEYS[5])
        await change.log("archive.removed", KEYS[5])
    assert +(await right(parts)).archive == {ArchiveState.ARCHIVED: 29, ArchiveState.NONE: 3}


async def test_an_asset_that_is_gone_is_counted_while_it_has_an_archive(parts: Parts) -> None:
    await right(parts)
    see(parts, msgspec.structs.replace(parts.reconciler.look, assets=look_of(KEYS[1:]).assets))
    assert (await right(parts)).states[AssetState.MISSING] == 1
    async with changing(parts.jobs) as change:
        await archives.forget(change.tx, KEYS[0])
        await change.log("archive.removed", KEYS[0])
    found = await right(parts)
    assert (found.total, found.states[AssetState.MISSING]) == (29, 0)


async def test_a_wrong_count_lives_only_until_the_next_full_look(parts: Parts) -> None:
    await right(parts)
    ghost = look_of([AssetKey("9999", "x", "y")]).assets
    tally = parts.reconciler.standings._tally
    tally.put(next(iter(ghost.values())), ArchiveState.STALE)
    tally.put(msgspec.structs.replace(look_of(KEYS).assets[KEYS[7]], state=AssetState.FAILED), ArchiveState.NONE)
    tally.forget(KEYS[8])
    wrong = await parts.reconciler.standings.counts()
    assert (wrong.states[AssetState.FAILED], wrong.archive[ArchiveState.STALE]) == (1, 1)
    await parts.reconciler.standings.all()  # a full look asks this
    assert +(await right(parts)).states == {AssetState.COMPLETE: 30}


async def test_an_archive_that_is_lost_without_an_event_is_counted_by_the_next_full_look(parts: Parts) -> None:
    await right(parts)
    Path(parts.archive_folder.path, record_of(parts, KEYS[9]).path).unlink()
    await parts.reconciler.standings.all()
    assert (await right(parts)).archive[ArchiveState.STALE] == 1


async def test_a_change_is_not_forgotten_when_the_database_does_not_answer(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await right(parts)
    async with changing(parts.jobs) as change:
        await archives.forget(change.tx, KEYS[9])
        await change.log("archive.removed", KEYS[9])

    async def broken(*_: object) -> object:
        raise StateError("disk I/O error")

    for question in (parts.reconciler.standings.counts, parts.reconciler.standings.all):
        with monkeypatch.context() as context, pytest.raises(StateError):
            context.setattr(archives, "history", broken)
            await question()
    assert +(await right(parts)).archive == {ArchiveState.ARCHIVED: 29, ArchiveState.NONE: 1}


async def test_a_cancelled_count_loses_nothing(parts: Parts) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await parts.reconciler.standings.counts()
    await right(parts)


async def test_a_dead_disk_is_waited_for_once_and_not_at_each_step(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standings, "FOLDER_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(standings, "STEP", 1)
    answer = threading.Event()
    lost = parts.archive_folder.lost

    def hung(records: Mapping[AssetKey, ArchiveRecord]) -> dict[AssetKey, str]:
        answer.wait()
        return lost(records)

    parts.archive_folder.lost = hung
    try:
        with anyio.fail_after(12):  # each of thirty steps would wait for half a second
            assert len(await parts.reconciler.standings.all()) == 30
            Path(parts.archive_folder.path, record_of(parts, KEYS[9]).path).unlink()
    finally:
        answer.set()
    parts.archive_folder.lost = lost
    await parts.reconciler.standings._archive_disk.run(lambda: None)  # the call that hung has ended
    await parts.reconciler.standings.all()
    assert (await right(parts)).archive[ArchiveState.STALE] == 1


async def test_before_the_first_look_nothing_is_counted(genomes: Genomes) -> None:
    genomes.build()
    async with running(genomes) as parts:
        assert (await parts.reconciler.standings.counts()).total == 0
        await parts.settle()
        assert +(await right(parts)).archive == {ArchiveState.ARCHIVED: 1}
        genomes.build("other")
        await parts.settle()
        assert +(await right(parts)).archive == {ArchiveState.ARCHIVED: 2}


async def test_some_says_nothing_of_what_nobody_knows(parts: Parts) -> None:
    nobody = AssetKey("9999", "x", "y")
    found = await parts.reconciler.standings.some([KEYS[0], nobody, KEYS[1]])
    assert list(found) == [KEYS[0], KEYS[1]]
    assert [key async for key in keys_after(parts, KEYS[27])] == KEYS[28:]


async def keys_after(parts: Parts, key: AssetKey) -> AsyncGenerator[AssetKey]:
    async for asset, _ in parts.reconciler.standings.within(EVERYTHING.rest(key) or EVERYTHING):
        yield asset.key


async def test_older_facts_after_newer_ones_are_judged_once_more(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list asked the database before a change, and is told later than `counts`, which asked after it."""
    judge = parts.reconciler.standings
    before = await right(parts)
    lost, asked, goes_on = judge.lost, anyio.Event(), anyio.Event()

    async def late(recorded: Mapping[AssetKey, ArchiveRecord]) -> Mapping[AssetKey, str]:
        if not asked.is_set():
            asked.set()
            await goes_on.wait()
        return await lost(recorded)

    monkeypatch.setattr(judge, "lost", late)
    async with anyio.create_task_group() as group:
        group.start_soon(judge.some, KEYS[:1])
        await asked.wait()
        async with changing(parts.jobs) as change:
            await archives.forget(change.tx, KEYS[0])
            await change.log("archive.removed", KEYS[0])
        assert await right(parts) != before
        goes_on.set()
    await right(parts)


def test_a_tally_is_the_sum_of_what_was_put() -> None:
    chance = random.Random(4)
    tally = Tally(look_of(()))
    assets = look_of(KEYS).assets
    known: dict[AssetKey, tuple[AssetState, ArchiveState]] = {}
    for _ in range(2000):
        key = chance.choice(KEYS)
        if chance.random() < 0.2:
            known.pop(key, None)
            tally.forget(key)
        else:
            known[key] = chance.choice([*AssetState]), chance.choice([*ArchiveState])
            tally.put(msgspec.structs.replace(assets[key], state=known[key][0]), known[key][1])
        found = tally.counts()
        assert found.total == len(known)
        assert +found.states == Counter(state for state, _ in known.values())
        assert +found.archive == Counter(archive for _, archive in known.values())
