"""The archive folder as the server wants it: after each step, after a crash at any step, and for odd assets."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import yaml
from controlled import Desk, context_of
from parts import Parts, claim, running
from synthetic import ALIAS, DIGEST, Genomes
from transactions import transaction

from refgenied.archive.format.manifest import encode, read_manifest
from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames, is_kept_name
from refgenied.catalog import entry, kept, updater
from refgenied.catalog.faults import MOST_LINES
from refgenied.catalog.folder import ServedFolder
from refgenied.catalog.kept import KEPT_SECONDS, Kept
from refgenied.catalog.parts import Head
from refgenied.catalog.server_config import ConfigFile
from refgenied.catalog.wanted import Wanted
from refgenied.config.settings import Serving
from refgenied.files.durable import partial_of, save_atomically
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.model import AssetKey, JobState, Look
from refgenied.store import archives

pytestmark = pytest.mark.anyio


class PowerCutError(Exception):
    """Nothing that the code knows of."""


def names_of(parts: Parts, key: AssetKey) -> ServedNames:
    return ServedNames(Place(parts.archive_folder.path, key))


def config_of(parts: Parts) -> dict[str, Any]:
    return yaml.safe_load(Path(parts.archive_folder.path, CONFIG_NAME).read_text())


def tag_of(parts: Parts, key: AssetKey) -> dict[str, Any]:
    return config_of(parts)["genomes"][key.genome_digest]["assets"][key.asset_group]["tags"][key.asset]


def agree(parts: Parts, key: AssetKey) -> str:
    """The config's digest is that of the file under the flat name; the digest."""
    digest = hashlib.md5(names_of(parts, key).archive.read_bytes()).hexdigest()
    assert tag_of(parts, key)["archive_digest"] == digest
    return digest


def set_serving(parts: Parts, **values: object) -> None:
    parts.current.settings = msgspec.structs.replace(parts.current.settings, serving=Serving(**values))


@asynccontextmanager
async def archived(genomes: Genomes, key: AssetKey) -> AsyncGenerator[Parts]:
    async with running(genomes) as parts:
        await parts.settle()
        assert await parts.record(key)
        yield parts


async def test_a_publish_makes_names_side_files_and_config(genomes: Genomes) -> None:
    key = genomes.build(a=b"1", b=b"2")
    build = genomes.folder(key) / "_refgenie_build"
    (build / "refgenie_log.md").write_text("it was built")
    (build / "build_recipe_fasta__default.json").write_text('{"name": "fasta"}')
    async with archived(genomes, key) as parts:
        names = names_of(parts, key)
        assert os.path.samefile(names.archive, names.place.archive)
        assert not names.archive.is_symlink()
        assert json.loads(names.contents.read_text()) == ["a", "b"]
        assert json.loads(names.recipe.read_text()) == {"name": "fasta"}
        assert names.log.read_text() == "it was built"
        agree(parts, key)
        assert config_of(parts)["genomes"][DIGEST]["aliases"] == [ALIAS]
        assert parts.catalog.served.archives == 1
        assert not parts.health.conditions


