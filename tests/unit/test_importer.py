"""Import: archives that are there already come into the database as they are, whoever made them."""

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import yaml
from foreign import server_folder, tar
from packing import md5
from parts import Parts, pragma, running
from synthetic import DIGEST
from transactions import transaction

from refgenied.archive import restore
from refgenied.archive.adopt import take_foreign
from refgenied.archive.discover import Maker, find_archives
from refgenied.archive.format.manifest import About, read_manifest
from refgenied.archive.place import Place
from refgenied.archive.publisher import make_folders, remove
from refgenied.archive.run import Run
from refgenied.archive_folder.folder import PROBE
from refgenied.maintenance import importer
from refgenied.maintenance.importer import Taken
from refgenied.model import AssetKey, Outcome, Requester, StateError, UnreadableError, WriteError
from refgenied.policy import ArchiveState
from refgenied.queue import archiver

pytestmark = pytest.mark.anyio


def told(imports: list) -> dict[str, str]:
    return {one.key.asset_group: one.taken.value for one in imports}


async def removed(parts: Parts) -> None:
    async with transaction(parts.store) as tx:
        await tx.execute("DELETE FROM archive")


async def test_refgenieservers_archives_are_taken_as_they_are(genomes, tmp_path):
    fasta, index = genomes.build("fasta", **{"g.fa": b">1\nA\n", "g.fa.fai": b"1\t1\n"}), genomes.build("index")
    async with running(genomes) as parts:
        root = server_folder(genomes, tmp_path / "archives", fasta, index)
        flat = root / DIGEST / "fasta__default.tgz"
        before = flat.read_bytes()
        imports = await parts.bring()
        assert told(imports) == {"fasta": "imported", "index": "imported"}
        assert {one.maker for one in imports} == {Maker.REFGENIESERVER}
        record = await parts.record(fasta)
        assert (root / record.path).samefile(flat)
        assert flat.read_bytes() == before
        assert (record.digest, record.aliases, record.requested_by) == (md5(before), ("t7",), "ann")
        manifest = read_manifest((root / record.path).with_suffix(".json"))
        assert manifest.build.recipe == {"name": "fasta"}
        assert manifest.build.log_name == "build_log_fasta__default.md"
        assert manifest.seek_keys == {"fasta": "g.fa"}
        assert manifest.recorded_asset_digest == manifest.asset_digest
        assert told(await parts.bring()) == {"fasta": "known", "index": "known"}
        verdict = await parts.verifier.verify(fasta, Requester("ann", 1, 2))
        assert verdict.damage == ""

        await parts.settle()  # the assets are compared with what was imported: nothing is compressed, nothing replaced
        assert (await parts.latest(fasta)).outcome is Outcome.UNCHANGED
        assert (await parts.record(fasta)).digest == md5(before)
        assert (await parts.reconciler.standings.all())[fasta][1].archive is ArchiveState.ARCHIVED

        data = bytearray(before)
        data[-30] ^= 1
        flat.write_bytes(data)  # written in place, so under both names
        verdict = await parts.verifier.verify(fasta, Requester("ann", 1, 2))
        assert "member" in verdict.damage
        await parts.work()
        assert (await parts.verifier.verify(fasta, Requester("ann", 1, 2))).damage == ""


async def test_another_folder_is_linked_from_and_left_as_it_is(genomes, tmp_path):
    key = genomes.build("fasta")
    async with running(genomes) as parts:
        root = server_folder(genomes, tmp_path / "old", key)
        before = sorted(str(path) for path in root.rglob("*"))
        assert told(await parts.bring(root)) == {"fasta": "imported"}
        assert sorted(str(path) for path in root.rglob("*")) == before
        record = await parts.record(key)
        assert (tmp_path / "archives" / record.path).samefile(root / DIGEST / "fasta__default.tgz")
        assert told(await parts.bring(root)) == {"fasta": "known"}


