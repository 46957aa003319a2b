"""When the daemon looks, what it queues, and how hints and sweeps work together."""

import threading
from collections.abc import AsyncIterator

import anyio
import pytest
from parts import running, until
from synthetic import Genomes
from watchfiles import Change

from refgenied.config.settings import Watching
from refgenied.model import AssetKey, AssetState, BusyError, Look, Priority
from refgenied.queue import conditions
from refgenied.reconciler import last_look, reconciler, standings
from refgenied.watcher import Notices, Watcher

pytestmark = pytest.mark.anyio


async def test_a_sweep_finds_what_no_hint_told_of(genomes: Genomes) -> None:
    watch = Watching(sweep_seconds=0.05, settle_seconds=0.01)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        key = genomes.build()
        await until(lambda: key in parts.reconciler.look.assets, parts.reconciler)
        assert (await parts.latest(key)).priority == Priority.BUILT
        group.cancel_scope.cancel()


async def test_a_hint_is_looked_after_when_it_is_quiet_and_not_for_ever_when_it_is_not(genomes: Genomes) -> None:
    watch = Watching(sweep_seconds=3600, settle_seconds=0.2, settle_max_seconds=0.5)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        looked = parts.reconciler.looked
        with anyio.fail_after(10):
            while not looked.is_set():  # never quiet
                parts.reconciler.hint()
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()


async def test_a_build_that_ends_without_a_word_is_seen_within_a_second(genomes: Genomes) -> None:
    key = genomes.build()
    genomes.start(key)
    watch = Watching(sweep_seconds=3600, settle_seconds=0.01)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        assert parts.reconciler.look.assets[key].state is AssetState.BUILDING
        genomes.finish(key)
        await until(lambda: parts.reconciler.look.assets[key].state is AssetState.COMPLETE, parts.reconciler)
        group.cancel_scope.cancel()


