"""The order in which archives are proved again, and what a question about it costs."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from parts import record_of

from refgenied.config.roles import DATABASE
from refgenied.reconciler.key_order import successor
from refgenied.store import Store, archives, proofs
from refgenied.store.transaction import Transaction, run_through

pytestmark = pytest.mark.anyio

NOW = 1e9


def steps(path: Path, question, *arguments, **named) -> int:
    """How many instructions SQLite runs for it."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(step, 1)
        run_through(question(Transaction(connection), *arguments, **named))
    return count


async def test_never_comes_first_then_the_future_and_then_the_oldest(tmp_path: Path) -> None:
    times = {"b": NOW - 1, "a": NOW - 1, "c": NOW - 5, "e": None, "d": None, "f": NOW + 5, "g": NOW}
    async with Store.opened(tmp_path) as store:
        for name, at in times.items():
            await store.ask(archives.put, record_of(name, 1, at))
        for limit in range(1, 9):
            order, turn, page = "", None, []
            while not order or len(page) == limit:
                page, turn = await store.ask(proofs.page, NOW, limit, after=turn)
                order += "".join(record.path for record in page)
            assert order == "defcabg"
        assert await store.ask(proofs.page, NOW, 9, after=turn) == ([], turn)
        before, _ = await store.ask(proofs.page, NOW, 9, before=NOW - 1)
        assert [record.path for record in before] == ["d", "e", "f", "c"]


async def test_a_walk_that_proves_each_archive_comes_to_an_end(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        for number in range(5):
            await store.ask(archives.put, record_of(str(number), 1, NOW - number))
        turn, now, seen = None, NOW, []
        while True:
            now += 1
            page, turn = await store.ask(proofs.page, now, 1, after=turn, before=NOW)
            if not page:
                break
            seen.append(page[0].path)
            assert await store.ask(archives.mark_proved, page[0], now)
        assert seen == ["4", "3", "2", "1"], "the one that was proved when it began counts as proved"


async def test_a_question_costs_the_same_among_many_archives(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        took: list[tuple[int, ...]] = []
        for number in range(300):
            at = (None, NOW + 1, NOW - 1)[number % 3]
            await store.ask(archives.put, record_of(f"{number:03}", 1, at))
            if number in (29, 299):
                path = tmp_path / DATABASE
                turns = [(await store.ask(proofs.page, NOW, 1))[1]]
                turns += [proofs.Turn(1, NOW + 1, turns[0].key), proofs.Turn(2, NOW - 1, turns[0].key)]
                took.append(
                    (
                        *(steps(path, proofs.page, NOW, 1, after=turn) for turn in (None, *turns)),
                        steps(path, proofs.page, NOW, 1, after=turns[0], before=NOW),
                        steps(path, proofs.damaged),
                        steps(path, archives.known_of, [turns[0].key]),
                        steps(path, archives.within, successor(turns[0].key), None, 1),
                    )
                )
    few, many = took
    assert all(abs(more - less) < 20 for less, more in zip(few, many, strict=True)), took


async def test_the_damaged_ones_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        records = [record_of(name, 10, NOW) for name in "cab"]
        for record in records:
            await store.ask(archives.put, record)
        assert await store.ask(proofs.damaged) == (None, 0)
        assert await store.ask(proofs.sound_bytes) == 30
        for record in records[:2]:
            await store.ask(archives.mark_damaged, record, "a bit")
        first, number = await store.ask(proofs.damaged)
        assert first
        assert (first.path, number) == ("a", 2)
        assert await store.ask(proofs.sound_bytes) == 10