async def test_few_archives_are_looked_for_at_once_and_none_is_missed(genomes, tmp_path, monkeypatch):
    """Those that were found are taken, which makes folders and names, before the next are looked for."""
    monkeypatch.setattr(importer, "MOST_FOUND", 2)
    ours, theirs = [genomes.build(name) for name in "abc"], [genomes.build(name) for name in "defgh"]
    async with running(genomes) as parts:
        await parts.settle()
        await removed(parts)
        for key in theirs:
            shutil.rmtree(Place(tmp_path / "archives", key).folder)
        server_folder(genomes, tmp_path / "archives", *theirs)
        assert told(await parts.bring()) == dict.fromkeys("abcdefgh", "imported")
        assert len(await parts.events("archive.imported")) == len([*ours, *theirs])
        assert set(told(await parts.bring()).values()) == {"known"}


def test_reading_a_large_member_can_be_stopped(tmp_path):
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "large").write_bytes(bytes(16 << 20))
    archive = tar(tmp_path / "default", tmp_path / "x.tgz")
    checks: list[None] = []
    place = Place(tmp_path / "archives", AssetKey(DIGEST, "fasta", "default"))
    take_foreign(archive, place, About(created_at=1.0), Run(check=lambda: checks.append(None)))
    assert len(checks) > 16


async def test_another_disk_is_copied_from(genomes, tmp_path, monkeypatch):
    key = genomes.build("fasta")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    async with running(genomes) as parts:
        root = server_folder(genomes, tmp_path / "old", key)
        monkeypatch.setattr(os, "link", refuse)
        assert told(await parts.bring(root)) == {"fasta": "imported"}
        record = await parts.record(key)
        assert (tmp_path / "archives" / record.path).stat().st_nlink == 1


@pytest.mark.parametrize("what", ["md5", "content", "cut", "folder", "hard link", "link"])
async def test_what_is_not_what_its_makers_recorded_is_refused(what, genomes, tmp_path):
    key = genomes.build("fasta", a=b"1", b=b"2")
    async with running(genomes) as parts:
        root = server_folder(genomes, tmp_path / "archives", key)
        archive = root / DIGEST / "fasta__default.tgz"
        config = yaml.safe_load((root / "genome_config.yaml").read_text())
        entry = config["genomes"][DIGEST]["assets"]["fasta"]["tags"]["default"]
        folder = genomes.folder(key)
        if what == "md5":
            entry["archive_digest"] = "0" * 32
        elif what == "content":
            entry["asset_digest"] = "0" * 32
        elif what == "cut":
            os.truncate(archive, archive.stat().st_size - 5)
        elif what == "link":
            archive.rename(tmp_path / "secret.tgz")
            archive.symlink_to(tmp_path / "secret.tgz")
        elif what == "hard link":
            os.link(folder / "a", folder / "c")
            tar(folder, archive)
        else:
            tar(folder.rename(folder.with_name("other")), archive)
        if what not in ("md5", "content"):
            del entry["archive_digest"]
        (root / "genome_config.yaml").write_text(yaml.safe_dump(config))
        (one,) = await parts.bring()
        assert one.taken is Taken.REFUSED
        assert one.reason
        assert await parts.record(key) is None
        assert archive.exists()
        assert not (root / DIGEST / "fasta").exists()
        assert not list(root.rglob(".*.partial"))


async def test_refgenie_1s_archives_are_taken_where_they_are(genomes, tmp_path):
    key = genomes.build("fasta")
    nested = tmp_path / "archives" / DIGEST / "fasta" / "default" / "fasta__default.tgz"
    tar(genomes.folder(key), nested)
    async with running(genomes) as parts:
        inode = nested.stat().st_ino
        (one,) = await parts.bring()
        assert (one.taken, one.maker) == (Taken.IMPORTED, Maker.REFGENIE1)
        assert nested.stat().st_ino == inode
        assert (await parts.verifier.verify(key, Requester("ann", 1, 2))).damage == ""


async def test_a_job_takes_over_what_another_program_packed_from_the_same_files(genomes, tmp_path):
    key = genomes.build("fasta")
    nested = tmp_path / "archives" / DIGEST / "fasta" / "default" / "fasta__default.tgz"
    before = tar(genomes.folder(key), nested).read_bytes()
    async with running(genomes) as parts:
        await parts.settle()
        assert (await parts.latest(key)).outcome is Outcome.ADOPTED
        assert (await parts.record(key)).digest == md5(before)
        assert nested.read_bytes() == before


