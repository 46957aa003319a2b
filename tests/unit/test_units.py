"""The units for a configuration: what can be seen without a systemd."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refgenied.__main__ import main
from refgenied.config.load import load
from refgenied.config.settings import Settings
from refgenied.files import mounts
from refgenied.model import ConfigError
from refgenied.systemd import accounts, units
from refgenied.systemd.accounts import Users
from refgenied.systemd.install import Installation
from refgenied.systemd.units import SYSUSERS, TMPFILES

FLAGS = ("user", "live", "dry_run")


def settings(tmp_path: Path, genomes: str, archives: str, more: str = "") -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(f'[refgenie]\ngenome_folder = "{genomes}"\ngenome_archive_folder = "{archives}"\n{more}')
    return load(str(path), env={"STATE_DIRECTORY": "/var/lib/refgenied"})


def installation(given: Settings, root: Path, say: Callable[[str], object], **more: Any) -> Installation:
    """Below another root, unless it is `live`."""
    return Installation(**{"settings": given, "root": root, "say": say} | dict.fromkeys(FLAGS, False) | more)


def unit(
    tmp_path: Path, genomes: str, archives: str, more: str = "", name: str = "refgenied.service"
) -> dict[str, str]:
    text = units.system_units(settings(tmp_path, genomes, archives, more))[f"etc/systemd/system/{name}"]
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[:1] not in "#[")


def test_the_folders_of_the_configuration_are_in_the_unit(tmp_path: Path) -> None:
    found = unit(tmp_path, "/data/genomes", "/data/archives")
    assert found["ReadOnlyPaths"] == "-/data/genomes"
    assert found["ReadWritePaths"] == "-/data/archives -/run/refgenied"
    assert {"data.mount", "data-genomes.mount", "data-archives.mount"} <= set(found["After"].split())


def test_folders_that_the_sandbox_hides_are_bound_into_it(tmp_path: Path) -> None:
    found = unit(tmp_path, "/home/ann/genomes", "/home/ann/archives")
    assert "-/home/ann/genomes" in found["BindReadOnlyPaths"].split()
    assert found["BindPaths"] == "-/home/ann/archives"
    assert found["ProtectHome"] == "tmpfs"
    assert "ReadOnlyPaths" not in found


def test_links_into_what_the_sandbox_hides_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "genomes").symlink_to("/home/ann/genomes")
    (tmp_path / "archives").symlink_to("/home/ann/archives")
    found = unit(tmp_path, f"{tmp_path}/genomes", f"{tmp_path}/archives")
    assert "-/home/ann/genomes" in found["BindReadOnlyPaths"].split()
    assert "-/home/ann/archives" in found["BindPaths"].split()
    assert found["ProtectHome"] == "tmpfs"
    assert {"home-ann-genomes.mount", "home-ann-archives.mount"} <= set(found["After"].split())


def test_the_server_may_write_its_own_state_and_nothing_else(tmp_path: Path) -> None:
    server = "refgenied-serve.service"
    assert "ReadWritePaths" not in unit(tmp_path, "/data/genomes", "/data/archives", name=server)
    own = '[serving]\nstate_folder = "/srv/counted"\n'
    assert unit(tmp_path, "/data/genomes", "/data/archives", own, server)["ReadWritePaths"] == "-/srv/counted"
    assert "/srv/counted" not in unit(tmp_path, "/data/genomes", "/data/archives", own)["ReadWritePaths"]


def test_odd_names_are_quoted(tmp_path: Path) -> None:
    found = unit(tmp_path, "/data/my genomes", "/data/100%")
    assert found["ReadOnlyPaths"] == '"-/data/my genomes"'
    assert found["ReadWritePaths"].split()[0] == "-/data/100%%"
    assert "data-my\\x20genomes.mount" in found["After"]
    assert units.argument("/a$b") == "/a$$b"


@pytest.mark.parametrize(
    ("path", "escaped"), [("/srv/a-b", r"srv-a\x2db"), ("/.x/é", r"\x2ex-\xc3\xa9"), ("/a/b_c:1", "a-b_c:1")]
)
def test_names_of_mount_units_are_those_of_systemd_escape(path: str, escaped: str) -> None:
    assert units.escaped(path) == escaped


def test_below_a_prefix_only_files_are_written_and_twice_is_once(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        given = settings(tmp_path, "/data/genomes", "/data/archives")
        installation(given, tmp_path / "image", said.append).install()
    assert [line.split()[0] for line in said] == ["write"] * 5 + ["unchanged"] * 5
    installation(given, tmp_path / "image", said.append).uninstall()
    assert not [path for path in (tmp_path / "image").rglob("*") if path.is_file()]


def test_a_spool_inside_the_archive_folder_is_refused(tmp_path: Path) -> None:
    spool = '[serving]\nstate_folder = "/data/archives/spool"\n'
    given = settings(tmp_path, "/data/genomes", "/data/archives", spool)
    with pytest.raises(ConfigError, match="must not lie in the archive folder"):
        installation(given, tmp_path, print, dry_run=True).install()


def test_the_commands_write_units_for_a_configuration_and_take_them_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(tmp_path, "/data/genomes", "/data/archives")
    where = ["--prefix", str(tmp_path / "image"), "--config", str(tmp_path / "config.toml")]
    assert main(["install-units", *where, "--dry-run"]) == 0
    assert not (tmp_path / "image").exists()
    assert "ExecStart=" in capsys.readouterr().out
    assert main(["install-units", *where]) == 0
    assert (tmp_path / "image/etc/systemd/system/refgenied.service").is_file()
    (tmp_path / "config.toml").unlink()  # they can be taken away without it
    assert main(["uninstall-units", *where]) == 0
    assert not [path for path in (tmp_path / "image").rglob("*") if path.is_file()]


@pytest.mark.parametrize("char", [" ", '\\"', "$-", ";", "'"])
def test_a_socket_that_a_unit_cannot_name_is_refused(tmp_path: Path, char: str) -> None:
    given = settings(tmp_path, "/data/genomes", "/data/archives", f'[control]\nsocket = "/run/x{char}y/x.sock"\n')
    with pytest.raises(ConfigError, match="cannot express"):
        units.system_units(given)


def test_a_socket_in_a_folder_of_the_system_is_refused(tmp_path: Path) -> None:
    given = settings(tmp_path, "/data/genomes", "/data/archives", '[control]\nsocket = "/run/x.sock"\n')
    with pytest.raises(ConfigError, match="folder of its own"):
        units.system_units(given)


@pytest.mark.parametrize(
    "more",
    ['[state]\nfolder = "/var/lib"\n', '[serving]\nstate_folder = "/etc"\n', ""],
    ids=["state", "what was counted", "archives"],
)
def test_folders_of_the_system_are_not_given_away(more: str, tmp_path: Path) -> None:
    given = settings(tmp_path, "/data/genomes", "/data/archives" if more else "/srv", more)
    with pytest.raises(ConfigError, match="belongs to the system"):
        installation(given, tmp_path / "image", print).install()
    assert not (tmp_path / "image").exists()


def test_nor_are_they_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "archives").symlink_to("/etc")
    given = settings(tmp_path, "/data/genomes", str(tmp_path / "archives"))
    with pytest.raises(ConfigError, match="belongs to the system"):
        installation(given, tmp_path, print, live=True, dry_run=True).install()


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tools of systemd and of accounts, first in $PATH; each only writes its command into the file `calls`."""
    folder, calls = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    calls.touch()
    for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "userdel", "groupdel"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return calls


ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(os.getegid()).gr_name


