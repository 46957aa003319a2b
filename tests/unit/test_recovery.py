"""A database or an archive folder that came from a backup is noticed, and a crash is not taken for one."""

import shutil
from pathlib import Path

import pytest
from controlled import Desk, context_of
from parts import Parts, claim, running
from transactions import transaction

from refgenied.archive.format.manifest import read_manifest
from refgenied.archive.place import Place
from refgenied.archive.presence import Settled
from refgenied.archive.publisher import remove
from refgenied.archive.run import no_progress
from refgenied.archive_folder import generation
from refgenied.archive_folder.generation import MOST_UNSETTLED, Age, Generation, age
from refgenied.maintenance import recovery
from refgenied.model import Asset, AssetKey, NoSpaceError, StateError
from refgenied.store import archives

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """In place of SIGKILL, at a chosen point."""


@pytest.fixture
def manifests_read(monkeypatch) -> list[Path]:
    """Every place that a start compares with the database."""
    seen: list[Path] = []
    settle = recovery.settle

    def noted(place: Place) -> Settled:
        seen.append(place.manifest)
        return settle(place)

    monkeypatch.setattr(recovery, "settle", noted)
    return seen


def key(number: int) -> AssetKey:
    return AssetKey("d", "g", f"a{number}")


def backed_up(folder: Path) -> Path:
    return shutil.copytree(folder, folder.with_name(f"{folder.name}-backup"), symlinks=True)


