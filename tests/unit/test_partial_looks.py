"""Work follows change: what a notice, a client, a pause and a timer each make the daemon look at, and judge."""

import os
import threading
from collections.abc import Callable, Collection
from functools import partial

import anyio
import msgspec
import pytest
from controlled import Desk, context_of
from parts import Parts, claim, running, until
from synthetic import DIGEST, Genomes

from refgenied.config.settings import Watching
from refgenied.control.verbs import wait
from refgenied.model import (
    Asset,
    AssetIncompleteError,
    AssetKey,
    AssetState,
    JobState,
    Look,
    ShortageError,
)
from refgenied.reconciler import hints, reconciler
from refgenied.reconciler.hints import Hints
from refgenied.reconciler.last_look import differing

pytestmark = pytest.mark.anyio

QUIET = Watching(sweep_seconds=3600, settle_seconds=0.01)


class Spy:
    """Notes every look of these parts, and lets it go on; `before` may stop it."""

    def __init__(self, parts: Parts) -> None:
        self.full = 0
        self.noticed: list[set[str]] = []
        self.keys: list[set[AssetKey]] = []
        self.before: Callable[[], None] = lambda: None
        self._look, self._again = parts.folder.look, parts.folder.look_again
        parts.folder.look = self._spied_look
        parts.folder.look_again = self._spied_again

    def _spied_look(self, now: float) -> Look:
        self.full += 1
        self.before()
        return self._look(now)

    def _spied_again(
        self, before: Look, now: float, *, noticed: Collection[str] = (), keys: Collection[AssetKey] = ()
    ) -> Look:
        self.noticed.append(set(noticed))
        self.keys.append(set(keys))
        self.before()
        before_full = self.full
        found = self._again(before, now, noticed=noticed, keys=keys)
        self.full = before_full  # a part may be found by a look at everything: that is the genome folder's own matter
        return msgspec.structs.replace(found, full=False)


def failing_once(error: Exception) -> Callable[[], None]:
    errors = [error]

    def fail() -> None:
        if errors:
            raise errors.pop()

    return fail


# ----------------------------------------------------------------------- notices and the timer


async def test_a_notice_is_a_look_at_what_it_names_and_no_more(genomes: Genomes) -> None:
    async with running(genomes, watch=QUIET) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        spy = Spy(parts)
        key = genomes.build()
        parts.reconciler.hint([str(genomes.config)])
        parts.reconciler.hint([str(genomes.folder(key))])
        await until(lambda: key in parts.reconciler.look.assets, parts.reconciler)
        assert spy.noticed == [{str(genomes.config), str(genomes.folder(key))}]
        assert spy.full == 0
        assert (await parts.latest(key)).state is JobState.QUEUED
        group.cancel_scope.cancel()


async def test_hints_do_not_put_a_sweep_off(genomes: Genomes) -> None:
    watch = Watching(sweep_seconds=0.3, settle_seconds=0.01, settle_max_seconds=0.01)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        spy = Spy(parts)
        with anyio.fail_after(20):
            while not spy.full:
                parts.reconciler.hint([str(genomes.config)])
                await parts.reconciler.looked.wait()
        assert spy.noticed, "and meanwhile the hints were looked at"
        group.cancel_scope.cancel()


def test_with_too_many_paths_anything_may_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "MOST_NOTICED", 2)
    told = Hints()
    told.add(["/a", "/b"])
    assert not told.anything
    told.add(["/c"])
    assert told.anything
    taken = told.take()
    assert (taken.anything, taken.paths) == (True, set())
    assert not told.anything


async def test_a_look_at_a_part_that_fails_ends_in_a_look_at_everything(genomes: Genomes) -> None:
    async with running(genomes, watch=QUIET) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        spy = Spy(parts)
        spy.before = failing_once(ValueError("nobody thought of this"))
        key = genomes.build()
        parts.reconciler.hint(["/elsewhere"])
        await until(lambda: key in parts.reconciler.look.assets, parts.reconciler)
        assert (spy.full, len(spy.noticed)) == (1, 1)
        assert "genomes" not in parts.health.conditions
        group.cancel_scope.cancel()


