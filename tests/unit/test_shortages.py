"""No descriptors are left: nothing is damaged, gone or unreadable because of that, and nothing is forgotten."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from parts import running
from synthetic import Genomes

from refgenied.archive import pack, read, verify
from refgenied.archive.discover import find_archives
from refgenied.archive.format.manifest import read_manifest
from refgenied.archive.presence import places
from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.catalog.updater import Updater
from refgenied.genomes.build_folder import moved_lately, read_build_record
from refgenied.genomes.refgenie0 import Refgenie0Layout
from refgenied.genomes.refgenie1 import Refgenie1Layout
from refgenied.model import Requester, ShortageError
from refgenied.reconciler import reconciler

pytestmark = pytest.mark.anyio


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened any more; what is open stays so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_verify_and_a_scrub_mark_nothing_as_damaged(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        record = await parts.record(key)
        for quick in (True, False):
            with no_descriptors(), pytest.raises(ShortageError):
                await parts.verifier.verify(key, Requester(), quick=quick)
        with no_descriptors(), pytest.raises(ShortageError):
            await parts.scrubber.scrub_one(record)
        assert (await parts.record(key)).damaged is None


async def test_a_look_at_the_genome_folder_is_not_taken(genomes: Genomes) -> None:
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        before = parts.reconciler.look.assets[key]
        with no_descriptors(), pytest.raises(ShortageError):
            parts.folder.asset(key, 0.0)
        with no_descriptors():
            await parts.reconciler.sweep()
        assert parts.reconciler.look.assets[key] == before
        await parts.settle()
        assert not parts.reconciler.look.problems


@pytest.mark.parametrize("layout", [Refgenie0Layout, Refgenie1Layout])
async def test_folders_that_cannot_be_listed_now_are_not_empty(genomes: Genomes, layout) -> None:
    genomes.build()
    survey = layout(str(genomes.root), *([str(genomes.config)] if layout is Refgenie0Layout else []))
    with no_descriptors(), pytest.raises(ShortageError):
        list(survey.survey(0.0).all())


async def test_a_build_that_cannot_be_looked_at_now_is_looked_at_again(genomes: Genomes, monkeypatch) -> None:
    monkeypatch.setattr(reconciler, "BUILD_POLL_SECONDS", 0.0)
    key = genomes.build()
    genomes.start(key)
    async with running(genomes) as parts:
        await parts.settle()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                with no_descriptors():
                    group.start_soon(parts.reconciler.poll_builds)
                    for _ in range(10):  # behind each of these the disk's thread has looked at the build
                        await parts.reconciler.last.disk.run(len, "")
                genomes.finish(key)  # seen, and so the task ends


async def test_a_running_build_is_not_taken_for_a_dead_one(genomes: Genomes) -> None:
    folder = str(genomes.folder(genomes.build()))
    os.utime(folder, (0, 0))
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        moved_lately([folder], 5e9, 1.0)
    with no_descriptors(), pytest.raises(ShortageError):
        read_build_record([f"{folder}/_refgenie_build"], folder)


async def test_a_refresh_of_what_is_served_leaves_all_as_it_was(genomes: Genomes) -> None:
    genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        config = Path(parts.catalog.config)
        before = config.read_bytes()
        catalog = Updater(parts.core, parts.reconciler, parts.damage.doubt)  # it has just begun, and has read nothing
        with no_descriptors():
            await catalog.refresh()
        assert config.read_bytes() == before
        await catalog.refresh()
        assert "serving" not in parts.health.conditions


def test_the_library_says_what_is_short(tmp_path: Path) -> None:
    folder, archive = tmp_path / "default", tmp_path / "x.tgz"
    folder.mkdir()
    (folder / "a").write_bytes(b"a" * 1000)
    pack(folder, archive)
    for call in (
        lambda: verify(archive),
        lambda: read(archive, "a"),
        lambda: read_manifest(archive.with_suffix(".json")),
        lambda: pack(folder, tmp_path / "y.tgz"),
        lambda: list(places(tmp_path)),
        lambda: list(find_archives(tmp_path)),
    ):
        with no_descriptors(), pytest.raises(ShortageError):
            call()
    assert not (tmp_path / "y.tgz").exists()
    verify(archive)


def test_the_archive_folder_is_neither_wrong_nor_free(tmp_path: Path) -> None:
    folder = ArchiveFolder(str(tmp_path), None)
    folder.open()
    with no_descriptors(), pytest.raises(ShortageError):
        ArchiveFolder(str(tmp_path), None).open()
    with no_descriptors(), pytest.raises(ShortageError), folder.held():
        pass