def restored(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.with_name(f"{folder.name}-backup").rename(folder)


async def numbers(parts: Parts) -> tuple[int | None, int]:
    there = generation.read(parts.archive_folder.path)
    assert there
    async with transaction(parts.store) as tx:
        return await archives.generation(tx), there.number


async def downloaded(parts: Parts, of: AssetKey, number: int) -> None:
    async with transaction(parts.store) as tx:
        await tx.execute("UPDATE archive SET download_count = ? WHERE asset_group = ?", (number, of.asset_group))


def test_what_the_two_numbers_say():
    there = Generation(5, (key(1),))
    ages = [age(there, recorded) for recorded in (None, 3, 4, 5, 6)]
    assert ages == [Age.OLDER, Age.OLDER, Age.SAME, Age.SAME, Age.NEWER]
    assert [age(None, recorded) for recorded in (None, 0, 1)] == [Age.SAME, Age.SAME, Age.NEWER]
    assert age(Generation(1), None) is Age.SAME, "an upgrade that was cut is no backup"
    orderly = Generation(5)
    assert [age(orderly, recorded) for recorded in (3, 4, 5, 6)] == [Age.OLDER, Age.OLDER, Age.SAME, Age.NEWER]


def test_a_change_that_never_reached_the_database_stays_listed_until_one_does():
    now = Generation(5).next(key(1), recorded=5)
    assert now == Generation(6, (key(1),))
    now = now.next(key(2), recorded=5)
    assert now == Generation(7, (key(1), key(2)))
    assert now.next(key(3), recorded=7) == Generation(8, (key(3),))
    for number in range(MOST_UNSETTLED):
        now = now.next(key(number), recorded=5)
    assert age(now, now.number - len(now.unsettled) - 1) is Age.OLDER


async def test_publish_removal_and_import_raise_both_numbers(genomes, tmp_path):
    genomes.build("one"), genomes.build("two")
    async with running(genomes) as parts:
        assert await numbers(parts) == (1, 1)
        await parts.settle()
        assert await numbers(parts) == (3, 3)
        await Desk(context_of(parts)).ask("archive.remove", path="t7/one")
        assert await numbers(parts) == (4, 4)
        await parts.settle()
        assert await numbers(parts) == (4, 4), "nothing has changed"
    shutil.copytree(tmp_path / "archives", tmp_path / "old")
    shutil.rmtree(tmp_path / "archives")
    async with running(genomes, "another") as parts:
        before, _ = await numbers(parts)
        await parts.bring(tmp_path / "old")
        recorded, there = await numbers(parts)
        assert recorded == there >= before + 2


async def test_an_older_database_follows_the_manifests_and_says_so(genomes, tmp_path):
    kept, gone, new, removed = (genomes.build(name) for name in ("kept", "gone", "new", "removed"))
    async with running(genomes) as parts:
        desk = Desk(context_of(parts))
        await parts.settle()
        await desk.ask("archive.remove", path="t7/new")
        await downloaded(parts, kept, 7)
    backed_up(tmp_path / "state")
    async with running(genomes) as parts:
        desk = Desk(context_of(parts))
        await desk.ask("archive.remove", path="t7/removed")
        genomes.build("kept", kept=b"changed")
        await parts.reconciler.look_again()
        await desk.ask("archive.create", path="t7/new")
        await parts.settle()
        shutil.rmtree(genomes.folder(gone))
        newest = {each: await parts.record(each) for each in (kept, gone, new)}
        assert all(newest.values())
    restored(tmp_path / "state")
    async with running(genomes) as parts:
        for each, record in newest.items():
            found = await parts.record(each)
            assert (found.digest, found.seal, found.stamp) == (record.digest, record.seal, record.stamp)
        assert (await parts.record(kept)).download_count == 7
        assert await parts.record(removed) is None
        async with transaction(parts.store) as tx:
            assert set(await archives.removals(tx)) == {removed}
        (event,) = await parts.events("database.rebuilt")
        assert event.data == {"archives": 2, "removals": 1, "was": "older"}
        assert "older than the archive folder" in parts.health.conditions["database_age"][0]
        assert (await numbers(parts))[0] == (await numbers(parts))[1]


async def test_a_normal_start_reads_one_manifest_of_all(genomes, manifests_read):
    for number in range(5):
        genomes.build(f"asset{number}")
    async with running(genomes) as parts:
        await parts.settle()
    manifests_read.clear()
    async with running(genomes) as parts:
        assert len(manifests_read) <= 1, "the asset that changed last"
        assert not parts.health.conditions
        assert not await parts.events("database.rebuilt")


@pytest.mark.parametrize("point", ["before", "renamed", "marked"])
async def test_a_kill_during_a_change_is_no_older_database(point, genomes, manifests_read, monkeypatch):
    """Between the folder's number and the database's; the change is there after the next start, or not at all."""
    asset, others = genomes.build("asset"), [genomes.build(f"other{number}") for number in range(3)]
    async with running(genomes) as parts:
        await parts.settle()

        def killed(*_: object, **__: object) -> None:
            raise Killed

        with monkeypatch.context() as patch, pytest.raises((Killed, BaseExceptionGroup)):
            desk = Desk(context_of(parts))
            if point == "marked":
                patch.setattr(parts.jobs.records, "removed", killed)
                await desk.ask("archive.remove", path="t7/asset")
            else:
                genomes.build("asset", a=b"changed")
                await parts.reconciler.look_again()
                job = await claim(parts.jobs)
                archiver = parts.worker.archiver
                looks: list[Asset | Exception] = []
                await archiver.look([asset], looks, lambda _: False)
                found, record = looks[0], await parts.record(asset)
                result = await archiver.archive(job, found, record, no_progress)
                async with parts.archive_folder.changing(asset, parts.store):
                    if point == "renamed":
                        result.draft.publish()
                    raise Killed
        before, there = await numbers(parts)
        assert there == before + 1
    manifests_read.clear()
    async with running(genomes) as parts:
        assert {path.parent.parent.name for path in manifests_read} == {"asset"}
        assert not parts.health.conditions
        assert not await parts.events("database.rebuilt")
        assert len({*await numbers(parts)}) == 1
        record = await parts.record(asset)
        place = Place(parts.archive_folder.path, asset)
        if point == "marked":
            assert record is None
            assert [event.key for event in await parts.events("archive.removed")] == [asset]
        else:
            assert record.digest == read_manifest(place.manifest).digest
            assert len(await parts.events("archive.adopted")) == (point == "renamed")
        assert all([await parts.record(each) for each in others])


async def test_an_archive_folder_from_a_backup_is_taken_as_it_is_and_archived_again(genomes, tmp_path):
    changed, removed, new = genomes.build("changed"), genomes.build("removed"), None
    async with running(genomes) as parts:
        await parts.settle()
        old = await parts.record(changed)
    backed_up(tmp_path / "archives")
    async with running(genomes) as parts:
        await Desk(context_of(parts)).ask("archive.remove", path="t7/removed")
        genomes.build("changed", changed=b"another length")
        new = genomes.build("new")
        await parts.settle()
        newest = await parts.record(changed)
        assert newest.digest != old.digest
    restored(tmp_path / "archives")
    async with running(genomes) as parts:
        assert (await parts.record(changed)).digest == old.digest, "what is there is what is recorded"
        assert await parts.record(removed) is None
        assert read_manifest(Place(parts.archive_folder.path, removed).manifest).removed
        assert "archive folder was older" in parts.health.conditions["database_age"][0]
        assert new in parts.archive_folder.lost({new: await parts.record(new)})
        await parts.settle()
        assert (await parts.record(changed)).digest == newest.digest
        assert not parts.archive_folder.lost({new: await parts.record(new)})


async def test_a_removal_on_a_full_disk_makes_the_room_for_its_own_note(genomes, monkeypatch):
    asset = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(parts.archive_folder.path, asset)
        write = generation.write

        def full(folder: str, number: Generation) -> None:
            if place.archive.exists():
                raise NoSpaceError("the disk is full")
            write(folder, number)

        monkeypatch.setattr(generation, "write", full)
        desk = Desk(context_of(parts))
        refused = await desk.refused("archive.remove", path="t7/fasta")
        assert refused["data"]["kind"] == "no_space"
        assert await parts.record(asset)
        assert (await desk.ask("archive.remove", path="t7/fasta", delete_file=True))["deleted"]
        assert await parts.record(asset) is None
        assert read_manifest(place.manifest).removed


async def test_after_an_orderly_end_one_change_less_is_enough_to_know_an_older_database(genomes, tmp_path):
    genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        await parts.archive_folder.settle(parts.store)
    backed_up(tmp_path / "state")
    async with running(genomes) as parts:
        await Desk(context_of(parts)).ask("archive.remove", path="t7/fasta")
        assert generation.read(parts.archive_folder.path).unsettled
        await parts.archive_folder.settle(parts.store)
        assert not generation.read(parts.archive_folder.path).unsettled
    restored(tmp_path / "state")
    async with running(genomes) as parts:
        assert "0 archives and 1 removal" in parts.health.conditions["database_age"][0]
        (event,) = await parts.events("database.rebuilt")
        assert event.data == {"archives": 0, "removals": 1, "was": "older"}


async def test_a_generation_that_nobody_can_read_makes_a_start_compare_all(genomes, manifests_read):
    genomes.build("one"), genomes.build("two")
    async with running(genomes) as parts:
        await parts.settle()
        Path(parts.archive_folder.path, generation.NAME).write_text("{")
    manifests_read.clear()
    async with running(genomes) as parts:
        assert len(manifests_read) == 2
        assert not parts.health.conditions, "nothing was different"
        assert len({*await numbers(parts)}) == 1


async def test_a_removal_is_honoured_also_from_a_manifest_that_was_changed(genomes):
    asset = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        await Desk(context_of(parts)).ask("archive.remove", path="t7/fasta")
        manifest = Place(parts.archive_folder.path, asset).manifest
        manifest.write_bytes(manifest.read_bytes().replace(b'"size": ', b'"size": 1'))
    async with running(genomes, "another") as parts:
        await parts.settle()
        assert await parts.record(asset) is None


async def test_a_full_disk_hinders_no_start(genomes, monkeypatch):
    def full(*_: object) -> None:
        raise NoSpaceError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(generation, "write", full)
        async with running(genomes) as parts:
            assert not parts.health.conditions
    asset = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        assert await parts.record(asset)
        assert len({*await numbers(parts)}) == 1


@pytest.mark.anyio
async def test_a_removal_that_the_database_never_heard_of_is_found_whatever_came_after_it(genomes):
    removed = genomes.build("removed")
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(parts.archive_folder.path, removed)
        with pytest.raises(StateError):
            async with parts.archive_folder.changing(removed, parts.store):
                remove(place, at=2e9, by="ann", stamp="s", delete_file=False)
                raise StateError("the disk is full")
        for name in ("later", "last"):
            genomes.build(name)
            await parts.settle()
        assert await parts.record(removed)
        await parts.archive_folder.settle(parts.store)
    async with running(genomes) as parts:
        assert await parts.record(removed) is None
        async with transaction(parts.store) as tx:
            assert (await archives.removals(tx))[removed].removed_by == "ann"