async def test_what_was_noticed_and_could_not_be_looked_at_is_looked_at_after_a_shortage(
    genomes: Genomes,
) -> None:
    async with running(genomes, watch=QUIET) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        spy = Spy(parts)
        spy.before = failing_once(ShortageError("no descriptors"))
        key = genomes.build()
        parts.reconciler.hint([str(genomes.config)])
        await parts.health.ill("shortage")
        assert key not in parts.reconciler.look.assets
        parts.reconciler.judge_again()  # as at the end of a shortage
        await until(lambda: key in parts.reconciler.look.assets, parts.reconciler)
        assert (await parts.latest(key)).state is JobState.QUEUED
        assert spy.full == 1, "a look that did not come to its end is followed by one at everything"
        group.cancel_scope.cancel()


async def test_after_a_look_that_was_cut_the_next_one_is_at_everything(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        spy = Spy(parts)
        began, go_on = threading.Event(), threading.Event()

        def stop() -> None:
            began.set()
            go_on.wait(20)

        spy.before = stop
        async with anyio.create_task_group() as client:
            client.start_soon(parts.reconciler.refreshed, [key.registry_path])
            await anyio.to_thread.run_sync(began.wait)
            client.cancel_scope.cancel()
        go_on.set()
        assert spy.full == 0
        other = genomes.build("other")
        await parts.reconciler.refreshed([key.registry_path])
        assert spy.full == 1
        assert other in parts.reconciler.look.assets


async def test_after_the_folder_could_not_be_read_the_next_look_is_at_everything(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        genomes.root.rename(away := genomes.root.with_name("away"))
        await parts.reconciler.look_again()
        away.rename(genomes.root)
        other = genomes.build("other")  # nobody could notice it
        spy = Spy(parts)
        await parts.reconciler.refreshed([key.registry_path])
        assert spy.full == 1
        assert other in parts.reconciler.look.assets


# ----------------------------------------------------------------------- what is judged


def spy_on_judged(parts: Parts) -> list[set[AssetKey]]:
    """The assets that are judged by name from now on, step by step."""
    judged: list[set[AssetKey]] = []
    real = parts.reconciler.standings.some

    async def some(keys: Collection[AssetKey]) -> object:
        judged.append(set(keys))
        return await real(keys)

    parts.reconciler.standings.some = some  # pyright: ignore
    return judged


async def test_only_what_has_changed_is_judged(genomes: Genomes) -> None:
    keys = [genomes.build(f"group{number}") for number in range(20)]
    async with running(genomes, watch=QUIET) as parts:
        await parts.settle()
        async with anyio.create_task_group() as group:
            group.start_soon(parts.reconciler.run)
            await parts.reconciler.first_look.wait()
            Spy(parts)
            judged = spy_on_judged(parts)
            (genomes.folder(keys[3]) / "more").write_bytes(b"x")
            parts.reconciler.hint([str(genomes.folder(keys[3]))])
            await parts.reconciler.looked.wait()
            group.cancel_scope.cancel()
        assert set().union(*judged) == {keys[3]}
        assert (await parts.latest(keys[3])).state is JobState.QUEUED


async def test_an_asset_whose_job_has_failed_for_a_moment_is_judged_with_the_next_hint_of_another(
    genomes: Genomes,
) -> None:
    key = genomes.build()
    async with running(genomes, watch=QUIET) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        Spy(parts)
        job = await claim(parts.jobs)
        await parts.jobs.fail(job, AssetIncompleteError("it was at work"))
        genomes.build("other")
        parts.reconciler.hint([str(genomes.config)])
        await parts.reconciler.looked.wait()
        latest = await parts.latest(key)
        assert (latest.state, latest.id != job.id) == (JobState.QUEUED, True)
        group.cancel_scope.cancel()


async def test_the_end_of_a_pause_and_other_settings_are_judged_without_a_look(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes, watch=QUIET) as parts, anyio.create_task_group() as group:
        parts.change_settings(automatic=False)
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        spy = Spy(parts)
        parts.change_settings(automatic=True)
        parts.reconciler.judge_again()
        await parts.reconciler.looked.wait()
        assert (await parts.latest(key)).state is JobState.QUEUED
        assert (spy.full, spy.noticed) == (0, [])
        group.cancel_scope.cancel()


async def test_what_the_database_did_not_take_is_queued_when_it_takes_it(genomes: Genomes) -> None:
    async with running(genomes, watch=QUIET) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        keys = [genomes.build(f"group{number}") for number in range(3)]
        Spy(parts)
        real, failed = parts.jobs.enqueue_all, []

        async def enqueue_all(needs: object) -> object:
            if len(failed) < 2:
                failed.append(needs)
                raise ValueError("nobody thought of this")
            return await real(needs)  # pyright: ignore

        parts.jobs.enqueue_all = enqueue_all  # pyright: ignore
        for _ in range(2):
            parts.reconciler.hint([str(genomes.config)])
            await parts.health.ill("genomes")
            parts.health.clear("genomes")
        parts.reconciler.hint(())  # nothing has changed now, and what is left is judged
        await parts.reconciler.looked.wait()
        for key in keys:
            assert (await parts.latest(key)).state is JobState.QUEUED
        group.cancel_scope.cancel()


def test_what_differs_between_two_looks_is_found_whatever_came_and_went() -> None:
    def asset(name: str) -> Asset:
        return Asset(AssetKey("d", name, "a"), AssetState.COMPLETE, "", "")

    def look(*assets: Asset) -> Look:
        return Look({one.key: one for one in assets}, {}, (), "", (1, 1), ())

    a, b, c = map(asset, "abc")
    newer = asset("b")
    assert differing(look(a, b), look(a, b)) == []
    assert differing(look(a, b), look(a, newer)) == [b.key]
    assert differing(look(a, b), look(b, a)) == []
    assert differing(look(a, b), look(a, c)) == [c.key, b.key]
    assert differing(look(a), look(a, b)) == [b.key]
    assert differing(look(a, b, c), look(a, newer)) == [b.key, c.key]


async def test_what_a_partial_look_has_changed_is_known_without_comparing_all(genomes: Genomes) -> None:
    keys = [genomes.build(f"a{number}") for number in range(3)]
    async with running(genomes) as parts:
        last = parts.reconciler.last
        looks = [last.look]
        for again in (last.renew, *[partial(last.renew_some, (), [keys[1]])] * 3):
            genomes.build("a1", a=os.urandom(9))
            await again()
            looks.append(last.look)
            for before in looks:
                assert sorted(last.differing(before)) == sorted(differing(before, last.look))
        unread = msgspec.structs.replace(looks[-2], assets={})
        found = last.differing(looks[-2])
        assert found == [keys[1]]
        assert last.differing(looks[-2]) is found, "made by the look itself"
        assert sorted(last.differing(unread)) == keys


# ----------------------------------------------------------------------- clients


async def test_a_client_has_the_assets_it_names_looked_at_and_no_others(genomes: Genomes) -> None:
    keys = [genomes.build(f"group{number}") for number in range(5)]
    async with running(genomes) as parts:
        await parts.settle()
        spy, judged = Spy(parts), spy_on_judged(parts)
        desk = Desk(context_of(parts))
        assert (await desk.ask("archive.wait", path="t7/group1:default"))["state"] == "archived"
        paths = [f"t7/group{number}:default" for number in range(5)]
        wishes = (await desk.ask("archive.create", paths=paths))["results"]
        assert {wish["state"] for wish in wishes} == {"archived"}
        await desk.ask("archive.remove", path="t7/group1:default")
        assert (spy.full, spy.keys) == (0, [{keys[1]}, set(keys), {keys[1]}])
        assert all(step <= {keys[1]} or step == set(keys) for step in judged)


async def test_a_rebuilt_asset_is_seen_by_who_names_it(genomes: Genomes) -> None:
    key = genomes.build(a=b"one")
    async with running(genomes) as parts:
        await parts.settle()
        genomes.build(a=b"longer")
        spy = Spy(parts)
        await parts.reconciler.refreshed(["t7/fasta:default"])
        assert spy.full == 0
        assert (await parts.latest(key)).state is JobState.QUEUED


async def test_a_path_that_means_nothing_is_looked_for_in_the_whole_folder(genomes: Genomes) -> None:
    async with running(genomes) as parts:
        await parts.settle()
        spy = Spy(parts)
        error = await Desk(context_of(parts)).refused("archive.wait", path="t7/none")
        assert error["data"]["kind"] == "asset_not_found"
        assert spy.full == 1
        for text in ("no path", "t7/a:b:c"):
            assert (await Desk(context_of(parts)).refused("archive.wait", path=text))["data"]["kind"] == (
                "bad_registry_path"
            )
        assert spy.full == 1, "no look makes these a path"


async def test_a_new_default_asset_is_the_one_that_is_meant(genomes: Genomes) -> None:
    old = genomes.build(asset="v1")
    async with running(genomes) as parts:
        await parts.settle()
        spy = Spy(parts)
        genomes.groups["fasta"] = {}
        new = genomes.build(asset="v2")  # the only one that the config names
        found = await Desk(context_of(parts)).lines("archive.wait", path="t7/fasta", timeout=0)
        assert found[-1]["result"]["registry_path"] == new.registry_path
        assert spy.full == 0
        assert spy.noticed[0] == {f"{genomes.root}/data/{DIGEST}/fasta"}
        assert spy.keys[:2] == [{old}, {new}]


async def test_a_client_leaves_what_was_noticed_to_the_look_after_it(genomes: Genomes) -> None:
    key = genomes.build()
    watch = Watching(sweep_seconds=3600, settle_seconds=0.3)
    async with running(genomes, watch=watch) as parts, anyio.create_task_group() as group:
        group.start_soon(parts.reconciler.run)
        await parts.reconciler.first_look.wait()
        spy = Spy(parts)
        parts.reconciler.hint(["/noticed"])
        await parts.reconciler.refreshed([key.registry_path])
        await parts.reconciler.looked.wait()
        assert spy.noticed[-1] == {"/noticed"}
        group.cancel_scope.cancel()


async def test_wait_waits_for_the_archive_and_for_the_config_only_when_asked(genomes: Genomes) -> None:
    genomes.build()
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        await parts.do(await claim(parts.jobs))  # nobody has refreshed what is served
        desk = Desk(context_of(parts))
        assert (await desk.ask("archive.wait", path="t7/fasta"))["state"] == "archived"
        assert parts.catalog.served.archives == 0
        assert (await desk.ask("archive.wait", path="t7/fasta", served=True, timeout=0))["state"] == "archived"
        assert parts.catalog.served.archives == 1


async def test_a_cancelled_wait_for_what_is_served_says_so(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "FOLDER_ANSWER_SECONDS", 0.5)
    genomes.build()
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        await parts.do(await claim(parts.jobs))
        desk = Desk(context_of(parts))
        async with parts.archive_folder.publishing, anyio.create_task_group() as group:  # so no refresh can begin
            group.start_soon(lambda: desk.ask("archive.wait", path="t7/fasta", served=True, timeout=0))
        found = desk.sent[-1]["result"]
        assert (found["state"], "served" in found["reason"]) == ("timeout", True)


# ----------------------------------------------------------------------- running builds


async def test_all_running_builds_are_looked_at_in_one_call_a_second(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "BUILD_POLL_SECONDS", 0.0)
    keys = [genomes.build(f"group{number}") for number in range(5)]
    for key in keys:
        genomes.start(key)
    genomes.build("quiet")
    async with running(genomes, watch=QUIET) as parts:
        await parts.reconciler.look_again()
        assert parts.reconciler.last.building == set(keys)
        asked: list[AssetKey] = []
        real, calls = parts.folder.asset, [0]

        def asset(key: AssetKey, now: float) -> object:
            asked.append(key)
            return real(key, now)

        run = parts.reconciler.last.disk.run

        async def counted(*call: object) -> object:
            calls[0] += 1
            if calls[0] == 3:
                genomes.finish(keys[2])
            return await run(*call)  # pyright: ignore

        parts.folder.asset = asset  # pyright: ignore
        parts.reconciler.last.disk.run = counted  # pyright: ignore
        with anyio.fail_after(20):
            await parts.reconciler.poll_builds()
        assert calls == [3]
        assert set(asked) == set(keys)
        assert len(asked) <= 3 * len(keys)


async def test_the_names_of_an_asset_follow_the_looks(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        names = parts.reconciler.last.names
        assert names("t7/fasta:default") == ["t7/fasta:default"]
        await parts.reconciler.look_again()
        assert names("t7/fasta:default") == names(key.registry_path) == [key.registry_path, "t7/fasta:default"]
        assert names("none/fasta:default") == ["none/fasta:default"]