def own_installation(tmp_path: Path, said: list[str]) -> Installation:
    """On a machine whose root is a folder, for services that run as the user of the test."""
    more = f'[control]\nsocket = "{tmp_path}/run/control.sock"\ngroup = "{MY_GROUP}"\n'
    given = settings(tmp_path, "/data/genomes", str(tmp_path / "archives"), more)
    return installation(given, tmp_path / "root", said.append, live=True, users=Users(ME, ME))


def test_only_accounts_that_are_missing_are_made_and_noted() -> None:
    users = Users("no-such-daemon", ME)
    made = accounts.missing(users, MY_GROUP)
    assert made[:2] == ["user no-such-daemon", "group no-such-daemon"]
    assert f"user {ME}" not in made
    assert f"group {MY_GROUP}" not in made
    text = accounts.noted("u refgenied\n", [*made, *made])
    assert text.startswith("u refgenied\n# made here: user no-such-daemon\n")
    assert accounts.made_before(text) == made


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_archive_folder_is_given_with_all_in_it_but_not_the_genome_folder(tmp_path: Path) -> None:
    archives, genomes = tmp_path / "archives", tmp_path / "archives/genomes"
    genomes.mkdir(parents=True)
    for path in (archives / ".refgenied", archives / "a.tgz", genomes / "a.fa"):
        path.touch()
        os.chown(path, 65534, 65534)
    (archives / "link").symlink_to("/etc")
    assert accounts.give(archives, ME, MY_GROUP, leave=genomes) == 2, "the two files of the archive folder"
    assert (genomes / "a.fa").stat().st_uid == 65534
    assert accounts.hand_over(archives, 65534) == 1


def test_an_installation_is_made_and_taken_away(tmp_path: Path, tools: Path) -> None:
    root, said = tmp_path / "root", list[str]()
    own_installation(tmp_path, said).install()
    made = ("sysusers.d", "tmpfiles.d")
    assert [line for line in (root / SYSUSERS).read_text().splitlines() if "made here: folder" in line] == [
        f"# made here: folder {root}/etc/{name}" for name in made
    ]
    assert f"give {tmp_path}/archives to {ME}:{MY_GROUP}" in said
    assert (tmp_path / "archives").is_dir()
    calls = [line for line in tools.read_text().splitlines() if not line.startswith("systemctl")]
    assert calls == [f"systemd-sysusers {root}/{SYSUSERS}", f"systemd-tmpfiles --create {root}/{TMPFILES}"]
    own_installation(tmp_path, said).uninstall()
    assert not [path for path in root.rglob("*") if path.is_file()]
    assert not [name for name in made if (root / "etc" / name).exists()]
    assert (tmp_path / "archives").is_dir(), "the data stay"


def test_data_that_root_cannot_have_do_not_stop_an_uninstallation(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    said: list[str] = []
    own_installation(tmp_path, said).install()
    made = tmp_path / "root" / SYSUSERS
    made.write_text(f"{made.read_text()}# made here: user {ME}\n")
    monkeypatch.setattr(os, "chown", refuse)
    own_installation(tmp_path, said).uninstall()
    assert f"leave the data in {tmp_path}/archives to {ME}: Operation not permitted" in said
    assert f"userdel {ME}" in tools.read_text().splitlines()


def test_mounts_at_and_above_a_folder(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    lines = ("1 0 8:1 / / rw - ext4 a rw", r"2 1 8:2 / /my\040data rw - ext4 b rw", "3 1 8:3 / /my rw - ext4 c rw")
    table.write_text("\n".join((*lines, "4 2 8:4 / /other rw - ext4 d rw")) + "\n")
    assert mounts.over(("/my data/genomes", ""), table) == {("1", "/"), ("2", "/my data")}
