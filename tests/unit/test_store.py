"""The one connection: its file, its schema, its transactions."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from transactions import transaction

from refgenied.files import mounts
from refgenied.model import AssetKey, StateError
from refgenied.store import Store, Transaction, archives, rescue
from refgenied.store import jobs as rows
from refgenied.store.connection import CHECKPOINT_ROWS
from refgenied.store.schema import APPLICATION_ID, MIGRATIONS
from refgenied.store.state_folder import NETWORK_FILE_SYSTEM
from refgenied.store.thread import DatabaseThread

pytestmark = pytest.mark.anyio
KEY = AssetKey("d" * 48, "fasta", "default")


async def queued(store: Store) -> int:
    async with transaction(store) as tx:
        return await rows.add(tx, KEY, rows.Need("s", 10), requested_by="x", now=1.0)


async def test_the_database_says_what_it_is_and_how_it_writes(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store, transaction(store) as tx:
        values = [await tx.one(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
        assert [row[0] for row in values if row] == ["wal", 2, 1]
        assert await tx.one("PRAGMA application_id") == (APPLICATION_ID,)
        assert await tx.one("PRAGMA user_version") == (len(MIGRATIONS),)


async def test_one_asset_has_at_most_one_job_queued_and_one_running(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        first = await queued(store)
        with pytest.raises(sqlite3.IntegrityError):
            await queued(store)
        async with transaction(store) as tx:
            await tx.execute("UPDATE job SET state = 'running' WHERE id = ?", (first,))
        second = await queued(store)
        with pytest.raises(sqlite3.IntegrityError):
            async with transaction(store) as tx:
                await tx.execute("UPDATE job SET state = 'running' WHERE id = ?", (second,))


async def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    async def half(tx: Transaction) -> None:
        await rows.add(tx, KEY, rows.Need("s", 10), requested_by="x", now=1.0)
        raise ZeroDivisionError

    async with Store.opened(tmp_path) as store:
        with pytest.raises(ZeroDivisionError):
            await store.ask(half)
        assert await store.ask(rows.queued) == []


async def test_one_question_is_a_transaction_of_its_own(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        number = await store.ask(rows.add, KEY, rows.Need("s", 10), requested_by="x", now=1.0)
        found = await store.ask(rows.get, number)
        assert found is not None
        assert found.key == KEY


async def test_a_cancelled_task_leaves_no_half_transaction_for_the_next(tmp_path: Path) -> None:
    inside, goes_on = threading.Event(), threading.Event()

    async def both(tx: Transaction) -> None:
        await rows.add(tx, KEY, rows.Need("s", 10), requested_by="x", now=1.0)
        inside.set()
        assert goes_on.wait(20)
        await archives.put_fact(tx, "half", "done")

    async with Store.opened(tmp_path) as store:
        async with anyio.create_task_group() as group:
            group.start_soon(store.ask, both)
            await anyio.to_thread.run_sync(inside.wait, 20)
            group.cancel_scope.cancel()
            goes_on.set()
        # The shield lets it end: both statements are there, never one.
        assert await store.ask(archives.fact, "half") == "done"
        assert len(await store.ask(rows.queued)) == 1


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


async def test_a_foreign_database_is_refused_in_one_line(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "refgenied.sqlite3")) as connection:
        connection.execute("CREATE TABLE x (y)")
    with pytest.raises(StateError) as caught:
        async with Store.opened(tmp_path):
            pass
    assert "\n" not in caught.value.message
    assert caught.value.hint


async def test_counts_name_the_states_also_of_no_job(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        await queued(store)
        async with transaction(store) as tx:
            assert await rows.counts(tx) == {"queued": 1, "running": 0, "failed": 0}


# ------------------------------------------------------------------ damaged, deleted, replaced

DOWNLOADS = 2000


async def filled(folder: Path) -> Path:
    """A database of some pages with downloads and a user's pause."""
    folder.mkdir()
    async with Store.opened(folder) as store, transaction(store) as tx:
        for number in range(DOWNLOADS):
            await tx.execute("INSERT INTO download VALUES (?, 'd', 'g', 'a', 'x', 1.0, 'y')", (f"{number:032x}",))
        await archives.put_fact(tx, "paused_by", "ann")
        await archives.put_fact(tx, "generation", "7")
    return folder / "refgenied.sqlite3"


async def downloads(store: Store) -> int:
    async with transaction(store) as tx:
        row = await tx.one("SELECT COUNT(*) FROM download")
        assert row
        return int(row[0])