async def test_looks_asked_for_at_one_time_are_one_look(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        looks = 0
        real = parts.folder.look

        def counted(now: float) -> object:
            nonlocal looks
            looks += 1
            return real(now)

        parts.folder.look = counted  # pyright: ignore
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(parts.reconciler.look_again)
        assert looks <= 2


async def test_a_look_that_fails_as_nobody_thought_is_told_and_the_next_one_comes(genomes: Genomes) -> None:
    watch = Watching(sweep_seconds=0.05, settle_seconds=0.01)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        look = parts.folder.look

        def odd(_now: float) -> Look:
            raise ValueError("embedded null byte")

        parts.folder.look = odd
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        assert "embedded null byte" in parts.health.conditions["genomes"][0]
        parts.folder.look = look
        await until(lambda: "genomes" not in parts.health.conditions, parts.reconciler)
        group.cancel_scope.cancel()


async def test_a_look_that_does_not_come_back_is_told_and_holds_up_nobody(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build()
    answer = threading.Event()
    async with running(genomes, watch=Watching(sweep_seconds=3600)) as parts, anyio.create_task_group() as group:
        await parts.reconciler.look_again()
        monkeypatch.setattr(reconciler, "LATE_LOOK_SECONDS", 0.05)
        look = parts.folder.look

        def slow(now: float) -> Look:
            answer.wait()
            return look(now)

        parts.folder.look = slow  # pyright: ignore
        group.start_soon(parts.reconciler.run)
        with anyio.fail_after(20):
            await parts.health.ill("look")
            with pytest.raises(BusyError, match="has not come back"):
                await parts.reconciler.look_again()
            assert key in await parts.reconciler.standings.all()
            answer.set()
            await parts.reconciler.first_look.wait()
            await parts.health.well("look")
            answer.clear()
            parts.reconciler.hint()
            await parts.health.ill("look")
            group.cancel_scope.cancel()  # and nothing waits for it at the end
    answer.set()


async def test_an_archive_disk_that_does_not_answer_holds_up_no_listing(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standings, "FOLDER_ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(conditions, "DISK_ANSWER_SECONDS", 0.05)
    key = genomes.build()
    answer = threading.Event()
    async with running(genomes) as parts:
        await parts.settle()
        archive = parts.archive_folder
        monkeypatch.setattr(archive, "lost", lambda _records: answer.wait())
        monkeypatch.setattr(archive, "problem", answer.wait)
        with anyio.fail_after(20):
            assert key in await parts.reconciler.standings.all()
            await parts.reconciler.look_again()
        assert "does not answer" in parts.health.conditions["archive_folder"][0]
        monkeypatch.undo()
        answer.set()
        await parts.reconciler.look_again()
        assert "archive_folder" not in parts.health.conditions


async def test_what_is_logged_of_one_look_is_bounded(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(last_look, "MOST_CHANGES_LOGGED", 2)
    for number in range(5):
        genomes.build(f"group{number}")
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        assert len(parts.reconciler.look.assets) == 5
    said = capsys.readouterr().out
    assert said.count("asset.state ") == 2
    assert "more=3" in said


async def test_a_genome_folder_that_can_be_read_again_is_seen_soon(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "UNREADABLE_POLL_SECONDS", 0.05)
    key = genomes.build()
    away = genomes.root.with_name("away")
    genomes.root.rename(away)
    async with running(genomes, watch=Watching(sweep_seconds=3600)) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        assert "genome_folder" in parts.health.conditions
        away.rename(genomes.root)
        await until(lambda: key in parts.reconciler.look.assets, parts.reconciler)
        group.cancel_scope.cancel()


async def test_a_missing_genome_folder_is_told_and_nothing_is_forgotten(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        genomes.root.rename(genomes.root.with_name("elsewhere"))
        await parts.settle()
        assert "genome_folder" in parts.health.conditions
        assert parts.reconciler.look.assets[key].state is AssetState.COMPLETE
        assert await parts.record(key)
        genomes.root.with_name("elsewhere").rename(genomes.root)
        await parts.settle()
        assert "genome_folder" not in parts.health.conditions


async def test_an_archive_whose_asset_was_removed_stays_and_is_listed(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        genomes.groups.clear()
        genomes.write_config()
        genomes.folder(key).rename(genomes.root / "trash")
        await parts.settle()
        asset, stands = (await parts.reconciler.standings.all())[key]
        assert (asset.state, stands.archive, stands.due) == (AssetState.MISSING, "archived", False)
        assert await parts.record(key)


class Source:
    """A watch that is told what to do."""

    def __init__(self) -> None:
        self.watched: list[tuple[str, ...]] = []
        self.fire = anyio.Event()
        self.breaks = 0
        self.notices: Notices = ()

    async def __call__(self, folders: tuple[str, ...], stop: anyio.Event) -> AsyncIterator[Notices]:
        self.watched.append(folders)
        if self.breaks:
            self.breaks -= 1
            raise OSError("inotify watch limit reached")
        while not stop.is_set():
            await self.fire.wait()
            self.fire = anyio.Event()
            yield self.notices


async def test_notices_are_hints_and_a_broken_watch_is_built_anew(genomes: Genomes) -> None:
    source = Source()
    source.breaks = 1
    watch = Watching(sweep_seconds=3600, settle_seconds=0.01)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        watcher = Watcher(parts.reconciler, parts.current, parts.health, source)
        group.start_soon(parts.reconciler.run)
        group.start_soon(watcher.run)
        await parts.health.ill("watch")
        await until(lambda: watcher.watching, parts.reconciler)  # it asks for a look once it watches
        await parts.health.well("watch")
        assert source.watched == [(str(genomes.root),)] * 2
        key = genomes.build()
        source.notices = {(Change.modified, str(genomes.config))}
        source.fire.set()
        await until(lambda: key in parts.reconciler.look.assets, parts.reconciler)
        group.cancel_scope.cancel()


async def test_the_kernels_own_notices_work_and_end_at_once(genomes: Genomes) -> None:
    watch = Watching(sweep_seconds=3600, settle_seconds=0.01)
    key = AssetKey("", "", "")
    async with running(genomes, watch=watch) as parts:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                watcher = Watcher(parts.reconciler, parts.current, parts.health)
                group.start_soon(parts.reconciler.run)
                group.start_soon(watcher.run)
                await until(lambda: watcher.watching, parts.reconciler)  # it asks for a look once it watches
                key = genomes.build()
                await until(lambda: key in parts.reconciler.look.assets, parts.reconciler)
                group.cancel_scope.cancel()  # would wait for ever if the watch did not end
        assert parts.reconciler.look.assets[key].state is AssetState.COMPLETE
