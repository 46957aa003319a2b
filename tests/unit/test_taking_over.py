"""What another program has left in the archive folder is kept when the daemon takes its place."""

import errno
import os
from pathlib import Path

import pytest
import yaml
from controlled import Desk, context_of
from foreign import server_folder
from packing import md5
from parts import running
from synthetic import DIGEST, Genomes

from refgenied.catalog.server_config import OURS
from refgenied.config.creation import init
from refgenied.config.load import load
from refgenied.files.durable import keep_beside
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.model import Outcome, StateError
from refgenied.store.state_folder import held
from refgenied.systemd.install import Installation

pytestmark = pytest.mark.anyio


def kept(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if ".replaced" in path.name or ".before-refgenied" in path.name or ".unreadable" in path.name
    }


async def test_a_config_that_we_did_not_write_is_kept_each_time(genomes: Genomes, tmp_path: Path) -> None:
    key = genomes.build("fasta")
    server = tmp_path / "archives" / CONFIG_NAME
    first, second = b"config_version: 0.4\nmine: 1\ngenomes: {}\n", b"config_version: 0.4\nmine: 2\ngenomes: {}\n"
    server.parent.mkdir()
    server.write_bytes(first)
    async with running(genomes) as parts:
        await parts.settle()
        assert yaml.safe_load(server.read_text())["genomes"][DIGEST]["assets"].keys() == {key.asset_group}
        assert kept(tmp_path) == {f"archives/{CONFIG_NAME}.before-refgenied": first}
        server.write_text(server.read_text().replace("mine: 1", "mine: 3"))  # a person's change to ours
        await parts.catalog.refresh()
        assert len(kept(tmp_path)) == 1
        server.write_bytes(second)
        await parts.catalog.refresh()
    assert kept(tmp_path) == {
        f"archives/{CONFIG_NAME}.before-refgenied": first,
        f"archives/{CONFIG_NAME}.before-refgenied.1": second,
    }
    tree = yaml.safe_load(server.read_text())
    assert tree["mine"] == 2
    assert OURS in tree


async def test_no_torn_config_takes_anothers_place(genomes: Genomes, tmp_path: Path) -> None:
    genomes.build("fasta")
    server = tmp_path / "archives" / CONFIG_NAME
    async with running(genomes) as parts:
        await parts.settle()
        for text in ("genomes: [", "genomes: {"):
            server.write_text(text)
            await parts.catalog.refresh()
    assert sorted(kept(tmp_path).values()) == [b"genomes: [", b"genomes: {"]


async def test_the_servers_files_are_kept_when_an_asset_is_published(genomes: Genomes, tmp_path: Path) -> None:
    key = genomes.build("fasta")
    folder = server_folder(genomes, tmp_path / "archives", key) / DIGEST
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (genomes.folder(key) / "fasta").write_bytes(b"new")
    genomes.start(key)
    genomes.finish(key)
    async with running(genomes) as parts:
        await parts.settle()
        assert (await parts.latest(key)).outcome is Outcome.PUBLISHED
        assert (folder / "fasta__default.tgz").samefile(folder / "fasta/default/fasta__default.tgz")
        assert {path.name: path.read_bytes() for path in folder.glob("*.replaced")} == {
            f"{name}.replaced": data for name, data in before.items()
        }
        (genomes.folder(key) / "fasta").write_bytes(b"newer")
        genomes.start(key)
        genomes.finish(key)
        await parts.settle()
    assert len(list(folder.rglob("*.replaced*"))) == len(before), "our own are not kept"


async def test_what_another_program_made_after_a_removal_is_kept_too(genomes: Genomes, tmp_path: Path) -> None:
    key = genomes.build("fasta")
    folder = tmp_path / "archives" / DIGEST
    async with running(genomes) as parts:
        await parts.settle()
        desk = Desk(context_of(parts))
        await desk.ask("archive.remove", path="t7/fasta", delete_file=True)
        await parts.catalog.refresh()
        server_folder(genomes, tmp_path / "archives", key)
        before = (folder / "fasta__default.tgz").read_bytes()
        await desk.ask("archive.create", path="t7/fasta")
        await parts.work()
        assert (await parts.latest(key)).outcome is Outcome.PUBLISHED
        assert (folder / "fasta__default.tgz.replaced").read_bytes() == before
        assert (folder / "build_log_fasta__default.md.replaced").read_text() == "### log"


async def test_an_archive_put_over_ours_is_kept_and_ours_is_shown_again(genomes: Genomes, tmp_path: Path) -> None:
    key = genomes.build("fasta")
    flat = tmp_path / "archives" / DIGEST / "fasta__default.tgz"
    async with running(genomes) as parts:
        await parts.settle()
        flat.unlink()
        flat.write_bytes(b"of another program")
        await parts.catalog.refresh()
        assert flat.with_name("fasta__default.tgz.replaced").read_bytes() == b"of another program"
        job = await parts.latest(key)
        await parts.jobs.enqueue(key, stamp=job.stamp, priority=0, force=True)
        await parts.work()
        record = await parts.record(key)
    assert record
    assert md5(flat.read_bytes()) == record.digest
    assert len(list(flat.parent.glob("*.replaced*"))) == 1, "our own are not kept"


