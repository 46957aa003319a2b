"""What the next job costs: it must not grow with the queue."""

import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import pytest

from refgenied.model import Arrow, AssetKey, Priority
from refgenied.store import jobs as rows
from refgenied.store.schema import MIGRATIONS
from refgenied.store.transaction import Transaction, run_through


def steps(queued: int, waiting: int, question: Callable[[Transaction], Coroutine[Any, Any, object]]) -> int:
    """How many times ten instructions SQLite needs for this question when so many jobs are due and so many wait.

    The jobs that wait are the older ones.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in (statement for migration in MIGRATIONS for statement in migration):
            connection.execute(statement)
        tx = Transaction(connection)
        for number in range(waiting + queued):
            key = AssetKey(f"d{number // 10}", f"g{number % 10}", "default")
            run_through(rows.add(tx, key, rows.Need("s", Priority.BACKLOG), requested_by="x", now=1.0))
        connection.execute("UPDATE job SET not_before = 1e9 WHERE id <= ?", (waiting,))
        connection.execute("UPDATE job SET state = 'running' WHERE id = ?", (waiting + 1,))
        taken = 0

        def count() -> int:
            nonlocal taken
            taken += 1
            return 0

        connection.set_progress_handler(count, 10)
        run_through(question(tx))
        return taken


QUESTIONS: dict[str, Callable[[Transaction], Coroutine[Any, Any, object]]] = {
    "due": lambda tx: rows.due(tx, 5.0, 8),
    "next_time": rows.next_time,
    "claim": lambda tx: rows.move(tx, 300, Arrow.CLAIM, attempts=1),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_next_job_costs_the_same_however_long_the_queue_is(question) -> None:
    assert steps(10_000, 0, question) <= steps(500, 0, question) * 1.1
    assert steps(500, 10_000, question) <= steps(500, 500, question) * 1.1, "the first ones wait"
