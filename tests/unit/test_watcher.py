"""What the kernel is asked to watch, when a watch is built anew, and what happens between a look and its watch."""

import os
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from parts import running, until
from synthetic import Genomes
from watchfiles import Change

from refgenied import watcher as watcher_module
from refgenied.config.settings import Watching
from refgenied.model import AssetState
from refgenied.reconciler import is_of_a_build, watchable
from refgenied.reconciler.watchable import Folders, changed_since
from refgenied.watcher import Notices, Watcher, worth_a_look

pytestmark = pytest.mark.anyio

LONG_AGO = 1e9


class Source:
    """A watch that remembers what it was asked to watch. Once all its watches may have one notice."""

    def __init__(self) -> None:
        self.built: list[set[str]] = []
        self.fire = anyio.Event()
        self.notices: Notices = ()
        self.as_it_begins: Callable[[], None] = lambda: None

    async def __call__(self, folders: tuple[str, ...], stop: anyio.Event) -> AsyncIterator[Notices]:
        self.as_it_begins()
        self.built.append(set(folders))
        async with anyio.create_task_group() as group:
            group.start_soon(self._stopped, stop, group.cancel_scope)
            await self.fire.wait()
            group.cancel_scope.cancel()
        if not stop.is_set():
            yield self.notices
            await stop.wait()

    async def _stopped(self, stop: anyio.Event, scope: anyio.CancelScope) -> None:
        await stop.wait()
        scope.cancel()


async def watching(watcher: Watcher, folders: Collection[str]) -> None:
    """Wait until these folders are watched, and no others."""
    with anyio.fail_after(20):
        while set(watcher.watching) != set(folders):
            await anyio.sleep(0.01)


async def test_a_build_that_begins_or_ends_has_a_watch_of_its_own(genomes: Genomes) -> None:
    key, source = genomes.build(), Source()
    watch = Watching(sweep_seconds=3600, settle_seconds=0.01)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        watcher = Watcher(parts.reconciler, parts.current, parts.health, source)
        group.start_soon(parts.reconciler.run)
        group.start_soon(watcher.run)
        root, build = str(genomes.root), f"{genomes.folder(key)}/_refgenie_build"
        await watching(watcher, {root})
        genomes.start(key)
        parts.reconciler.hint([str(genomes.folder(key))])
        await watching(watcher, {root, build})
        genomes.finish(key)
        parts.reconciler.hint([root])
        await watching(watcher, {root})
        assert source.built == [{root}, {build}]
        group.cancel_scope.cancel()


async def test_what_changed_between_a_look_and_its_watch_is_looked_at(genomes: Genomes) -> None:
    source = Source()
    watch = Watching(sweep_seconds=3600, settle_seconds=0.01)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        built = []
        source.as_it_begins = lambda: built.append(genomes.build())
        group.start_soon(parts.reconciler.run)
        group.start_soon(Watcher(parts.reconciler, parts.current, parts.health, source).run)
        await until(lambda: bool(built) and built[0] in parts.reconciler.look.assets, parts.reconciler)
        group.cancel_scope.cancel()


async def test_what_changed_before_a_build_was_watched_is_looked_at(genomes: Genomes) -> None:
    key, source = genomes.build(), Source()
    watch = Watching(sweep_seconds=3600, settle_seconds=0.01)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        watcher = Watcher(parts.reconciler, parts.current, parts.health, source)
        group.start_soon(parts.reconciler.run)
        group.start_soon(watcher.run)
        await watching(watcher, {str(genomes.root)})
        parts.folder.asset = lambda *_: parts.reconciler.look.assets[key]  # pyright: ignore (no poll finds it)
        source.as_it_begins = lambda: genomes.finish(key)
        genomes.start(key)
        parts.reconciler.hint([str(genomes.folder(key))])
        await until(lambda: parts.reconciler.look.assets[key].state is AssetState.BUILDING, parts.reconciler)
        await until(lambda: parts.reconciler.look.assets[key].state is AssetState.COMPLETE, parts.reconciler)
        group.cancel_scope.cancel()