async def test_a_refresh_with_nothing_new_writes_nothing(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        await parts.catalog.refresh()
        names = names_of(parts, key)
        files = [names.archive, names.contents, Path(parts.archive_folder.path, CONFIG_NAME)]
        before = [(path.stat().st_ino, path.stat().st_ctime_ns) for path in files]
        await parts.catalog.refresh()
        assert [(path.stat().st_ino, path.stat().st_ctime_ns) for path in files] == before
        assert not parts.catalog.served.changed


async def test_a_long_row_of_publishes_costs_few_refreshes(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a refresh the next one waits; who asks for it gets it at once."""
    monkeypatch.setattr(updater, "REST_PER_REFRESH", 1e9)
    keys = [genomes.build(f"a{number}") for number in range(12)]
    async with running(genomes) as parts, anyio.create_task_group() as group:
        await parts.reconciler.look_again()
        group.start_soon(parts.catalog.run)
        with parts.jobs.feed.subscribed("archive.published") as published:
            group.start_soon(parts.worker.run)
            seen = 0
            while seen < len(keys):
                seen += len(await published.take())
        assert capsys.readouterr().out.count("serving.config_written") <= 2
        await parts.catalog.catch_up()
        for key in keys:
            agree(parts, key)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("rest", [9.0, 1e9], ids=["a short refresh", "a refresh that took long"])
async def test_the_catalog_follows_the_worker_and_the_last_of_a_row_is_served(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch, rest: float
) -> None:
    monkeypatch.setattr(updater, "REST_PER_REFRESH", rest)
    keys = [genomes.build(f"a{number}") for number in range(12)]
    async with running(genomes) as parts, anyio.create_task_group() as group:
        await parts.reconciler.look_again()
        group.start_soon(parts.catalog.run)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(parts.worker.run)
        with anyio.fail_after(60):
            while parts.catalog.served.archives < len(keys):
                await anyio.sleep(0.01)
        for key in keys:
            agree(parts, key)
        group.cancel_scope.cancel()


async def test_a_stop_in_a_row_of_publishes_leaves_nothing_unserved(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updater, "REST_PER_REFRESH", 1e9)
    keys = [genomes.build(f"a{number}") for number in range(5)]
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        with parts.jobs.feed.subscribed() as subscription:
            async with anyio.create_task_group() as group:
                group.start_soon(parts.worker.run)
                published = 0
                while published < 3:
                    published += [event.kind for event in await subscription.take()].count("archive.published")
                parts.worker.drain()
        await parts.catalog.catch_up()  # as the daemon does
        archived = [key for key in keys if await parts.record(key)]
        assert 3 <= len(archived) <= 5
        for key in archived:
            agree(parts, key)


async def test_who_watched_a_job_to_its_end_finds_its_archive_served(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updater, "REST_PER_REFRESH", 1e9)
    for number in range(3):
        genomes.build(f"a{number}")
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        await parts.do(await claim(parts.jobs))
        second = await claim(parts.jobs)
        served: list[str] = []

        async def watch() -> None:
            await Desk(context_of(parts)).lines("job.watch", job=second.id, served=True)
            served.append(agree(parts, second.key))

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            await parts.do(second)
        assert served


async def test_while_a_new_archive_takes_its_place_the_old_one_is_served(genomes: Genomes) -> None:
    """Between publish and record the flat name, the config and the old digest stay together."""
    key = genomes.build(a=b"one")
    async with archived(genomes, key) as parts:
        old = agree(parts, key)
        names = names_of(parts, key)
        kept = parts.root / "kept"
        os.link(names.place.archive, kept)
        replaced = names.place.archive.read_bytes() + b"\0"
        save_atomically(names.place.archive, replaced)
        await parts.catalog.refresh()
        assert agree(parts, key) == old
        assert names.archive.samefile(kept)
        fresh = ServedFolder(parts.archive_folder.path)  # as after a crash at this point
        async with transaction(parts.store) as tx:
            records = await archives.everything(tx)
        look = parts.reconciler.look
        fresh.refresh(Wanted(records, {}, look, Head("", parts.archive_folder.path, {}), files=False))
        assert agree(parts, key) == old


@pytest.mark.parametrize("step", ["contents", "flat", "config"])
async def test_a_crash_at_any_step_heals(genomes: Genomes, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    key = genomes.build(a=b"one")
    async with archived(genomes, key) as parts:
        old = agree(parts, key)
        genomes.build(a=b"two, longer")

        def crash(*_: object, **__: object) -> None:
            raise PowerCutError

        with monkeypatch.context() as patch:
            if step == "contents":
                patch.setattr(entry, "save_atomically", crash)
            elif step == "flat":
                patch.setattr(ServedNames, "show", crash)
            else:
                patch.setattr(ConfigFile, "write", crash)
            await parts.settle()
        assert "serving" in parts.health.conditions
        if step != "config":
            assert agree(parts, key) == old, "nothing new was shown"
    Path(parts.archive_folder.path, f".{CONFIG_NAME}.partial").write_text("half")
    async with running(genomes) as parts:  # the next start
        await parts.settle()
        await parts.catalog.refresh()
        assert agree(parts, key) == (await parts.record(key)).digest != old
        assert not parts.health.conditions
        assert json.loads(names_of(parts, key).contents.read_text()) == ["a"]


async def test_without_hard_links_a_relative_link_does(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "link", no_links)
    key = genomes.build()
    async with archived(genomes, key) as parts:
        assert os.readlink(names_of(parts, key).archive) == "fasta/default/fasta__default.tgz"
        agree(parts, key)


async def test_a_lost_file_leaves_the_config_and_comes_back(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        names = names_of(parts, key)
        names.place.archive.unlink()
        names.archive.unlink()
        await parts.catalog.refresh()
        assert config_of(parts)["genomes"] == {}
        assert parts.catalog.served.left_out == ("1 archive whose file is missing or is not as recorded",)
        await parts.settle()
        agree(parts, key)


async def test_a_damaged_archive_is_not_served(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        async with transaction(parts.store) as tx:
            record = await archives.get(tx, key)
            assert record
            assert await archives.mark_damaged(tx, record, "bad block")
        await parts.catalog.refresh()
        assert config_of(parts)["genomes"] == {}
        assert parts.catalog.served.left_out == ("1 archive found damaged",)


async def test_deleted_names_come_back(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        names_of(parts, key).clear(before=time.time())
        names_of(parts, key).archive.unlink()
        Path(parts.archive_folder.path, CONFIG_NAME).unlink()
        await parts.catalog.refresh()
        agree(parts, key)


async def test_a_torn_config_is_put_aside(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        config = Path(parts.archive_folder.path, CONFIG_NAME)
        config.write_text("genomes: [")
        await parts.catalog.refresh()
        agree(parts, key)
        assert Path(f"{config}.unreadable").read_text() == "genomes: ["


async def test_a_fifo_in_the_configs_place_is_told_and_holds_nothing_up(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        config = Path(parts.archive_folder.path, CONFIG_NAME)
        config.unlink()
        os.mkfifo(config)
        await parts.catalog.refresh()
        assert "not a regular file" in parts.health.conditions["serving"][0]
        config.unlink()
        await parts.catalog.refresh()
        agree(parts, key)


async def test_refgenie_1_genomes_are_left_out_with_a_line(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        other = AssetKey("Q" * 32, "fasta", "default")
        record = msgspec.structs.replace(await parts.record(key), key=other, path="elsewhere")
        async with transaction(parts.store) as tx:
            await archives.put(tx, record)
        await parts.catalog.refresh()
        assert list(config_of(parts)["genomes"]) == [DIGEST]
        (line,) = parts.catalog.served.left_out
        assert line.startswith("1 archive of genomes with a 32-character digest (refgenie 1)")


@pytest.mark.parametrize("delete_file", [False, True])
async def test_a_removed_archive_leaves_the_config(genomes: Genomes, *, delete_file: bool) -> None:
    key = genomes.build()
    (genomes.folder(key) / "_refgenie_build/build_recipe_fasta__default.json").write_text("{}")
    async with archived(genomes, key) as parts:
        desk = Desk(context_of(parts))
        names = names_of(parts, key)
        digest = agree(parts, key)
        await desk.ask("archive.remove", path=f"{ALIAS}/fasta", delete_file=delete_file)
        assert config_of(parts)["genomes"] == {}
        left = {path.name for path in names.folder.iterdir() if not path.is_dir() and path != names.kept(digest)}
        assert left == (set() if delete_file else {names.archive.name})
        assert (await desk.ask("server.info"))["serving"]["archives"] == 0
        await desk.ask("archive.create", path=f"{ALIAS}/fasta")
        await parts.work()
        agree(parts, key)


async def test_a_removal_that_a_crash_cut_is_finished(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        names = names_of(parts, key)

        def cut(*_: object, **__: object) -> None:
            raise PowerCutError

        with monkeypatch.context() as patch:
            patch.setattr(ServedNames, "clear", cut)
            await Desk(context_of(parts)).ask("archive.remove", path=f"{ALIAS}/fasta", delete_file=True)
        assert names.archive.exists()
        assert config_of(parts)["genomes"] == {}, "the config went first"
        await parts.catalog.refresh()
        assert not names.archive.exists()


async def test_files_of_another_program_stay_in_the_config(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        folder = Path(parts.archive_folder.path)
        (folder / DIGEST / "star__default.tgz").write_bytes(b"of refgenieserver")
        tree = config_of(parts)
        tag = {"archive_digest": "0" * 32, "archive_size": "17.00 B"}
        tree["genomes"][DIGEST]["assets"]["star"] = {"default_tag": "default", "tags": {"default": tag}}
        (folder / CONFIG_NAME).write_text(yaml.safe_dump(tree))
        await parts.catalog.refresh()
        there = config_of(parts)["genomes"][DIGEST]["assets"]["star"]["tags"]["default"]
        assert tag.items() <= there.items()
        assert there["asset_parents"] == [], "what the server needs is filled in"
        (folder / DIGEST / "star__default.tgz").unlink()
        (folder / CONFIG_NAME).touch()
        await parts.catalog.refresh()
        assert list(config_of(parts)["genomes"][DIGEST]["assets"]) == ["fasta"]


async def test_real_files_only_when_asked_for_and_never_a_copy(genomes: Genomes) -> None:
    key = genomes.build(a=b"1")
    (genomes.folder(key) / "sub").mkdir()
    async with archived(genomes, key) as parts:
        links = names_of(parts, key).files.path
        assert not os.path.lexists(links)
        set_serving(parts, files=True)
        await parts.catalog.refresh()
        assert {path.name: os.readlink(path) for path in links.iterdir()} == {
            name: str(genomes.folder(key) / name) for name in ("a", "sub")
        }, "refgenie's own build folder is not shown"
        genomes.folder(key).joinpath("a").unlink()
        genomes.build(b=b"2")
        await parts.settle()
        await parts.catalog.refresh()
        assert sorted(path.name for path in links.iterdir()) == ["b", "sub"]
        set_serving(parts)
        await parts.catalog.refresh()
        assert not os.path.lexists(links)


async def test_the_one_link_of_before_becomes_many(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        links = names_of(parts, key).files.path
        links.symlink_to(genomes.folder(key))
        set_serving(parts, files=True)
        await parts.catalog.refresh()
        assert not links.is_symlink()
        assert [path.name for path in links.iterdir()] == ["fasta"]


async def test_an_unpacked_copy_of_somebody_else_stays(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        copy = names_of(parts, key).files.path
        copy.mkdir()
        (copy / "fasta").write_text("a copy")
        for files in (True, False):
            set_serving(parts, files=files)
            await parts.catalog.refresh()
            assert [path.read_text() for path in copy.iterdir()] == ["a copy"]


async def test_two_names_that_meet_are_told(genomes: Genomes) -> None:
    first = genomes.build("a", "b__c")
    genomes.build("a__b", "c")
    async with archived(genomes, first) as parts:
        assert parts.catalog.served.archives == 1
        assert "two underscores" in parts.catalog.served.left_out[0]
        agree(parts, first)


async def test_turned_off_nothing_is_made(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        set_serving(parts, enabled=False)
        await parts.settle()
        assert not os.path.lexists(names_of(parts, key).archive)
        assert parts.catalog.config == ""


async def test_with_the_genome_folder_away_the_manifests_say_enough(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        before = tag_of(parts, key)
        fresh = ServedFolder(parts.archive_folder.path)
        async with transaction(parts.store) as tx:
            records = await archives.everything(tx)
        Path(parts.archive_folder.path, CONFIG_NAME).unlink()
        empty = Look({}, {}, (), "", None, ())
        fresh.refresh(Wanted(records, {}, empty, Head("", parts.archive_folder.path, {}), files=False))
        assert tag_of(parts, key) == before
        assert config_of(parts)["genomes"][DIGEST]["aliases"] == [ALIAS]


@pytest.mark.parametrize("file", ["other", "default"])
async def test_links_to_files_never_stand_where_another_groups_archives_go(genomes: Genomes, file: str) -> None:
    first = genomes.build("a", **{file: b"1"})
    async with running(genomes) as parts:
        set_serving(parts, files=True)
        await parts.settle()
        await parts.catalog.refresh()
        links = names_of(parts, first).files.path
        assert [path.name for path in links.iterdir()] == [file]
        second = genomes.build("a__default")  # named as the folder of links is
        before = sorted(genomes.root.rglob("*"))
        await parts.settle()
        await parts.catalog.refresh()
        if not await parts.record(second):  # a link was in the way: a second attempt is due
            await parts.jobs.wait_due(paused=lambda: False)
            await parts.work()
        assert await parts.record(second)
        await parts.catalog.refresh()
        assert [path.name for path in links.iterdir()] == ["default"], "the archive's folder, and no link"
        assert not (links / "default").is_symlink()
        assert sorted(genomes.root.rglob("*")) == before


# --------------------------------------------------------------------- one bad member never stops the others


async def test_a_folder_where_a_page_file_goes_harms_only_that_page(genomes: Genomes) -> None:
    first, second = genomes.build(), genomes.build("star")
    async with running(genomes) as parts:
        names = names_of(parts, first)
        names.contents.mkdir(parents=True)
        (names.contents / "x").touch()
        await parts.settle()
        agree(parts, first)
        agree(parts, second)
        (line,) = parts.catalog.served.left_out
        assert line.startswith(f"t7/fasta:default (its page only): {names.contents}: Is a directory; move away")
        assert "serving" not in parts.health.conditions, "all archives are served"
        (names.contents / "x").unlink()
        names.contents.rmdir()
        await parts.catalog.refresh()
        assert json.loads(names.contents.read_text()) == ["fasta"]
        assert not parts.catalog.served.left_out


@pytest.mark.parametrize("what", ["flat", "partial", "genome", "manifest"])
async def test_what_stands_in_one_archives_place_harms_only_that_one(genomes: Genomes, what: str) -> None:
    first = genomes.build("star")
    second = AssetKey("e2" * 24, "fasta", "default")
    async with archived(genomes, first) as parts:
        record = await parts.record(first)
        names, other = names_of(parts, first), names_of(parts, second)
        other.place.folder.mkdir(parents=True)
        os.link(names.place.archive, other.place.archive)
        manifest = msgspec.structs.replace(read_manifest(names.place.manifest), genome_digest=second.genome_digest)
        other.place.manifest.write_bytes(encode(manifest))
        async with transaction(parts.store) as tx:
            await archives.put(tx, msgspec.structs.replace(record, key=second, path=other.place.relative))
        aside = parts.root / "aside"
        if what == "genome":
            other.folder.rename(aside)
            other.folder.symlink_to(other.folder)  # no rights are needed: nobody can look into this
        elif what == "manifest":
            other.place.manifest.rename(aside)
            os.mkfifo(other.place.manifest)
        elif what == "partial":
            other.archive.write_bytes(b"of another program")  # so the new name is made beside it
            partial_of(other.archive).joinpath("x").mkdir(parents=True)
        else:
            other.archive.joinpath("x").mkdir(parents=True)
        await parts.catalog.refresh()
        agree(parts, first)
        assert parts.catalog.served.archives == 1
        (line,) = parts.catalog.served.left_out
        assert line.startswith("t7/fasta:default: ")
        assert str(other.folder) in line
        assert parts.health.conditions["serving"][0].startswith("1 archive is not served")
        if what == "genome":
            other.folder.unlink()
            aside.rename(other.folder)
        elif what == "manifest":
            other.place.manifest.unlink()
            aside.rename(other.place.manifest)
        else:
            shutil.rmtree(other.archive if what == "flat" else partial_of(other.archive))
        await parts.catalog.refresh()
        agree(parts, second)
        assert not parts.health.conditions


async def test_what_was_mended_is_served_by_itself(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updater, "REPAIR_SECONDS", 0.01)
    key = genomes.build()
    async with running(genomes) as parts, anyio.create_task_group() as group:
        names = names_of(parts, key)
        names.archive.joinpath("x").mkdir(parents=True)
        await parts.settle()
        assert parts.catalog.served.archives == 0
        shutil.rmtree(names.archive)
        group.start_soon(parts.catalog.run)
        with anyio.fail_after(20):
            while not parts.catalog.served.archives:
                await anyio.sleep(0.01)
        agree(parts, key)
        group.cancel_scope.cancel()


async def test_a_fault_that_a_client_met_is_looked_at_again_by_itself(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updater, "REPAIR_SECONDS", 0.01)
    monkeypatch.setattr(kept, "KEPT_SECONDS", 0.0)
    key = genomes.build()
    async with archived(genomes, key) as parts, anyio.create_task_group() as group:
        names = names_of(parts, key)
        os.link(names.archive, names.folder / f".fasta__default.{'0' * 32}.tgz")
        group.start_soon(parts.catalog.run)
        with anyio.fail_after(20):
            while kept_files(parts):  # it has nothing to do once they are gone
                await anyio.sleep(0.01)
        async with parts.archive_folder.publishing:
            pass
        names.archive.unlink()
        names.archive.joinpath("x").mkdir(parents=True)
        await parts.catalog.refresh()  # as `archive wait` does
        assert parts.catalog.served.archives == 0
        shutil.rmtree(names.archive)
        with anyio.fail_after(20):
            await parts.health.well("serving")
        agree(parts, key)
        group.cancel_scope.cancel()


async def test_kept_archives_go_while_the_daemon_idles(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updater, "REPAIR_SECONDS", 0.01)
    monkeypatch.setattr(kept, "KEPT_SECONDS", 0.0)
    key = genomes.build(a=b"one")
    async with archived(genomes, key) as parts, anyio.create_task_group() as group:
        genomes.build(a=b"two")
        await parts.settle()
        assert kept_files(parts)
        set_serving(parts, enabled=False)
        group.start_soon(parts.catalog.run)
        with anyio.fail_after(20):
            while kept_files(parts):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()


async def test_many_faults_are_few_lines_and_said_once(genomes: Genomes, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [genomes.build(f"a{number}") for number in range(MOST_LINES + 3)]
    async with running(genomes) as parts:
        for key in keys:
            names_of(parts, key).contents.joinpath("x").mkdir(parents=True)
        await parts.settle()
        await parts.catalog.refresh()
        assert len(parts.catalog.served.left_out) == MOST_LINES + 1
        assert parts.catalog.served.left_out[-1] == "and 3 more"
        assert capsys.readouterr().out.count("serving.fault") == len(keys)


async def test_a_full_disk_concerns_all(genomes: Genomes, monkeypatch: pytest.MonkeyPatch) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        names_of(parts, key).contents.unlink()

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "x")

        with monkeypatch.context() as patch:
            patch.setattr(entry, "save_atomically", full)
            await parts.catalog.refresh()
        assert parts.health.conditions["serving"][0] == "nothing new is served: x: No space left on device"
        await parts.catalog.refresh()
        assert not parts.health.conditions


async def test_the_longest_names_are_archived_and_served(genomes: Genomes) -> None:
    key = genomes.build("g" * 41, "t" * 185)
    async with archived(genomes, key) as parts:
        agree(parts, key)
        assert names_of(parts, key).contents.exists()
        assert not parts.catalog.served.left_out


async def test_a_name_too_long_for_its_page_is_served_without_it(genomes: Genomes) -> None:
    key = genomes.build("g" * 41, "t" * 190)
    async with archived(genomes, key) as parts:
        agree(parts, key)
        (line,) = parts.catalog.served.left_out
        assert "(its page only)" in line
        assert "File name too long; a file name has at most 255 bytes" in line


async def test_a_name_too_long_for_an_archive_is_refused_before_packing(
    genomes: Genomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = genomes.build("g" * 41, "t" * 200)
    monkeypatch.setattr("refgenied.queue.archiver.pack_asset", None)
    async with running(genomes) as parts:
        await parts.settle()
        job = await parts.latest(key)
        assert job.state is JobState.FAILED
        assert job.attempts == 1
        assert "a name of 258 bytes, and 255 is the most" in (job.error or "")


# --------------------------------------------------------------------- after a removal


async def test_a_removed_archive_leaves_no_page_files(genomes: Genomes) -> None:
    key = genomes.build()
    build = genomes.folder(key) / "_refgenie_build"
    (build / "refgenie_log.md").write_text("it was built")
    (build / "build_recipe_fasta__default.json").write_text('{"name": "fasta"}')
    async with archived(genomes, key) as parts:
        names = names_of(parts, key)
        assert names.contents.exists()
        assert names.recipe.exists()
        assert names.log.exists()
        await Desk(context_of(parts)).ask("archive.remove", path=f"{ALIAS}/fasta")
        assert [path.name for path in names.folder.iterdir() if path.is_file()] == [names.archive.name]


async def test_what_another_program_makes_after_a_removal_stays(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        names = names_of(parts, key)
        await Desk(context_of(parts)).ask("archive.remove", path=f"{ALIAS}/fasta", delete_file=True)
        for path in (names.archive, names.contents, names.log):
            path.parent.mkdir(exist_ok=True)
            path.write_text("of refgenieserver")
        await parts.catalog.refresh()
        assert names.archive.read_text() == names.contents.read_text() == names.log.read_text() == "of refgenieserver"


# --------------------------------------------------------------------- what was replaced a moment ago


def kept_files(parts: Parts) -> list[Path]:
    return sorted(path for path in Path(parts.archive_folder.path).glob("*/.*.tgz") if is_kept_name(path.name))


async def test_a_replaced_archive_is_kept_by_its_digest_and_then_goes(genomes: Genomes) -> None:
    key = genomes.build(a=b"one")
    async with archived(genomes, key) as parts:
        old, names = agree(parts, key), names_of(parts, key)
        genomes.build(a=b"two")
        await parts.settle()
        assert agree(parts, key) != old
        (hidden,) = kept_files(parts)
        assert hidden == names.kept(old)
        assert hashlib.md5(hidden.read_bytes()).hexdigest() == old
        now = [0.0]
        later = Kept(Path(parts.archive_folder.path), clock=lambda: now[0])  # the next start finds it
        later.tidy()
        assert later.waiting
        now[0] = KEPT_SECONDS - 10
        later.tidy()
        assert hidden.exists()
        now[0] = KEPT_SECONDS + 1
        later.tidy()
        assert not hidden.exists()
        assert not later.waiting


def test_a_genome_that_cannot_be_read_does_not_hide_the_kept_archives_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genomes = [tmp_path / name for name in ("a" * 48, "b" * 48, "c" * 48)]
    hidden = [genome / f".fasta__default.{'0' * 32}.tgz" for genome in genomes]
    for path in hidden:
        path.parent.mkdir()
        path.touch()
    real = os.listdir
    failed: list[str] = []

    def failing(path: Any) -> Any:
        if os.fspath(path) != os.fspath(tmp_path) and not failed:
            failed.append(os.path.basename(path))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    now = [0.0]
    kept_archives = Kept(tmp_path, clock=lambda: now[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", failing)
        kept_archives.tidy()
    now[0] += KEPT_SECONDS
    kept_archives.tidy()
    assert [path.parent.name for path in hidden if path.exists()] == failed


async def test_a_kept_archive_that_cannot_be_taken_away_is_tried_again(tmp_path: Path) -> None:
    hidden = tmp_path / DIGEST / f".fasta__default.{'a' * 32}.tgz"
    hidden.mkdir(parents=True)  # a folder cannot be unlinked
    now = [0.0]
    kept_archives = Kept(tmp_path, clock=lambda: now[0])
    for _ in range(2):
        now[0] += KEPT_SECONDS + 1
        kept_archives.tidy()
        assert kept_archives.waiting
    hidden.rmdir()
    hidden.touch()
    now[0] += KEPT_SECONDS + 1
    kept_archives.tidy()
    assert not hidden.exists()


async def test_after_a_new_start_the_config_tells_which_archive_was_shown(genomes: Genomes) -> None:
    key = genomes.build(a=b"one")
    async with archived(genomes, key) as parts:
        old = agree(parts, key)
    genomes.build(a=b"two")
    async with running(genomes) as parts:
        await parts.settle()
        assert kept_files(parts) == [names_of(parts, key).kept(old)]
        now = Kept(Path(parts.archive_folder.path))
        now.tidy()
        assert now.waiting


async def test_what_the_flat_name_shows_already_is_kept_under_no_other_digest(genomes: Genomes) -> None:
    """A crash after the new archive was shown, before the config: its name must not become the old digest's."""
    key = genomes.build(a=b"one")
    async with archived(genomes, key) as parts:
        names = names_of(parts, key)
        config = Path(parts.archive_folder.path, CONFIG_NAME)
        old = config.read_bytes()
        genomes.build(a=b"two")
        await parts.settle()
        kept_files(parts)[0].unlink()
        config.write_bytes(old)
        fresh = ServedFolder(parts.archive_folder.path)
        async with transaction(parts.store) as tx:
            records = await archives.everything(tx)
        look, head = parts.reconciler.look, Head("", parts.archive_folder.path, {})
        names.contents.unlink()
        fresh.refresh(Wanted(records, {}, look, head, files=False))
        assert kept_files(parts) == []


async def test_a_removed_archive_is_kept_for_those_who_were_told_of_it(genomes: Genomes) -> None:
    key = genomes.build()
    async with archived(genomes, key) as parts:
        old = agree(parts, key)
        await Desk(context_of(parts)).ask("archive.remove", path=f"{ALIAS}/fasta", delete_file=True)
        assert kept_files(parts) == [names_of(parts, key).kept(old)]


async def test_hidden_names_are_never_too_long_and_never_meet(tmp_path: Path) -> None:
    digest = "0" * 32
    places = [Place(tmp_path, AssetKey(DIGEST, "g" * 40, "t" * 190 + end)) for end in "ab"]
    hidden = [ServedNames(place).kept(digest) for place in places]
    assert len({path.name for path in hidden if path}) == 2
    assert all(path and len(path.name) <= 255 and is_kept_name(path.name) for path in hidden)
    assert ServedNames(places[0]).kept("../../x") is None