@pytest.mark.parametrize(
    ("what", "least"), [("garbage", 0), ("header", 0), ("cut", 1), ("page", DOWNLOADS // 2), ("index", DOWNLOADS)]
)
async def test_a_damaged_file_is_kept_and_its_downloads_saved_as_far_as_they_can_be_read(
    tmp_path: Path, what: str, least: int
) -> None:
    path = await filled(tmp_path / "state")
    data = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        pages = (
            {
                name: [int(row[0]) for row in connection.execute("SELECT pageno FROM dbstat WHERE name = ?", (name,))]
                for name in ("download", "download_of_asset")
            }
            if has_dbstat(connection)
            else {}
        )
    if what == "garbage":
        data = bytearray(b"not a database at all, but long enough to look at" * 50)
    elif what == "header":
        data[:16] = bytes(16)
    elif what == "cut":
        del data[len(data) * 3 // 4 :]
    else:
        if not pages:
            pytest.skip("this SQLite cannot tell which page is whose")
        page = pages["download" if what == "page" else "download_of_asset"][-1]
        data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    async with Store.opened(path.parent) as store:
        assert "was damaged" in store.trouble
        assert "\n" not in store.trouble
        saved = await downloads(store)
        assert saved >= least
        assert f" {saved} counted downloads" in store.trouble
        async with transaction(store) as tx:
            assert await archives.generation(tx) is None, "it knows nothing of the archive folder"
            if saved:
                assert await archives.fact(tx, "paused_by") == "ann"
    (kept,) = path.parent.glob("*.damaged-*Z")
    assert str(kept) in store.trouble
    async with Store.opened(path.parent) as store:
        assert (store.trouble, await downloads(store)) == ("", saved)


def has_dbstat(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1 FROM dbstat LIMIT 1").fetchall()
    except sqlite3.Error:
        return False
    return True


async def test_a_damaged_file_of_an_older_version_is_kept_too(tmp_path: Path) -> None:
    path = await filled(tmp_path / "state")
    with closing(sqlite3.connect(path)) as connection:
        for table in ("log_line", "log_pull", "log_start"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) - 1}")
        connection.commit()
        if not has_dbstat(connection):
            pytest.skip("this SQLite cannot tell which page is whose")
        *_, (page,) = connection.execute("SELECT pageno FROM dbstat WHERE name = 'download'")
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    async with Store.opened(path.parent) as store:
        assert "was damaged" in store.trouble
        assert await downloads(store)


async def test_damage_that_is_met_while_it_runs_has_the_next_start_read_all_of_it(tmp_path: Path) -> None:
    path = await filled(tmp_path / "state")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")  # an index that lacks rows: a quick check does not see that
        connection.execute("UPDATE sqlite_schema SET sql = sql || ' WHERE 0' WHERE name = 'download_of_asset'")
        connection.commit()
    async with Store.opened(path.parent) as store:
        assert store.lost() == ""
        with pytest.raises(StateError, match="malformed"):
            await store.ask(damaged)
        assert "is damaged" in store.lost()
    async with Store.opened(path.parent) as store:
        assert "was damaged" in store.trouble
    async with Store.opened(path.parent) as store:
        assert store.trouble == ""


async def damaged(_: Transaction) -> None:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error


async def test_a_file_that_is_deleted_while_it_is_open_comes_back_with_all_that_was_in_it(tmp_path: Path) -> None:
    path = await filled(tmp_path / "state")
    async with Store.opened(path.parent) as store:
        assert store.lost() == ""
        path.unlink()
        assert "was deleted" in store.lost()
        async with transaction(store) as tx:
            await archives.put_fact(tx, "later", "too")
        await store.rescue()
    async with Store.opened(path.parent) as store:
        assert (store.trouble, await downloads(store)) == ("", DOWNLOADS)
        async with transaction(store) as tx:
            assert await archives.fact(tx, "later") == "too"
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


async def test_a_file_that_another_one_replaced_stays_as_it_is(tmp_path: Path) -> None:
    path, backup = await filled(tmp_path / "state"), await filled(tmp_path / "backup")
    async with Store.opened(path.parent) as store:
        backup.rename(path)
        assert "was replaced" in store.lost()
        await store.rescue()
        async with transaction(store) as tx:
            await archives.put_fact(tx, "later", "too")
    async with Store.opened(path.parent) as store, transaction(store) as tx:
        assert await archives.fact(tx, "later") is None


async def test_a_start_after_a_kill_takes_a_rescued_file(tmp_path: Path) -> None:
    path = await filled(tmp_path / "state")
    path.rename(path.with_name(f"{path.name}.rescued"))
    path.with_name(f"{path.name}-wal").write_bytes(b"of the one that was deleted")
    async with Store.opened(path.parent) as store:
        assert await downloads(store) == DOWNLOADS


async def test_what_is_salvaged_has_its_columns(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store, transaction(store) as tx:
        for table, columns in rescue.TABLES.items():
            assert len(await tx.all(f"PRAGMA table_info({table})")) == columns


async def test_a_file_that_is_overwritten_where_it_lies_is_no_mixture_of_two(tmp_path: Path) -> None:
    """`cp backup refgenied.sqlite3`: the same inode, and SQLite would write its log into it."""
    path, backup = await filled(tmp_path / "state"), await filled(tmp_path / "backup")
    async with Store.opened(path.parent) as store:
        async with transaction(store) as tx:
            await archives.put_fact(tx, "later", "too")
        assert store.lost() == ""
        path.write_bytes(backup.read_bytes())
        async with transaction(store) as tx:
            for number in range(CHECKPOINT_ROWS + 1):
                await archives.put_fact(tx, f"fact {number}", "much")
        assert "was overwritten" in store.lost()
        assert path.read_bytes() == backup.read_bytes()
        await store.rescue()
    assert path.read_bytes() == backup.read_bytes()
    async with Store.opened(path.parent) as store, transaction(store) as tx:
        assert (store.trouble, await archives.fact(tx, "later")) == ("", None)
        assert await tx.one("SELECT COUNT(*) FROM download") == (DOWNLOADS,)


async def test_the_log_does_not_grow_without_end(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        for number in range(20):
            async with transaction(store) as tx:
                for row in range(CHECKPOINT_ROWS // 2):
                    await archives.put_fact(tx, f"fact {row}", str(number) * 2000)
            assert store.lost() == ""
        log = (tmp_path / "refgenied.sqlite3-wal").stat().st_size
    assert log < 10_000_000  # without an end it has 40 MB


async def test_what_sqlite_itself_writes_is_not_taken_for_another_programs_work(tmp_path: Path) -> None:
    """A look in the middle of a checkpoint ended the daemon, and gave the open database's name to a copy."""
    said: set[str] = set()
    async with Store.opened(tmp_path) as store:

        async def keep_looking() -> None:
            while True:
                said.add(await store.look())

        async with anyio.create_task_group() as group:
            group.start_soon(keep_looking)
            for _ in range(20):
                async with transaction(store) as tx:
                    await tx.execute(
                        "INSERT OR REPLACE INTO fact (name, value) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL "
                        "SELECT i + 1 FROM n WHERE i < ?) SELECT 'fact ' || i, hex(randomblob(500)) FROM n",
                        (CHECKPOINT_ROWS,),
                    )
            group.cancel_scope.cancel()
    assert said == {""}


@pytest.mark.parametrize(("kind", "remote"), [("ext4", False), ("nfs4", True), ("fuse.sshfs", True), ("fuse.x", False)])
def test_a_network_disk_is_known_by_its_kind_of_file_system(kind: str, *, remote: bool, tmp_path: Path) -> None:
    device = os.stat(tmp_path).st_dev
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 {os.major(device)}:{os.minor(device)} / /x rw shared:1 - {kind} host:/x rw\n")
    assert mounts.file_system(tmp_path, table) == kind
    assert bool(NETWORK_FILE_SYSTEM.fullmatch(kind)) is remote


async def test_a_question_of_many_statements_is_one_visit_to_the_databases_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A visit takes longer than ten statements, and a job has thirty of them."""
    visits = 0
    real = DatabaseThread.run

    async def counted(thread: DatabaseThread, function: Callable[[], object]) -> object:
        nonlocal visits
        visits += 1
        return await real(thread, function)

    async def many(tx: Transaction) -> list[str | None]:
        for number in range(10):
            await archives.put_fact(tx, str(number), "x")
        return [await archives.fact(tx, str(number)) for number in range(10)]

    async with Store.opened(tmp_path) as store:
        monkeypatch.setattr(DatabaseThread, "run", counted)
        assert await store.ask(many) == ["x"] * 10
        assert visits == 1
        monkeypatch.undo()


async def test_a_question_that_waits_for_something_else_changes_nothing(tmp_path: Path) -> None:
    async def waits(tx: Transaction) -> None:
        await archives.put_fact(tx, "half", "done")
        await asyncio.sleep(0)

    async with Store.opened(tmp_path) as store:
        with pytest.raises(RuntimeError, match="waited for something else"):
            await store.ask(waits)
        assert await store.ask(archives.fact, "half") is None


async def test_a_cancelled_question_is_done_before_the_next_one_begins(tmp_path: Path) -> None:
    async with Store.opened(tmp_path) as store:
        begun, go_on = threading.Event(), threading.Event()

        async def slow(tx: Transaction) -> None:
            begun.set()
            go_on.wait(20)
            await archives.put_fact(tx, "whole", "done")

        async with anyio.create_task_group() as group:
            group.start_soon(store.ask, slow)
            assert await anyio.to_thread.run_sync(begun.wait, 20)
            group.cancel_scope.cancel()
            go_on.set()
        assert await store.ask(archives.fact, "whole") == "done"
