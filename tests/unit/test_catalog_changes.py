"""The served config follows by change: what a change costs, what it must not miss, and that a wrong cache is found."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import time
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import yaml
from anyio.lowlevel import checkpoint
from many import cost
from parts import Parts, running
from shelf import Shelf, touched
from synthetic import DIGEST, Genomes

from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames
from refgenied.catalog import updater
from refgenied.catalog.entry import ServedEntry
from refgenied.catalog.folder import ServedFolder
from refgenied.catalog.parted import Parted
from refgenied.catalog.parts import Head
from refgenied.catalog.server_config import ConfigFile, EditedError
from refgenied.catalog.updater import Updater
from refgenied.catalog.wanted import Wanted
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.model import AssetKey, Event, Genome, Look, Removal
from refgenied.queue.feed import MOST_EVENTS_WAITING
from refgenied.store import archives

pytestmark = pytest.mark.anyio


def key_of(number: int, *, of_a_genome: int = 5) -> AssetKey:
    return AssetKey(f"{number // of_a_genome:048}", f"group{number}", "default")


@pytest.fixture
def shelf(genomes: Genomes, tmp_path: Path) -> Shelf:
    return anyio.run(Shelf.made, genomes, tmp_path / "shelf")


def filled(shelf: Shelf, number: int, *, of_a_genome: int = 5) -> tuple[ServedFolder, list[AssetKey]]:
    """A folder in which so many archives are served."""
    keys = [key_of(n, of_a_genome=of_a_genome) for n in range(number)]
    for key in keys:
        shelf.put(key)
    folder = ServedFolder(str(shelf.folder))
    assert folder.refresh(shelf.wanted()).archives == number
    return folder, keys


def tree_of(shelf: Shelf) -> dict[str, Any]:
    return yaml.safe_load((shelf.folder / CONFIG_NAME).read_text())


def served_in(shelf: Shelf) -> set[AssetKey]:
    return {
        AssetKey(digest, group, tag)
        for digest, genome in tree_of(shelf)["genomes"].items()
        for group, body in genome["assets"].items()
        for tag in body["tags"]
    }


# --------------------------------------------------------------------- what a change costs


@pytest.mark.parametrize("of_a_genome", [5, 1000])
def test_a_publish_touches_its_own_files_and_the_config_only(shelf: Shelf, tmp_path: Path, of_a_genome: int) -> None:
    costs: list[int] = []
    for number in (10, 40):
        shelf = shelf.other(tmp_path / f"of {number}")
        folder, keys = filled(shelf, number, of_a_genome=of_a_genome)
        shelf.put(keys[3], description="another")
        with touched(shelf.folder) as paths:
            assert folder.refresh(shelf.wanted([keys[3]])).changed
        own = [path for path in paths if "group3" in path or CONFIG_NAME in path]
        folders = {".", keys[3].genome_digest}
        assert set(paths) - set(own) <= folders, paths
        costs.append(len(paths))
    assert costs[0] == costs[1]


def test_an_entry_renders_no_other_entry(shelf: Shelf) -> None:
    folder, keys = filled(shelf, 20, of_a_genome=1000)
    content = folder.config.content
    parts = [content.at(key) for key in keys]
    texts = [part.text for part in parts if part]
    group = content.genomes[keys[0].genome_digest].groups["group3"]
    shelf.put(keys[5], seek_keys={"a": "another"})
    assert folder.refresh(shelf.wanted([keys[5]])).changed
    now = [part.text for part in map(content.at, keys) if part]
    assert [number for number, text in enumerate(now) if text is not texts[number]] == [5]
    assert content.genomes[keys[0].genome_digest].groups["group3"] is group


def test_with_nothing_new_each_archive_costs_three_looks_and_no_manifest_is_read(shelf: Shelf) -> None:
    folder, keys = filled(shelf, 20)
    with touched(shelf.folder) as paths:
        assert not folder.refresh(shelf.wanted()).changed
    assert [path for path in paths if path.endswith("__default.json") and "contents" not in path] == []
    assert len([path for path in paths if "group" in path]) == 3 * len(keys)
    assert len([path for path in paths if path == CONFIG_NAME]) == 1, "its identity is asked, and it is not read"


def test_ten_new_archives_of_a_genome_are_synced_together_and_before_the_config(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        shelf.put(key_of(number, of_a_genome=10))
    happened: list[str] = []
    sync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        happened.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)

    def renamed(source: Any, target: Any, **named: Any) -> None:
        happened.append(f"rename {os.fspath(target)}")
        rename(source, target, **named)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    assert ServedFolder(str(shelf.folder)).refresh(shelf.wanted()).archives == 10
    genome, config = str(shelf.folder / f"{0:048}"), shelf.folder / CONFIG_NAME
    pages = [what for what in happened if what.startswith(f"rename {genome}")]
    assert len(pages) == 20, "the list and the log of each"
    assert [what for what in happened if what not in pages] == [
        genome,
        str(config.with_name(f".{CONFIG_NAME}.partial")),
        f"rename {config}",
        str(shelf.folder),
    ]


def test_what_is_kept_for_an_archive_is_little_more_than_its_text() -> None:
    number = 2000
    entries = [
        ServedEntry(
            AssetKey(f"{n // 10:048}", f"group{n}", "default"),
            "",
            f"{n:032x}",
            10,
            f"{n:032x}",
            10,
            {"fasta": f"{n:048}.fa", "fai": f"{n:048}.fa.fai", "chrom_sizes": f"{n:048}.chrom.sizes"},
            (f"{n:048}/fasta:default",),
            (),
        )
        for n in range(number)
    ]
    tracemalloc.start()
    try:
        content = Parted()
        for one in entries:
            content.put(one, hash(one.key), paged=True)
        content.settle(Head("/genomes", "/archives", {}))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / number < 1200
    assert (kept - len(content.joined())) / number < 500


# --------------------------------------------------------------------- other programs, disks

WORDS = "a person's words"


def edit(config: Path) -> None:
    tree = yaml.safe_load(config.read_text())
    next(iter(tree["genomes"].values()))["genome_description"] = WORDS
    config.write_text(yaml.safe_dump(tree))


def test_an_edit_after_the_config_was_read_is_not_written_over(shelf: Shelf) -> None:
    folder, _ = filled(shelf, 4)
    new = key_of(4)
    shelf.put(new)
    folder.begin(shelf.wanted([new]), [new])
    folder.bring(shelf.wanted([new]))
    edit(shelf.folder / CONFIG_NAME)
    with pytest.raises(EditedError):
        folder.write(shelf.wanted([new]))
    assert served_in(shelf) == set(shelf.records) - {new}
    assert folder.begin(shelf.wanted([new]), [new]) is None
    folder.refresh(shelf.wanted())
    assert served_in(shelf) == set(shelf.records)
    assert WORDS in (shelf.folder / CONFIG_NAME).read_text()


@pytest.mark.parametrize("edits", [1, 10])
async def test_a_refresh_begins_again_after_an_edit_but_not_for_ever(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch, edits: int
) -> None:
    left = 0
    write = ConfigFile.write

    def written(config: ConfigFile, *arguments: Any) -> bool:
        nonlocal left
        if left:
            left -= 1
            edit(config.path)
        return write(config, *arguments)

    async with served(genomes, 2) as (parts, keys):
        monkeypatch.setattr(ConfigFile, "write", written)
        await damage_silently(parts, keys[0])
        left = edits
        await parts.catalog.catch_up(keys[0])
        there_then = there(parts)
        assert WORDS in Path(parts.catalog.config).read_text()
        if edits == 1:
            assert there_then == {"a1"}
            return
        assert there_then == {"a0", "a1"}
        assert "changed by another program" in parts.health.conditions["serving"][0]
        left = 0
        await parts.catalog.catch_up()
        assert there(parts) == {"a1"}
        assert "serving" not in parts.health.conditions


def test_a_genome_folder_that_became_a_file_does_not_stop_the_others(shelf: Shelf) -> None:
    gone, other = key_of(0), key_of(5)
    shelf.put(gone)
    shelf.put(other)
    folder = ServedFolder(str(shelf.folder))
    folder.begin(shelf.wanted())
    folder.bring(shelf.wanted())
    shutil.rmtree(shelf.folder / gone.genome_digest)
    (shelf.folder / gone.genome_digest).write_text("a file in the way")
    served = folder.write(shelf.wanted())
    assert served_in(shelf) == {other}
    assert "Not a directory" in served.left_out[0]
    assert folder.faulty == {gone}
    assert folder.refresh(shelf.wanted()).archives == 1


def test_archives_are_served_when_the_folder_of_their_names_can_be_synced(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = [key_of(0), key_of(1)], key_of(5)
    for key in (*bad, good):
        shelf.put(key)
    errors = [errno.ENOSPC, errno.EIO]
    synced: list[str] = []
    sync = os.fsync

    def syncing(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        synced.append(path)
        if path.endswith(bad[0].genome_digest) and errors:
            raise OSError(errors.pop(0), "an error", path)
        sync(fd)

    monkeypatch.setattr(os, "fsync", syncing)
    folder = ServedFolder(str(shelf.folder))
    with pytest.raises(OSError, match="an error"):  # a full disk concerns all
        folder.refresh(shelf.wanted())
    assert not (shelf.folder / CONFIG_NAME).exists()
    assert folder.refresh(shelf.wanted()).faulty == 2
    assert served_in(shelf) == {good}
    assert folder.faulty == set(bad)
    synced.clear()
    assert folder.refresh(shelf.wanted(bad)).archives == 3
    names = [os.path.basename(path) for path in synced]
    assert names.index(bad[0].genome_digest) < names.index(f".{CONFIG_NAME}.partial")
    synced.clear()
    assert folder.refresh(shelf.wanted()).archives == 3
    assert synced == []


def test_a_genome_that_leaves_the_look_has_the_aliases_of_its_last_record_at_once(shelf: Shelf) -> None:
    folder, keys = filled(shelf, 10)
    for number, key in enumerate(keys):
        shelf.records[key] = msgspec.structs.replace(shelf.records[key], aliases=(f"record {number}",))
    before = shelf.wanted().look
    folder.refresh(shelf.wanted(look=before))
    now = msgspec.structs.replace(before, genomes={keys[9].genome_digest: before.genomes[keys[9].genome_digest]})
    found = folder.begin(shelf.wanted([], look=now))
    assert found == {keys[4]}
    folder.refresh(shelf.wanted(found, look=now))
    aliases = [genome["aliases"] for genome in tree_of(shelf)["genomes"].values()]
    assert aliases == [["record 4"], [f"alias-{0:06}"]]
    del shelf.records[keys[4]]
    removals = {keys[4]: Removal(keys[4], "s", time.time() + 60, "ann")}
    found = folder.begin(shelf.wanted([keys[4]], look=now), [keys[4]])
    assert found == {keys[3], keys[4]}
    folder.refresh(shelf.wanted(found, look=now, removals=removals))
    assert tree_of(shelf)["genomes"][keys[0].genome_digest]["aliases"] == ["record 3"]


# --------------------------------------------------------------------- names that meet, links


def test_when_the_first_of_two_that_share_a_name_comes_and_goes_the_other_follows(shelf: Shelf) -> None:
    first, second = AssetKey(DIGEST, "a", "b__c"), AssetKey(DIGEST, "a__b", "c")
    folder = ServedFolder(str(shelf.folder))
    shelf.put(second)
    folder.refresh(shelf.wanted())
    shelf.put(first)
    keys = folder.begin(shelf.wanted([first]), [first])
    assert keys == {first, second}
    served = folder.refresh(shelf.wanted(keys))
    assert served_in(shelf) == {first}
    assert "two underscores" in served.left_out[0]
    del shelf.records[first]
    Place(shelf.folder, first).archive.unlink()
    removal = Removal(first, "s", time.time() + 60, "ann")
    keys = folder.begin(shelf.wanted([first]), [first])
    assert keys == {first, second}
    folder.refresh(shelf.wanted(keys, removals={first: removal}))
    assert served_in(shelf) == {second}
    assert ServedNames(Place(shelf.folder, second)).shows(), "the name was not deleted with the first"


# --------------------------------------------------------------------- wrong caches


def test_a_page_that_a_power_cut_has_emptied_is_made_again_by_the_next_start(shelf: Shelf) -> None:
    _, keys = filled(shelf, 2)
    page = ServedNames(Place(shelf.folder, keys[0])).contents
    page.write_bytes(b"")
    ServedFolder(str(shelf.folder)).refresh(shelf.wanted())
    assert json.loads(page.read_text()) == ["fasta"]


def test_a_config_that_another_program_has_changed_is_put_right_as_a_whole(shelf: Shelf) -> None:
    folder, keys = filled(shelf, 6)
    right = (shelf.folder / CONFIG_NAME).read_bytes()
    tree = tree_of(shelf)
    del tree["genomes"][keys[0].genome_digest]["assets"]["group1"]
    (shelf.folder / CONFIG_NAME).write_text(yaml.safe_dump(tree))
    assert folder.begin(shelf.wanted([keys[5]]), [keys[5]]) is None, "every asset must be looked at"
    folder.refresh(shelf.wanted())
    assert (shelf.folder / CONFIG_NAME).read_bytes() == right


@asynccontextmanager
async def served(genomes: Genomes, number: int) -> AsyncGenerator[tuple[Parts, list[AssetKey]]]:
    keys = [genomes.build(f"a{n}") for n in range(number)]
    async with running(genomes) as parts:
        await parts.settle()
        assert parts.catalog.served.archives == number
        yield parts, keys


def there(parts: Parts) -> set[str]:
    tree = yaml.safe_load(Path(parts.catalog.config).read_text())
    return set(tree["genomes"].get(DIGEST, {"assets": {}})["assets"])


def look_like(parts: Parts, *, full: bool) -> Look:
    """The next look, which found the same."""
    look = parts.reconciler.last.look = msgspec.structs.replace(parts.reconciler.look, full=full)
    return look


async def damage_silently(parts: Parts, key: AssetKey) -> None:
    record = await parts.record(key)
    assert record
    await parts.store.ask(archives.mark_damaged, record, "bad block")


async def test_a_full_look_finds_what_no_event_has_told(genomes: Genomes) -> None:
    async with served(genomes, 4) as (parts, keys):
        await damage_silently(parts, keys[0])
        names = ServedNames(Place(parts.archive_folder.path, keys[1]))
        names.archive.unlink()
        look_like(parts, full=False)
        await parts.catalog.catch_up()
        assert there(parts) == {"a0", "a1", "a2", "a3"}
        look_like(parts, full=True)
        await parts.catalog.catch_up()
        assert there(parts) == {"a1", "a2", "a3"}
        assert names.shows()


async def test_more_events_than_wait_are_followed_by_a_whole_refresh(genomes: Genomes) -> None:
    async with served(genomes, 2) as (parts, keys):
        await damage_silently(parts, keys[0])
        about = Event(1, 1.0, "archive.verified", keys[1])
        parts.feed.publish([about] * MOST_EVENTS_WAITING)
        await parts.catalog.catch_up()
        assert there(parts) == {"a0", "a1"}
        parts.feed.publish([about] * (MOST_EVENTS_WAITING + 1))
        await parts.catalog.catch_up()
        assert there(parts) == {"a1"}


async def test_an_event_without_an_asset_is_about_all(genomes: Genomes) -> None:
    async with served(genomes, 2) as (parts, keys):
        await damage_silently(parts, keys[0])
        parts.feed.publish([Event(1, 1.0, "database.rebuilt")])
        await parts.catalog.catch_up()
        assert there(parts) == {"a1"}


# --------------------------------------------------------------------- events and looks


async def test_a_proof_of_what_is_served_costs_nothing(genomes: Genomes) -> None:
    async with served(genomes, 3) as (parts, keys):
        look_like(parts, full=False)
        await parts.catalog.catch_up()
        parts.feed.publish([Event(1, 1.0, "archive.verified", keys[0])])
        folder = Path(parts.archive_folder.path)
        async with cost(parts) as nothing:
            pass
        with touched(folder) as paths:
            async with cost(parts) as spent:
                await parts.catalog.catch_up()
        assert (paths, spent.steps) == ([], nothing.steps)


async def test_after_a_proof_of_what_is_served_the_catalog_is_at_rest(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, turns = Updater._catch_up, 0

    async def counted(self: Updater) -> None:
        nonlocal turns
        turns += 1
        await seen(self)

    monkeypatch.setattr(Updater, "_catch_up", counted)
    monkeypatch.setattr(updater, "REST_PER_REFRESH", 0.0)
    monkeypatch.setattr(updater, "SHORTEST_REST_SECONDS", 0.0)
    async with served(genomes, 3) as (parts, keys), anyio.create_task_group() as group:
        group.start_soon(parts.catalog.run)
        await anyio.wait_all_tasks_blocked()
        await parts.catalog.catch_up()
        parts.feed.publish([Event(1, 1.0, "archive.verified", keys[0])])
        for _ in range(3):
            await parts.catalog.catch_up()
        turns = 0
        for _ in range(1000):
            await checkpoint()
        assert turns <= 2
        group.cancel_scope.cancel()


async def test_a_proof_brings_back_what_was_damaged(genomes: Genomes) -> None:
    async with served(genomes, 2) as (parts, keys):
        await damage_silently(parts, keys[0])
        await parts.catalog.catch_up(keys[0])
        assert there(parts) == {"a1"}
        record = await parts.record(keys[0])
        assert record
        await parts.store.ask(archives.mark_proved, record, 5.0)
        parts.feed.publish([Event(1, 1.0, "archive.verified", keys[0])])
        await parts.catalog.catch_up()
        assert there(parts) == {"a0", "a1"}


async def test_an_event_reads_one_record_and_looks_at_one_archive(genomes: Genomes) -> None:
    steps: list[int] = []
    for number in (4, 12):
        async with served(genomes, number) as (parts, keys):
            look_like(parts, full=False)
            await parts.catalog.catch_up()
            parts.feed.publish([Event(1, 1.0, "archive.unchanged", keys[2])])
            folder = Path(parts.archive_folder.path)
            with touched(folder) as paths:
                async with cost(parts) as spent:
                    await parts.catalog.catch_up()
            assert {path for path in paths if "/" in path} == {
                f"{DIGEST}/a2/default/a2__default.tgz",
                f"{DIGEST}/a2__default.tgz",
                f"{DIGEST}/asset_dir_contents_a2__default.json",
            }
            assert not parts.catalog.served.changed
            steps.append(spent.steps)
    assert steps[0] == pytest.approx(steps[1], abs=20)


async def test_an_asset_that_differs_in_a_partial_look_is_followed_alone(genomes: Genomes) -> None:
    async with served(genomes, 3) as (parts, keys):
        before = parts.reconciler.look
        asset = msgspec.structs.replace(before.assets[keys[1]], description="what it is")
        genome = msgspec.structs.replace(before.genomes[DIGEST], aliases=("t8",))
        parts.reconciler.last.look = msgspec.structs.replace(
            before, full=False, assets={**before.assets, keys[1]: asset}, genomes={DIGEST: genome}
        )
        folder = Path(parts.archive_folder.path)
        with touched(folder) as paths:
            await parts.catalog.catch_up()
        assert not [path for path in paths if "a0" in path or "a2" in path]
        tree = yaml.safe_load(Path(parts.catalog.config).read_text())["genomes"][DIGEST]
        assert tree["aliases"] == ["t8"]
        assert tree["assets"]["a1"]["asset_description"] == "what it is"


async def test_a_genome_that_differs_in_a_partial_look_is_followed(genomes: Genomes) -> None:
    async with served(genomes, 2) as (parts, _):
        before = parts.reconciler.look
        genome = msgspec.structs.replace(before.genomes[DIGEST], aliases=("t8",), description="new")
        parts.reconciler.last.look = msgspec.structs.replace(before, full=False, genomes={DIGEST: genome})
        await parts.catalog.catch_up()
        tree = yaml.safe_load(Path(parts.catalog.config).read_text())["genomes"][DIGEST]
        assert (tree["aliases"], tree["genome_description"]) == (["t8"], "new")


async def test_other_settings_are_a_reason_to_look_at_all(genomes: Genomes) -> None:
    async with served(genomes, 2) as (parts, keys):
        await damage_silently(parts, keys[0])
        look_like(parts, full=False)
        settings = parts.current.settings
        serving = msgspec.structs.replace(settings.serving, remotes={"http": "https://x"})
        parts.current.settings = msgspec.structs.replace(settings, serving=serving)
        await parts.catalog.catch_up()
        assert there(parts) == {"a1"}


async def test_only_what_is_faulty_is_looked_at_again(genomes: Genomes) -> None:
    async with served(genomes, 3) as (parts, keys):
        names = ServedNames(Place(parts.archive_folder.path, keys[0]))
        names.archive.unlink()
        (names.archive / "x").mkdir(parents=True)
        await parts.catalog.catch_up(keys[0])
        assert parts.catalog.served.faulty == 1
        await parts.catalog.catch_up(keys[1])
        assert parts.catalog.served.faulty == 1, "a look at another archive does not forget it"
        (names.archive / "x").rmdir()
        names.archive.rmdir()
        await parts.catalog.catch_up(keys[0])
        assert parts.catalog.served.faulty == 0
        assert there(parts) == {"a0", "a1", "a2"}


async def test_publishes_go_on_while_the_config_is_written(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    write = ConfigFile.write

    async with served(genomes, 2) as (parts, _):

        def written(config: ConfigFile, *arguments: Any) -> bool:
            held.append(parts.archive_folder.publishing.statistics().locked)
            return write(config, *arguments)

        monkeypatch.setattr(ConfigFile, "write", written)
        genomes.build("a0", a0=b"another")
        await parts.settle()
        assert held
        assert not any(held)


async def test_two_who_wait_at_once_share_one_refresh(genomes: Genomes, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(genomes, 2) as (parts, keys):
        await damage_silently(parts, keys[0])
        capsys.readouterr()
        parts.feed.publish([Event(1, 1.0, "archive.damaged", keys[0])])
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(parts.catalog.catch_up)
        assert capsys.readouterr().out.count("serving.config_written") == 1
        assert there(parts) == {"a1"}


@pytest.mark.parametrize("runs", [True, False])
async def test_who_waits_can_be_cancelled_while_an_archive_is_published(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch, *, runs: bool
) -> None:
    begin = ServedFolder.begin
    begun, held, returned = anyio.Event(), anyio.Event(), anyio.Event()
    async with served(genomes, 2) as (parts, keys), anyio.create_task_group() as group:

        async def publish() -> None:
            begun.set()
            await held.wait()

        async def wait() -> None:
            try:
                await parts.catalog.catch_up(keys[0])
            finally:
                returned.set()

        def begins(*arguments: Any) -> Any:
            anyio.from_thread.run(publish)
            return begin(*arguments)

        monkeypatch.setattr(ServedFolder, "begin", begins)
        if runs:
            group.start_soon(parts.catalog.run)
        await damage_silently(parts, keys[0])
        with anyio.fail_after(20):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(wait)
                await begun.wait()
                async with parts.archive_folder.publishing:
                    held.set()
                    while not parts.archive_folder.publishing.statistics().tasks_waiting:
                        await checkpoint()
                    waiting.cancel_scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await anyio.wait_all_tasks_blocked()
                        assert returned.is_set()
                        assert there(parts) == {"a0", "a1"}
                        gone = parts.archive_folder.publishing.statistics().tasks_waiting == 0
                        assert gone is not runs, "the refresh goes on without its client"
            if not runs:
                await parts.catalog.catch_up()
            while there(parts) != {"a1"}:
                await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()


async def test_after_many_changes_a_last_write_comes(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes that come while the config is made, while it is written, and in the rest after it."""
    write, begin = ConfigFile.write, ServedFolder.begin
    written: asyncio.Queue[bool] = asyncio.Queue()
    async with served(genomes, 6) as (parts, keys), anyio.create_task_group() as group:
        left = [*keys]

        async def damaged() -> None:
            key = left.pop()
            await damage_silently(parts, key)
            parts.feed.publish([Event(1, 1.0, "archive.damaged", key)])

        def before(function: Any) -> Any:
            def called(*arguments: Any) -> Any:
                if len(left) > 1:
                    anyio.from_thread.run(damaged)
                return function(*arguments)

            return called

        def writes(*arguments: Any) -> bool:
            changed = before(write)(*arguments)
            anyio.from_thread.run_sync(written.put_nowait, changed)
            return changed

        monkeypatch.setattr(ConfigFile, "write", writes)
        monkeypatch.setattr(ServedFolder, "begin", before(begin))
        group.start_soon(parts.catalog.run)
        await damaged()
        with anyio.fail_after(20):
            while there(parts) != {"a0"}:
                await written.get()
            await damaged()
            while there(parts):
                await written.get()
        group.cancel_scope.cancel()


