"""The one connection: its file, its schema, its transactions."""

import sqlite3
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from refgenied.model import AssetKey, JobState, StateError
from refgenied.store import Store, archives
from refgenied.store import jobs as rows
from refgenied.store.schema import APPLICATION_ID, MIGRATIONS

pytestmark = pytest.mark.anyio
KEY = AssetKey("d" * 48, "fasta", "default")


async def queued(store: Store) -> int:
    async with store.transaction() as tx:
        return await rows.add(tx, KEY, priority=10, force=False, stamp="s", requested_by="x", now=1.0)


async def test_the_database_says_what_it_is_and_how_it_writes(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store, store.transaction() as tx:
        assert store.fresh
        values = [await tx.one(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
        assert [row[0] for row in values if row] == ["wal", 2, 1]
        assert await tx.one("PRAGMA application_id") == (APPLICATION_ID,)
        assert await tx.one("PRAGMA user_version") == (len(MIGRATIONS),)
    async with Store.opened(tmp_path) as store:
        assert not store.fresh


async def test_one_asset_has_at_most_one_job_queued_and_one_running(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        first = await queued(store)
        with pytest.raises(sqlite3.IntegrityError):
            await queued(store)
        async with store.transaction() as tx:
            await tx.execute("UPDATE job SET state = 'running' WHERE id = ?", (first,))
        second = await queued(store)
        with pytest.raises(sqlite3.IntegrityError):
            async with store.transaction() as tx:
                await tx.execute("UPDATE job SET state = 'running' WHERE id = ?", (second,))


async def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        with pytest.raises(ZeroDivisionError):
            async with store.transaction() as tx:
                await rows.add(tx, KEY, priority=10, force=False, stamp="s", requested_by="x", now=1.0)
                raise ZeroDivisionError
        async with store.transaction() as tx:
            assert await rows.unfinished(tx) == []


async def test_a_cancelled_task_leaves_no_half_transaction_for_the_next(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        inside = anyio.Event()

        async def writer() -> None:
            async with store.transaction() as tx:
                await rows.add(tx, KEY, priority=10, force=False, stamp="s", requested_by="x", now=1.0)
                inside.set()
                await anyio.lowlevel.checkpoint()
                await archives.put_fact(tx, "half", "done")

        async with anyio.create_task_group() as group:
            group.start_soon(writer)
            await inside.wait()
            group.cancel_scope.cancel()
        async with store.transaction() as tx:
            # The shield lets it end: both statements are there, never one.
            assert (await archives.fact(tx, "half"), len(await rows.unfinished(tx))) == ("done", 1)


async def test_a_newer_schema_is_refused_and_the_file_is_left_alone(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        path = store.path
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StateError, match="newer refgenied"):
        async with Store.opened(tmp_path):
            pass


def older_database(folder: Path) -> Path:
    path = folder / "refgenied.sqlite3"
    with sqlite3.connect(path) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("INSERT INTO fact VALUES ('kept', 'yes')")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    return path


def schema_of(path: Path) -> tuple[int, list[tuple[str]]]:
    with sqlite3.connect(path) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        facts = connection.execute("SELECT value FROM fact").fetchall()
    connection.close()
    return version, facts


async def test_an_older_database_is_copied_before_it_is_changed(tmp_path: Path) -> None:
    path = older_database(tmp_path)
    for _ in range(2):  # the second start finds nothing to do
        async with Store.opened(tmp_path):
            pass
        assert schema_of(path) == (len(MIGRATIONS), [("yes",)])
        assert schema_of(tmp_path / "refgenied.sqlite3.schema-1") == (1, [("yes",)])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, f"{path.name}.schema-1"]
    # the way back: an older refgenied finds its own
    (tmp_path / "refgenied.sqlite3.schema-1").rename(path)
    assert schema_of(path)[0] == 1


async def test_a_database_that_cannot_be_copied_is_not_changed(tmp_path: Path) -> None:
    path = older_database(tmp_path)
    (tmp_path / "refgenied.sqlite3.schema-1").mkdir()
    with pytest.raises(StateError, match=r"cannot be copied to .*schema-1") as caught:
        async with Store.opened(tmp_path):
            pass
    assert "nothing was changed" in caught.value.hint
    assert schema_of(path)[0] == 1
    assert not list(tmp_path.glob(".*.partial"))


async def test_a_new_database_has_no_older_one(tmp_path: Path) -> None:
    async with Store.opened(tmp_path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["refgenied.sqlite3"]


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to look at" * 50, None])
async def test_a_foreign_or_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "refgenied.sqlite3"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE x (y)")
        connection.close()
    else:
        path.write_bytes(content)
    with pytest.raises(StateError) as caught:
        async with Store.opened(tmp_path):
            pass
    assert "\n" not in caught.value.message
    assert caught.value.hint


async def test_counts_name_every_state(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        await queued(store)
        async with store.transaction() as tx:
            assert await rows.counts(tx) == {
                **{state.value: 0 for state in JobState},
                "queued": 1,
            }
