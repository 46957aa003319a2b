"""What a person did can be undone, and every answer says how."""

import os
import pwd
import shlex
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from commands import Said, ctl
from controlled import Desk, context_of, served
from parts import Parts, running
from synthetic import DIGEST, Genomes
from transactions import transaction

from refgenied.archive.format.manifest import read_manifest
from refgenied.model import AssetKey
from refgenied.store import archives

pytestmark = pytest.mark.anyio

KEY = AssetKey(DIGEST, "fasta", "default")


@pytest.fixture
async def parts(genomes: Genomes) -> AsyncGenerator[Parts]:
    """An archive of an asset that is no longer there, and a second asset of that genome."""
    genomes.build()
    genomes.build("other")
    async with running(genomes) as parts:
        await parts.settle()
        await lose(parts, genomes, KEY)
        async with served(parts):
            yield parts


async def lose(parts: Parts, genomes: Genomes, key: AssetKey) -> None:
    """As `refgenie remove` does."""
    shutil.rmtree(genomes.folder(key).parent)
    del genomes.groups[key.asset_group]
    genomes.write_config()
    await parts.reconciler.look_again()


async def archive_of(parts: Parts, path: str) -> dict[str, object]:
    [row] = (await ctl(parts, "archive", "list", path, "--json")).rows
    return row


async def run_printed(parts: Parts, said: Said) -> Said:
    """Run the command that an answer prints in backquotes."""
    command = shlex.split((said.out + said.err).split("`")[1])
    assert command[0] == "refgeniectl"
    return await ctl(parts, *command[1:])


async def test_an_archive_that_was_removed_comes_back_by_the_command_that_remove_prints(parts: Parts) -> None:
    before = await archive_of(parts, "t7/fasta")
    gone = await ctl(parts, "archive", "remove", "t7/fasta")
    assert gone.out.splitlines() == [
        f"t7/fasta:default: the archive is forgotten; its file stays: {before['path']}",
        "it comes back with: `refgeniectl archive import t7/fasta:default`",
    ]
    assert (await ctl(parts, "archive", "list", "t7/fasta", "--json")).rows == []
    back = await run_printed(parts, gone)
    assert back.code == 0, back
    *_, last = back.out.splitlines()  # on a slow machine its progress comes first
    assert last.startswith(f"{KEY.registry_path}: imported, made by refgenied, "), back
    after = await archive_of(parts, "t7/fasta")
    assert {name: before[name] for name in before if name != "proved_at"} == {
        name: after[name] for name in after if name != "proved_at"
    }
    assert after["proved_at"]
    assert read_manifest(Path(str(before["path"])).with_suffix(".json")).removed is None
    assert (await parts.events("archive."))[-1].kind == "archive.imported"
    assert f"{DIGEST}" in Path(parts.catalog.config).read_text()
    async with transaction(parts.store) as tx:
        assert not await tx.all("SELECT * FROM removal")
    again = await ctl(parts, "archive", "import", "t7/fasta")
    assert again.code == 0, again
    assert "1 known" in again.out, again


@pytest.mark.parametrize("named", ["alias", "digest", "path", "relative path", "whole genome gone"])
async def test_it_is_found_by_any_of_its_names(parts: Parts, genomes: Genomes, named: str) -> None:
    path = str((await archive_of(parts, "t7/fasta"))["path"])
    await ctl(parts, "archive", "remove", "t7/fasta")
    if named == "whole genome gone":
        await lose(parts, genomes, AssetKey(DIGEST, "other", "default"))
        assert not parts.reconciler.look.genomes
    written = {"digest": KEY.registry_path, "path": path, "relative path": path.replace("/archives/", "/./archives/")}
    back = await ctl(parts, "archive", "import", written.get(named, "t7/fasta"))
    assert back.code == 0, back
    assert (await parts.record(KEY)) is not None


async def test_what_is_asked_of_a_removed_archive_tells_of_the_way_back(parts: Parts, tmp_path: Path) -> None:
    path = (await archive_of(parts, "t7/fasta"))["path"]
    await ctl(parts, "archive", "remove", "t7/fasta")
    for command in (["archive", "create"], ["archive", "verify"], ["archive", "cat"], ["archive", "remove"]):
        said = await ctl(parts, *command, "t7/fasta", *(["x"] if command[1] == "cat" else []))
        assert said.code == 1, said
        assert "removed" in said.err.splitlines()[0], said
        assert "`refgeniectl archive import t7/fasta` brings it back" in said.err.splitlines()[1], said
    shown = await ctl(parts, "archive", "show", "t7/fasta")
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert f"state           removed (removed by {me})" in shown.out
    assert "it comes back with: `refgeniectl archive import t7/fasta`" in shown.out
    restored = await ctl(parts, "archive", "restore", "t7/fasta", "--to", str(tmp_path / "out"))
    assert restored.code == 0, restored
    assert "every byte proved" in restored.out, restored
    assert (tmp_path / "out" / "default" / "fasta").read_bytes() == b">chr1\nACGT\n"
    whole = await ctl(parts, "archive", "import")
    assert "1 removed" in whole.out, "a folder's import does not undo what a user did"
    assert "comes back when it is named: refgeniectl archive import P" in whole.out
    assert (await run_printed(parts, await ctl(parts, "archive", "create", "t7/fasta"))).code == 0
    assert (await archive_of(parts, "t7/fasta"))["path"] == path