async def test_new_folders_are_watched_beside_the_others_until_they_are_many(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watcher_module, "MOST_MOVING", 2)
    folders = [str(tmp_path / f"folder{number}") for number in range(9)]
    for folder in folders:
        Path(folder).mkdir()
    source = Source()
    async with running(genomes) as parts:
        real, named = parts.folder.look, [()]
        parts.folder.look = lambda now: msgspec.structs.replace(real(now), watch=named[0])  # pyright: ignore
        watcher = Watcher(parts.reconciler, parts.current, parts.health, source)

        async def now(*these: str) -> list[set[str]]:
            source.built.clear()
            named[0] = these
            await parts.reconciler.look_again()
            await watching(watcher, these)
            return source.built

        async with anyio.create_task_group() as group:
            parts.reconciler.first_look.set()
            group.start_soon(watcher.run)
            assert await now(*folders[:3]) == [set(folders[:3])]
            assert await now(*folders[:4]) == [{folders[3]}]
            assert await now(*folders[:5]) == [set(folders[3:5])]
            assert await now(*folders[:6]) == [set(folders[:6])]
            Path(folders[0]).rename(tmp_path / "away")
            Path(folders[0]).mkdir()
            built = await now(*folders[:6])
            with anyio.fail_after(20):
                while not built:
                    await anyio.sleep(0.01)
            assert built == [{folders[0]}]
            group.cancel_scope.cancel()


async def test_a_folder_that_was_deleted_and_made_again_is_watched_anew(genomes: Genomes, tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("one", "two")]
    for folder in folders:
        Path(folder).mkdir()
    source = Source()
    async with running(genomes) as parts, anyio.create_task_group() as group:
        real = parts.folder.look
        parts.folder.look = lambda now: msgspec.structs.replace(real(now), watch=tuple(folders))  # pyright: ignore
        await parts.reconciler.look_again()
        parts.reconciler.first_look.set()
        watcher = Watcher(parts.reconciler, parts.current, parts.health, source)
        group.start_soon(watcher.run)
        await watching(watcher, folders)
        hinted_at = parts.reconciler.hinted_at
        source.notices = {(Change.deleted, folders[1])}
        source.fire.set()
        with anyio.fail_after(20):
            while parts.reconciler.hinted_at == hinted_at:
                await anyio.sleep(0.01)
        changed_at = os.stat(folders[1]).st_ctime_ns
        while os.stat(folders[1]).st_ctime_ns == changed_at:  # it is a new folder, and has the same inode
            Path(folders[1]).chmod(0o755)
        await parts.reconciler.look_again()
        with anyio.fail_after(20):
            while len(source.built) == 1:
                await anyio.sleep(0.01)
        assert source.built == [set(folders), {folders[1]}]
        group.cancel_scope.cancel()


async def test_the_status_tells_of_folders_that_are_not_watched(genomes: Genomes) -> None:
    key = genomes.build()
    genomes.start(key)
    watch = Watching(sweep_seconds=3600, settle_seconds=0.01, most_folders=1)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        group.start_soon(Watcher(parts.reconciler, parts.current, parts.health, Source()).run)
        said = await parts.health.ill("watch_limit")
        assert said.startswith("1 folder is not watched (watch.most_folders is 1)")
        genomes.finish(key)
        parts.reconciler.hint()
        await parts.health.well("watch_limit")
        group.cancel_scope.cancel()


def test_what_a_build_writes_all_the_time_is_not_worth_a_look() -> None:
    log, flag = "/g/_refgenie_build/refgenie_log.md", "/g/_refgenie_build/refgenie_X_completed.flag"
    assert worth_a_look({(Change.modified, log)}) == set()
    assert worth_a_look({(Change.added, log), (Change.modified, flag)}) == {log, flag}
    assert worth_a_look({(Change.deleted, flag), (Change.modified, log)}) == {flag}


