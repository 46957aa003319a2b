"""What killed processes leave is cleared away; what is somebody's stays; what is whole is recorded."""

import os
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from controlled import Desk, context_of
from packing import hidden
from parts import claim, running
from synthetic import DIGEST
from transactions import transaction

from refgenied.archive.place import Place
from refgenied.archive.run import Run
from refgenied.archive_folder.generation import NAME
from refgenied.archive_folder.leftovers import MOST_ARCHIVES, find_leftovers
from refgenied.archive_folder.names import ServedNames
from refgenied.maintenance import tidier
from refgenied.model import AssetKey, Requester
from refgenied.store import archives

OLD = 1_000_000_000.0


def left(path: Path, content: bytes = b"1234567890") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------ one kind after the other


@pytest.mark.anyio
async def test_what_nobody_works_on_goes_and_the_folders_with_it(genomes, tmp_path):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        root = tmp_path / "archives"
        names = ServedNames(Place(root, key))
        other = Place(root, AssetKey("d2" * 24, "imported", "default"))
        long = Place(root, AssetKey(DIGEST, "g" * 60, "a" * 175))
        for place in (other, long, Place(root, key)):
            for path in place.partials:
                left(path)
        (root / DIGEST / "made" / "only").mkdir(parents=True)
        for path in (names.archive, names.contents, names.recipe, names.log):
            left(path.with_name(f".{path.name}.partial"))
        for name in (".genome_config.yaml.partial", "..refgenied.partial", f".{NAME}.partial"):
            left(root / name)
        left(Place(root, key).archive.with_name(".fasta__default.tgz.replaced.partial"))
        for name in (".refgenied.probe", "..refgenied.probe.partial"):
            os.utime(left(root / name), (OLD, OLD))
        tidied = await parts.tidier.tidy()
        assert hidden(root) == []
        assert sorted(path.name for path in (root / DIGEST).iterdir() if path.is_dir()) == ["fasta"]
        assert not (root / ("d2" * 24)).exists()
        assert (tidied.files, tidied.bytes) == (9 + 4 + 3 + 1 + 2, 19 * 10)
        again = await parts.tidier.tidy()
        assert (again.files, again.adopted, again.refused) == (0, 0, [])
        assert (await parts.verifier.verify(key, Requester())).damage == ""


@pytest.mark.anyio
async def test_what_is_not_ours_stays(genomes, tmp_path):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        root = tmp_path / "archives"
        place = Place(root, key)
        theirs = [
            left(root / ".bashrc"),
            left(root / ".notes.partial"),
            left(root / "genome_config.yaml.partial"),
            left(root / DIGEST / ".notes.partial"),
            left(root / DIGEST / ".fasta__default.tgz.Xy3aB1"),  # rsync's
            left(place.folder / ".notes.partial"),
            left(place.folder / "fasta__default.tgz.partial"),
            left(root / DIGEST / f".fasta__default.{'0' * 32}.tgz"),  # one that is kept for a while
            left(root / ".refgenied.probe"),  # somebody writes it now
            left(root / "lost+found" / "deep" / "er" / ".x.tgz.partial"),
        ]
        (root / "link").symlink_to(tmp_path)
        await parts.tidier.tidy()
        assert [path for path in theirs if not path.exists()] == []
        assert (root / "link").is_symlink()


@pytest.mark.anyio
async def test_the_files_of_a_running_job_and_of_a_reserved_asset_stay(genomes, tmp_path):
    running_one, reserved = genomes.build("running"), genomes.build("reserved")
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        job = await claim(parts.jobs)
        (waiting,) = {running_one, reserved} - {job.key}
        partials = [left(Place(tmp_path / "archives", key).archive_partial) for key in (job.key, waiting)]
        with parts.jobs.reserved(waiting):
            await parts.tidier.tidy()
            for path in partials:
                assert path.exists()
        await parts.tidier.tidy()
        assert [path.exists() for path in partials] == [True, False]