class LongPack:
    """In place of the pack: it begins to write, and then takes as long as the test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = archiver.pack_asset
        self.began = anyio.Event()
        self._go_on = threading.Event()
        monkeypatch.setattr(archiver, "pack_asset", self)

    def __call__(self, tree: object, place: Place, *arguments: object, **named: object) -> object:
        make_folders(place)
        for partial in place.partials:
            partial.write_bytes(b"begun")
        anyio.from_thread.run_sync(self.began.set)
        self._go_on.wait(30)
        assert [partial.read_bytes() for partial in place.partials] == [b"begun"] * 3, "another writer was here"
        return self._real(tree, place, *arguments, **named)

    def go_on(self) -> None:
        self._go_on.set()


async def test_an_import_does_not_wait_for_a_pack(genomes, tmp_path, monkeypatch):
    genomes.build("packed")
    other = genomes.build("other")
    async with running(genomes) as parts, anyio.create_task_group() as group:
        root = server_folder(genomes, tmp_path / "old", other)
        await parts.reconciler.look_again()
        async with transaction(parts.store) as tx:
            await tx.execute("DELETE FROM job WHERE asset_group = 'other'")
        pack = LongPack(monkeypatch)
        group.start_soon(parts.work)
        await pack.began.wait()
        assert told(await parts.bring(root)) == {"other": "imported"}
        assert (await parts.verifier.verify(other, Requester("ann", 1, 2))).damage == ""
        await parts.catalog.refresh()
        assert parts.catalog.served.archives == 1
        pack.go_on()
    assert not list((tmp_path / "archives").rglob(".*.partial"))


async def test_an_import_of_the_asset_that_is_packed_waits_for_that_job(genomes, tmp_path, monkeypatch):
    key = genomes.build("fasta")
    async with running(genomes) as parts, anyio.create_task_group() as group:
        root = server_folder(genomes, tmp_path / "old", key)
        await parts.reconciler.look_again()
        pack = LongPack(monkeypatch)
        group.start_soon(parts.work)
        await pack.began.wait()
        imports: list = []

        async def bring() -> None:
            imports.extend(await parts.bring(root))

        waits, at_rest = anyio.Event(), parts.jobs.at_rest

        async def told_at_rest(key: object) -> None:
            waits.set()
            await at_rest(key)

        monkeypatch.setattr(parts.jobs, "at_rest", told_at_rest)
        group.start_soon(bring)
        await waits.wait()
        pack.go_on()
    async with running(genomes) as parts:
        assert told(imports) == {"fasta": "known"}
        assert (await parts.latest(key)).outcome is Outcome.PUBLISHED
        assert (await parts.verifier.verify(key, Requester("ann", 1, 2))).damage == ""


async def test_what_would_refuse_each_further_archive_too_ends_an_import_with_one_line(genomes, tmp_path):
    keys = [genomes.build(name) for name in ("a", "b")]
    async with running(genomes) as parts:
        root = server_folder(genomes, tmp_path / "old", *keys)
        await pragma(parts, "PRAGMA busy_timeout = 0")
        other = sqlite3.connect(parts.store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="locked"):
            await parts.bring(root)
        other.close()
        in_the_way = tmp_path / "archives" / DIGEST
        in_the_way.write_text("not a folder")
        assert told(await parts.bring(root)) == {"a": "refused", "b": "refused"}
        (tmp_path / "archives" / PROBE / "x").mkdir(parents=True)
        with pytest.raises(WriteError, match="probe"):
            await parts.bring(root)
        shutil.rmtree(tmp_path / "archives" / PROBE)
        in_the_way.unlink()
        assert told(await parts.bring(root)) == {"a": "imported", "b": "imported"}


@pytest.mark.parametrize("by", ["an import", "a job"])
async def test_what_is_served_stays_served_while_it_is_taken_over(by, genomes, tmp_path, monkeypatch):
    key = genomes.build("fasta")
    async with running(genomes) as parts, anyio.create_task_group() as group:
        root = server_folder(genomes, tmp_path / "archives", key)
        config = root / "genome_config.yaml"
        nested = Place(root, key).archive
        nested.parent.mkdir(parents=True)
        os.link(root / DIGEST / nested.name, nested)
        await parts.reconciler.look_again()
        await parts.catalog.refresh()
        written = yaml.safe_load(config.read_text())
        written["genomes"][DIGEST]["assets"]["fasta"]["asset_description"] = "by hand"
        config.write_text(yaml.safe_dump(written))
        whose, step = (parts.jobs.records, "imported") if by == "an import" else (parts.jobs, "succeed")
        recorded, seen = getattr(whose, step), []

        async def refreshed_in_between(*arguments: object, **named: object) -> None:
            group.start_soon(parts.catalog.refresh)
            await anyio.sleep(0.3)
            seen.append(config.read_text())
            await recorded(*arguments, **named)

        monkeypatch.setattr(whose, step, refreshed_in_between)
        await (parts.bring() if by == "an import" else parts.work())
        assert "by hand" in seen[0]
    assert "by hand" in config.read_text()


@pytest.mark.parametrize("force", [False, True])
async def test_a_publish_never_overwrites_what_another_program_made(force, genomes, tmp_path):
    key = genomes.build("fasta")
    nested = tmp_path / "archives" / DIGEST / "fasta" / "default" / "fasta__default.tgz"
    before = tar(genomes.folder(key), nested).read_bytes()
    if not force:
        (genomes.folder(key) / "fasta").write_bytes(b"new")
        genomes.start(key)
        genomes.finish(key)
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        if force:
            job = await parts.latest(key)
            await parts.jobs.enqueue(key, stamp=job.stamp, priority=0, force=True)
        await parts.work()
        assert (await parts.latest(key)).outcome is Outcome.PUBLISHED
        assert (await parts.record(key)).digest != md5(before)
        assert (nested.parent / "fasta__default.tgz.replaced").read_bytes() == before


async def test_the_same_content_is_not_compressed_again_after_a_move(genomes, tmp_path):
    """Another machine: every inode and ctime is another, so every stamp is."""
    key = genomes.build("fasta", a=b"1", b=b"2")
    async with running(genomes) as parts:
        await parts.settle()
        digest = (await parts.record(key)).digest
    shutil.copytree(genomes.root, tmp_path / "moved", symlinks=True)
    shutil.rmtree(genomes.root)
    (tmp_path / "moved").rename(genomes.root)
    async with running(genomes, "another") as parts:
        before = (tmp_path / "archives" / (await parts.record(key)).path).stat().st_ino
        await parts.settle()
        assert (await parts.latest(key)).outcome is Outcome.UNCHANGED
        record = await parts.record(key)
        assert (record.digest, (tmp_path / "archives" / record.path).stat().st_ino) == (digest, before)


async def test_ours_come_from_another_folder_with_their_manifests(genomes, tmp_path):
    keys = [
        genomes.build(name, **{f"f{n}": b"x" for n in range(files)}) for name, files in (("few", 3), ("many", 1200))
    ]
    async with running(genomes) as parts:
        await parts.settle()
    (tmp_path / "archives").rename(tmp_path / "old")
    (tmp_path / "old/.refgenied").unlink()
    async with running(genomes, "another") as parts:
        assert told(await parts.bring(tmp_path / "old")) == {"few": "imported", "many": "imported"}
        for key in keys:
            assert (await parts.verifier.verify(key, Requester("ann", 1, 2))).damage == ""
        path = tmp_path / "archives" / (await parts.record(keys[1])).path
        done = await anyio.to_thread.run_sync(lambda: restore(path, tmp_path / "out"))
        assert done.files == 1200


async def test_a_list_under_another_name_is_not_ours(genomes, tmp_path):
    genomes.build("many", **{f"f{n}": b"x" for n in range(1200)})
    async with running(genomes) as parts:
        await parts.settle()
    (tmp_path / "archives").rename(tmp_path / "old")
    (tmp_path / "old/.refgenied").unlink()
    (manifest,) = (tmp_path / "old").rglob("many__default.json")
    (listing,) = manifest.parent.glob("*.gz")
    listing.rename(listing.with_name("other.gz"))
    manifest.write_text(manifest.read_text().replace(listing.name, "other.gz"))
    async with running(genomes, "another") as parts:
        assert told(await parts.bring(tmp_path / "old")) == {"many": "refused"}


@pytest.mark.needs("root")
async def test_what_belongs_to_somebody_else_is_copied(genomes, tmp_path):
    key = genomes.build("fasta")
    async with running(genomes) as parts:
        await parts.settle()
    (tmp_path / "archives").rename(tmp_path / "old")
    (tmp_path / "old/.refgenied").unlink()
    (theirs,) = (tmp_path / "old").rglob("fasta/default/*.tgz")
    os.chown(theirs, 12345, 12345)
    async with running(genomes, "another") as parts:
        assert told(await parts.bring(tmp_path / "old")) == {"fasta": "imported"}
        ours = tmp_path / "archives" / (await parts.record(key)).path
        assert not ours.samefile(theirs)
        assert ours.read_bytes() == theirs.read_bytes()


async def test_a_copy_under_another_assets_name_is_refused(genomes, tmp_path):
    key = genomes.build("fasta")
    async with running(genomes) as parts:
        await parts.settle()
        before = await parts.record(key)
        other = tmp_path / "copy" / DIGEST / "other" / "default"
        shutil.copytree((tmp_path / "archives" / before.path).parent, other)
        for file in list(other.iterdir()):
            file.rename(file.with_name(file.name.replace("fasta__", "other__")))
        assert told(await parts.bring(tmp_path / "copy")) == {"other": "refused"}
        assert await parts.record(key) == before


async def test_a_lost_database_is_made_good_by_an_import_too(genomes, tmp_path):
    key = genomes.build("fasta")
    async with running(genomes) as parts:
        await parts.settle()
        before = await parts.record(key)
        await removed(parts)
        assert told(await parts.bring()) == {"fasta": "imported"}
        after = await parts.record(key)
        assert (after.digest, after.stamp, after.created_at) == (before.digest, before.stamp, before.created_at)
        assert [event.data["maker"] for event in await parts.events("archive.imported")] == ["refgenied"]


async def test_a_removal_is_honoured(genomes, tmp_path):
    key = genomes.build("fasta")
    async with running(genomes) as parts:
        await parts.settle()
        place = Place(tmp_path / "archives", key)
        record = await parts.record(key)
        await anyio.to_thread.run_sync(lambda: remove(place, at=1.0, by="ann", stamp=record.stamp, delete_file=False))
        await removed(parts)
        assert told(await parts.bring()) == {"fasta": "removed"}
        await parts.settle()
        assert await parts.record(key) is None


async def test_no_folder_no_import(genomes, tmp_path):
    async with running(genomes) as parts:
        with pytest.raises(UnreadableError):
            await parts.bring(tmp_path / "nowhere")
        assert await parts.bring(tmp_path) == []


async def test_a_first_publish_that_was_cut_is_found_when_the_database_is_lost_too(genomes, tmp_path):
    key = genomes.build("fasta")
    async with running(genomes) as parts:
        await parts.settle()
        manifest = (tmp_path / "archives" / (await parts.record(key)).path).with_suffix(".json")
        manifest.rename(manifest.with_name(f".{manifest.name}.partial"))
    async with running(genomes, "another") as parts:
        assert (await parts.record(key)).digest == read_manifest(manifest).digest


def test_a_flat_archive_that_cannot_be_looked_at_stops_no_other(genomes, tmp_path, monkeypatch):
    keys = genomes.build("fasta"), genomes.build("index")
    root = server_folder(genomes, tmp_path / "archives", *keys)
    nested = Place(root, keys[0]).archive
    nested.parent.mkdir(parents=True)
    nested.write_bytes(b"an archive")
    samefile = Path.samefile

    def refused(path: Path, other: Path) -> bool:
        if path == nested:
            raise PermissionError(13, "Permission denied", str(path))
        return samefile(path, other)

    monkeypatch.setattr(Path, "samefile", refused)
    passed_over: list[OSError] = []
    found = list(find_archives(root, passed_over.append))
    assert [(one.maker, one.key) for one in found] == [(Maker.REFGENIE1, keys[0]), (Maker.REFGENIESERVER, keys[1])]
    assert [error.filename for error in passed_over] == [str(nested)]