async def test_a_change_after_a_look_at_all_is_served_at_once_but_not_after_two_in_a_row(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock on which a look at all archives takes 10 seconds, and all else no time."""
    now = 0.0
    bring = ServedFolder.bring

    def brings(folder: ServedFolder, wanted: Wanted) -> None:
        nonlocal now
        now += 10.0 * (len(wanted.keys or ()) > 1)
        bring(folder, wanted)

    async with served(genomes, 3) as (parts, keys), anyio.create_task_group() as group:
        monkeypatch.setattr(ServedFolder, "bring", brings)
        catalog = Updater(parts.core, parts.reconciler, clock=lambda: now)
        await catalog.catch_up()
        assert now == 10.0
        group.start_soon(catalog.run)
        await damage_silently(parts, keys[0])
        parts.feed.publish([Event(1, 1.0, "archive.damaged", keys[0])])
        with anyio.fail_after(20):
            while there(parts) != {"a1", "a2"}:
                await anyio.wait_all_tasks_blocked()
        now += 1.0
        look_like(parts, full=True)
        await catalog.catch_up()
        assert now == 21.0
        await damage_silently(parts, keys[1])
        parts.feed.publish([Event(1, 1.0, "archive.damaged", keys[1])])
        with anyio.move_on_after(1):
            while there(parts) == {"a1", "a2"}:
                await anyio.wait_all_tasks_blocked()
        assert there(parts) == {"a1", "a2"}, "it rests"
        await catalog.catch_up()
        assert there(parts) == {"a2"}
        group.cancel_scope.cancel()


def test_a_genome_that_loses_its_last_archive_gives_its_alias_to_another(shelf: Shelf) -> None:
    one, two = AssetKey("a" * 48, "fasta", "default"), AssetKey("b" * 48, "fasta", "default")
    shelf.put(one)
    shelf.put(two)
    genomes = {key.genome_digest: Genome(key.genome_digest, ("hg38",)) for key in (one, two)}
    look = msgspec.structs.replace(shelf.wanted().look, genomes=genomes)
    folder = ServedFolder(str(shelf.folder))
    folder.refresh(shelf.wanted(look=look))
    assert [genome["aliases"] for genome in tree_of(shelf)["genomes"].values()] == [["hg38"], ["b" * 48]]
    del shelf.records[one]
    folder.refresh(shelf.wanted([one], look=look, removals={one: Removal(one, "s", 1.0, "ann")}))
    assert [genome["aliases"] for genome in tree_of(shelf)["genomes"].values()] == [["hg38"]]