@pytest.mark.anyio
async def test_a_whole_archive_without_a_record_is_recorded_and_one_that_is_not_whole_is_named(
    genomes, tmp_path, monkeypatch
):
    whole, damaged, removed = (genomes.build(name) for name in ("whole", "damaged", "removed"))
    async with running(genomes) as parts:
        await parts.settle()
        await Desk(context_of(parts)).ask("archive.remove", path="t7/removed")
        async with transaction(parts.store) as tx:
            await tx.execute("DELETE FROM archive")
            await tx.execute("DELETE FROM removal")
        place = Place(tmp_path / "archives", damaged)
        data = bytearray(place.archive.read_bytes())
        data[len(data) // 2] ^= 1
        place.archive.write_bytes(data)
        tidied = await parts.tidier.tidy()
        assert (tidied.adopted, len(tidied.refused)) == (1, 1)
        assert await parts.record(whole)
        assert await parts.record(damaged) is None
        async with transaction(parts.store) as tx:
            assert set(await archives.removals(tx)) == {removed}
        told = parts.health.conditions["unrecorded"][0]
        assert told.startswith("1 archive is in the archive folder and not in the database: ")
        assert str(place.archive) in told
        with monkeypatch.context() as patch:
            patch.setattr(tidier, "prove", None)  # nothing is read again while the files are the same
            assert (await parts.tidier.tidy()).refused == tidied.refused
        await parts.settle()  # its asset is there: it is made anew
        await parts.tidier.tidy()
        assert "unrecorded" not in parts.health.conditions


@pytest.mark.anyio
async def test_reading_an_archive_that_nobody_recorded_holds_no_stop_up(genomes, monkeypatch):
    genomes.build()
    began = threading.Event()

    def very_long(_: object, __: object, run: Run) -> None:
        began.set()
        while True:
            run.check()

    async with running(genomes) as parts:
        await parts.settle()
        async with transaction(parts.store) as tx:
            await tx.execute("DELETE FROM archive")
        monkeypatch.setattr(tidier, "prove", very_long)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(parts.tidier.tidy)
                await anyio.to_thread.run_sync(began.wait)
                group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_an_unreadable_folder_stops_neither_the_start_nor_the_tidy(genomes, tmp_path, monkeypatch):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
    root = tmp_path / "archives"
    (root / "lost+found").mkdir()
    partial = left(Place(root, AssetKey(DIGEST, "x", "y")).archive_partial)
    scandir = os.scandir

    def refused(path: object = "."):
        if "lost+found" in os.fsdecode(path):
            raise PermissionError(13, "Permission denied", os.fsdecode(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    async with running(genomes, "another") as parts:
        assert await parts.record(key)
        await parts.tidier.tidy()
        assert not partial.exists()
        assert [one.key for one in await parts.bring()] == [key]
        assert "unreadable" not in parts.health.conditions, "no archive is in there"


@pytest.mark.anyio
async def test_a_genomes_folder_that_cannot_be_read_is_said_until_it_can(genomes, tmp_path, monkeypatch):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
    closed = tmp_path / "archives" / DIGEST / "fasta"
    scandir = os.scandir

    def refused(path: object = "."):
        if os.fsdecode(path) == str(closed):
            raise PermissionError(13, "Permission denied", os.fsdecode(path))
        return scandir(path)

    async with running(genomes, "another") as parts:
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", refused)
            await parts.tidier.tidy()
            assert f"{closed}: Permission denied" in parts.health.conditions["unreadable"][0]
        await parts.tidier.tidy()
        assert "unreadable" not in parts.health.conditions
        assert await parts.record(key)


def test_one_walk_over_many_assets_is_quick(tmp_path):
    for number in range(2000):
        place = Place(tmp_path, AssetKey(f"{number % 20:048x}", f"group{number}", "default"))
        place.folder.mkdir(parents=True)
        place.archive.touch()
        place.manifest.touch()
    calls = 0
    scandir = os.scandir

    def counted(path: object) -> object:
        nonlocal calls
        calls += 1
        return scandir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", counted)
        parts = list(find_leftovers(tmp_path, print))
    assert sum(len(part.archives) for part in parts) == 2000
    assert all(len(part.archives) <= MOST_ARCHIVES and not part.unfinished and not part.files for part in parts)
    assert calls == 1 + 20 + 2000 + 2000, "each folder once"