async def test_a_file_that_was_deleted_is_said_to_be_gone(parts: Parts, genomes: Genomes) -> None:
    path = Path(str((await archive_of(parts, "t7/fasta"))["path"]))
    gone = await ctl(parts, "archive", "remove", "t7/fasta", "--delete-file")
    assert gone.out.splitlines() == [
        f"t7/fasta:default: the archive is forgotten; its file is deleted: {path}",
        "only its asset can bring it back: `refgeniectl archive create t7/fasta:default`",
    ]
    for word in ("import", "show", "restore"):
        said = await ctl(parts, "archive", word, "t7/fasta", *(["--to", "/nowhere"] if word == "restore" else []))
        assert said.code == 1, said
        assert "gone" in said.err, said
    genomes.build()
    made = await run_printed(parts, gone)
    assert made.code == 0, made
    assert path.exists()


async def test_a_damaged_file_does_not_come_back(parts: Parts) -> None:
    path = Path(str((await archive_of(parts, "t7/fasta"))["path"]))
    gone = await ctl(parts, "archive", "remove", "t7/fasta")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    back = await run_printed(parts, gone)
    assert back.code == 1, back
    assert back.err.startswith(f"refgeniectl: {path}: "), back
    assert await parts.record(KEY) is None
    manifest = read_manifest(path.with_suffix(".json"))
    assert manifest.removed, "the removal holds"


async def test_an_archive_that_was_removed_elsewhere_is_taken_when_it_is_named(
    parts: Parts, genomes: Genomes, tmp_path: Path
) -> None:
    path = Path(str((await archive_of(parts, "t7/fasta"))["path"]))
    await ctl(parts, "archive", "remove", "t7/fasta")
    elsewhere = tmp_path / "elsewhere"
    await anyio.to_thread.run_sync(shutil.copytree, tmp_path / "archives", elsewhere)
    await ctl(parts, "archive", "remove", "t7/fasta", "--delete-file")
    there = elsewhere / path.relative_to(tmp_path / "archives")
    assert " removed" in (await ctl(parts, "archive", "import", str(elsewhere))).out
    back = await ctl(parts, "archive", "import", str(there))
    assert back.code == 0, back
    assert path.exists()
    assert read_manifest(path.with_suffix(".json")).removed is None
    assert await parts.record(KEY) is not None


async def test_what_is_no_archive_is_refused_and_said(parts: Parts, tmp_path: Path) -> None:
    stray = tmp_path / "stray.tgz"
    stray.touch()
    for what, why in (
        (str(stray), "does not have the path of an archive"),
        (str(tmp_path / "none.tgz"), "is not a file that the daemon can read"),
        (str(tmp_path / "none"), "is not a folder"),
        ("t7/none", "no asset group 'none'"),
        ("t7/other:none", "has no asset 'none'"),
    ):
        said = await ctl(parts, "archive", "import", what)
        assert said.code == 1, said
        assert why in said.err, said


async def test_a_pause_and_a_cancellation_say_how_they_are_undone(parts: Parts, genomes: Genomes) -> None:
    paused = await ctl(parts, "queue", "pause")
    genomes.build("third")
    await ctl(parts, "scan")
    [job] = (await ctl(parts, "queue", "list", "--json")).rows
    cancelled = await ctl(parts, "queue", "cancel", str(job["job"]))
    assert (await run_printed(parts, cancelled)).out.endswith("is queued again\n")
    assert (await run_printed(parts, paused)).out == "the queue goes on\n"
    assert (await ctl(parts, "archive", "wait", "t7/third")).code == 0


async def test_a_file_that_was_left_is_not_deleted_when_it_is_an_archive_again(parts: Parts) -> None:
    desk = Desk(context_of(parts))
    record = await parts.record(KEY)
    assert record
    await desk.ask("archive.remove", path="t7/fasta")
    refused: list[dict[str, Any]] = []

    async def delete() -> None:
        refused.append(await desk.refused("archive.remove", path="t7/fasta", delete_file=True))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group, parts.archive_folder.publishing:  # as a job that publishes
            group.start_soon(delete)
            while not parts.jobs.reserved_keys:
                await anyio.lowlevel.checkpoint()
            async with transaction(parts.store) as tx:
                await archives.put(tx, record)
    assert refused[0]["data"]["kind"] == "busy"
    assert Path(parts.archive_folder.path, record.path).exists()
