"""The accounts of the services: which an installation made, what they are given, and what becomes of it later."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from refgenied.config.roles import MARKER
from refgenied.systemd import accounts
from refgenied.systemd.accounts import Users

ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(os.getegid()).gr_name
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def owner(path: Path) -> tuple[int, int]:
    info = path.lstat()
    return info.st_uid, info.st_gid


def test_accounts_that_are_there_are_not_made() -> None:
    assert accounts.missing(Users("root", "no-such-user"), "no-such-group") == [
        "user no-such-user",
        "group no-such-user",
        "group no-such-group",
    ]


def test_what_was_made_is_noted_once_and_read_again() -> None:
    made = ["user refgenied", "group refgenied", "user refgenied"]
    text = accounts.noted("u refgenied -\n", made)
    assert text == "u refgenied -\n# made here: user refgenied\n# made here: group refgenied\n"
    assert accounts.made_before(text) == ["user refgenied", "group refgenied"]
    assert accounts.made_before("u refgenied -\n") == []


@as_root
def test_an_archive_folder_is_given_with_all_in_it_and_another_alone(tmp_path: Path) -> None:
    user, group = pwd.getpwuid(NOBODY).pw_name, grp.getgrgid(NOBODY).gr_name
    folder, elsewhere = tmp_path / "archives", tmp_path / "elsewhere"
    for path in (folder / "genomes/data", folder / "a/b", elsewhere):
        path.mkdir(parents=True)
    (folder / "a/b/x.tgz").touch()
    (folder / "link").symlink_to(elsewhere)
    assert accounts.give(folder, user, group, leave=folder / "genomes") == 1, "it holds no archives yet"
    (folder / MARKER).touch()
    assert accounts.give(folder, user, group, leave=folder / "genomes") == 5
    assert accounts.give(folder, user, group, leave=folder / "genomes") == 0
    given = (NOBODY, NOBODY)
    for path in (folder, folder / "a", folder / "a/b/x.tgz", folder / "link"):
        assert owner(path) == given, path
    for path in (elsewhere, folder / "genomes", folder / "genomes/data"):
        assert owner(path) == (0, 0), path


@as_root
def test_the_files_of_a_user_that_goes_are_roots(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    theirs, others = tmp_path / "a/theirs", tmp_path / "a/others"
    theirs.touch()
    others.touch()
    os.chown(theirs, NOBODY, NOBODY)
    os.chown(tmp_path / "a", NOBODY, NOBODY)
    os.chown(others, 1, 1)
    assert accounts.hand_over(tmp_path, NOBODY) == 2
    assert (owner(theirs), owner(tmp_path / "a"), owner(others)) == ((0, 0), (0, 0), (1, 1))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `userdel` and a `groupdel` that only note what they were called for; `groupdel` refuses the group `held`."""
    calls = tmp_path / "calls"
    calls.touch()
    for name in ("userdel", "groupdel"):
        tool = tmp_path / name
        held = 'if [ "$1" = held ]; then echo "it is held" >&2; exit 8; fi'
        tool.write_text(f'#!/bin/sh\n{held}\necho "{name} $1" >> {calls}\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: {"service": SimpleNamespace()}[name])
    groups = {"service": [], "held": [], "shared": ["ann", "bob"]}
    monkeypatch.setattr(grp, "getgrnam", lambda name: SimpleNamespace(gr_mem=groups[name]))
    return calls


def test_users_go_before_their_groups_and_a_group_with_members_stays(calls: Path) -> None:
    made = ["group held", "group service", "group shared", "user service", "user gone", "group gone"]
    left = accounts.take_away(made)
    assert left == [
        "the group shared stays, it has members: ann, bob",
        "the group held stays: groupdel held: it is held",
    ]
    assert calls.read_text().splitlines() == ["userdel service", "groupdel service"]


def test_without_the_tool_the_account_stays_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert accounts.take_away([f"user {ME}"]) == [f"the user {ME} stays: userdel is not installed: {ME} stays"]