# ----------------------------------------------------------------------- which folders


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are asked for their stat."""
    asked: list[str] = []
    real = os.stat

    def stat(path: str, **how: Any) -> os.stat_result:
        asked.append(path)
        return real(path, **how)

    monkeypatch.setattr(watchable.os, "stat", stat)
    return asked


def test_only_new_and_noticed_folders_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    for folder in (one, two, three):
        Path(folder).mkdir()
    folders = Folders()
    folders.renew((one, two), LONG_AGO, most=9, again=None)
    asked = counted(monkeypatch)
    before = folders.watchable
    folders.renew((one, two), LONG_AGO, most=9, again=())
    folders.renew((one, two), LONG_AGO, most=9, again=("/elsewhere",))
    assert (asked, folders.watchable is before) == ([], True)
    folders.renew((one, two, three), LONG_AGO, most=9, again=())
    assert asked == [three]
    Path(one).rename(tmp_path / "away")
    Path(one).mkdir()
    folders.renew((one, two, three), LONG_AGO, most=9, again=(one,))
    assert asked == [three, one]
    assert folders.watchable[one].identity != before[one].identity
    Path(two).rmdir()
    folders.renew((one, two, three), LONG_AGO, most=9, again=(two,))
    assert set(folders.watchable) == {one, three}


def test_a_look_at_everything_puts_right_what_is_kept_of_the_folders(tmp_path: Path) -> None:
    folders = Folders()
    folders.renew((str(tmp_path),), LONG_AGO, most=9, again=None)
    right = dict(folders.watchable)
    wrong = right[str(tmp_path)]._replace(inode=1)
    folders.watchable[str(tmp_path)] = wrong  # pyright: ignore (nobody does this)
    folders.renew((str(tmp_path),), LONG_AGO, most=9, again=())
    assert folders.watchable == {str(tmp_path): wrong}
    folders.renew((str(tmp_path),), LONG_AGO, most=9, again=None)
    assert folders.watchable == right


def test_of_too_many_folders_the_top_the_builds_and_the_newest_stay(tmp_path: Path) -> None:
    data, builds = tmp_path / "data", tmp_path / "builds"
    groups = [data / "digest" / f"group{number}" for number in range(5)]
    build = data / "digest" / "old" / "asset" / "_refgenie_build"
    build.mkdir(parents=True)
    builds.mkdir()
    for group in groups:
        group.mkdir()
    while groups[1].stat().st_ctime_ns <= groups[4].stat().st_ctime_ns:  # the clock of files has large steps
        groups[1].chmod(0o755)
    folders = Folders()
    named = tuple(map(str, (data, builds, data / "digest", *groups, build)))
    folders.renew(named, LONG_AGO, most=5, again=None)
    assert set(folders.watchable) == set(map(str, (data, builds, data / "digest", build, groups[1])))
    assert folders.left_out == 4
    folders.renew(named, LONG_AGO, most=9, again=())
    assert (set(folders.watchable), folders.left_out) == (set(named), 0)


def test_a_folder_that_changed_at_about_the_time_of_the_look_is_not_certain(tmp_path: Path) -> None:
    folders = Folders()
    changed_at = tmp_path.stat().st_ctime
    folders.renew((str(tmp_path),), changed_at + 1, most=9, again=None)
    assert changed_since(folders.watchable) == {str(tmp_path)}
    folders.renew((str(tmp_path),), changed_at + 3, most=9, again=None)
    assert changed_since(folders.watchable) == set()
    (tmp_path / "new").mkdir()
    assert changed_since(folders.watchable) == {str(tmp_path)}
    folders.renew((str(tmp_path),), changed_at + 60, most=9, again=None)
    tmp_path.rename(tmp_path.with_name("away"))
    assert changed_since(folders.watchable) == {str(tmp_path)}
    tmp_path.mkdir()


def test_the_folders_of_running_builds() -> None:
    assert is_of_a_build("/g/data/digest/fasta/default/_refgenie_build")
    assert is_of_a_build("/g/builds/hg38/fasta/default")
    assert not any(map(is_of_a_build, ("/g", "/g/data", "/g/builds", "/g/builds/hg38", "/g/builds/hg38/fasta")))