async def test_an_import_loses_nothing_and_keeps_nothing_twice(genomes: Genomes, tmp_path: Path) -> None:
    key = genomes.build("fasta")
    folder = server_folder(genomes, tmp_path / "archives", key) / DIGEST
    async with running(genomes) as parts:
        await parts.bring()
        await parts.settle()
        record = await parts.record(key)
    assert record
    assert record.digest == md5((folder / "fasta__default.tgz").read_bytes())
    assert (folder / "build_log_fasta__default.md").read_text() == "### log"
    assert yaml.safe_load((folder / "build_recipe_fasta__default.json").read_text()) == {"name": "fasta"}
    assert not list(folder.rglob("*.replaced*"))


async def test_a_folder_in_a_server_files_place_does_not_stop_the_archive(genomes: Genomes, tmp_path: Path) -> None:
    key = genomes.build("fasta")
    odd = tmp_path / "archives" / DIGEST / "build_log_fasta__default.md"
    odd.mkdir(parents=True)
    async with running(genomes) as parts:
        await parts.settle()
        assert (await parts.latest(key)).outcome is Outcome.PUBLISHED
    assert odd.is_dir()


@pytest.mark.parametrize("links", ["hard links", "none"])
def test_the_same_file_is_kept_once_and_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "this disk has no hard links")

    if links == "none":
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "file"
    for number, data in enumerate((b"one", b"three", b"fifth")):
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        os.utime(path, (1000, 1000 + number))
        name = keep_beside(path, "old")
        assert keep_beside(path, "old") == name
        assert name.read_bytes() == data
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "file.old", "file.old.1", "file.old.2"]
    assert (tmp_path / "file.old").read_bytes() == b"one"


def test_a_link_is_kept_as_a_link_and_the_longest_name_has_room(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    path.symlink_to("nowhere")
    assert os.readlink(keep_beside(path, "replaced")) == "nowhere"


async def test_a_persons_own_link_to_files_stays(genomes: Genomes, tmp_path: Path) -> None:
    genomes.build("fasta")
    (tmp_path / "unpacked").mkdir()
    link = tmp_path / "archives" / DIGEST / "fasta__default"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "unpacked")
    async with running(genomes) as parts:
        await parts.settle()
    assert link.readlink() == tmp_path / "unpacked"


def test_init_force_keeps_the_configuration_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "config.toml"
    values = {"refgenie.genome_folder": str(tmp_path), "control.socket": str(tmp_path / "run/control.sock")}
    env = {"HOME": str(tmp_path)}
    for number in range(3):
        target.write_text(f"# {number}")
        init(target, values, force=True, env=env)
    assert [path.read_text() for path in sorted(tmp_path.glob("config.toml.replaced*"))] == ["# 0", "# 1", "# 2"]


def test_a_lock_of_another_program_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("mine")
    with pytest.raises(StateError, match="a file of something else"), held(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == "mine"
    for left in ("pid 17\n", "", "pi", "pid 1", "\0\0\0\0\0\0\0\0"):  # the last ones after a full disk, a power cut
        (tmp_path / "lock").write_text(left)
        with held(tmp_path):
            assert (tmp_path / "lock").read_text() == f"pid {os.getpid()}\n"


@pytest.mark.parametrize("masked", [True, False])
def test_units_of_somebody_else_are_kept_and_not_taken_away(tmp_path: Path, masked: bool) -> None:  # noqa: FBT001
    (tmp_path / "g").mkdir()
    file = tmp_path / "config.toml"
    file.write_text(f'[refgenie]\ngenome_folder = "{tmp_path}/g"\ngenome_archive_folder = "{tmp_path}/a"\n')
    settings = load(str(file), env={"HOME": str(tmp_path)})
    unit, timer = (tmp_path / "etc/systemd/system" / f"refgenied.{kind}" for kind in ("service", "socket"))
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/dev/null") if masked else unit.write_text("# by hand\n")
    said: list[str] = []
    units = Installation(settings=settings, root=tmp_path, user=False, live=False, dry_run=False, say=said.append)
    units.install()
    before = unit.with_name("refgenied.service.before-refgenied")
    assert os.readlink(before) == "/dev/null" if masked else before.read_text() == "# by hand\n"
    assert sum("which is not ours" in line for line in said) == 1
    units.install()
    assert len(list(unit.parent.glob("*before-refgenied*"))) == 1
    timer.write_text("# by hand\n")
    units.uninstall()
    assert timer.read_text() == "# by hand\n"
    assert not unit.exists()
