"""The command `refgenied`: its words, its exit statuses, and what it says when something is wrong. In one process."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from refgenied import __main__ as refgenied
from refgenied import __version__, logs
from refgenied.config.settings import Settings
from refgenied.model import AlreadyRunningError, WriteError


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Give the command these words, in a home folder of its own."""
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    monkeypatch.setattr(os, "environ", own)

    before = structlog.get_config()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the command sets its own

    def run(*words: str) -> Said:
        try:
            code = refgenied.main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
        logs.flush()
        return Said(code, *capfd.readouterr())

    yield run
    structlog.configure(**before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with which nothing is wrong."""
    (tmp_path / "genomes").mkdir()
    path = tmp_path / "config.toml"
    path.write_text(
        f'[refgenie]\ngenome_folder = "{tmp_path}/genomes"\ngenome_archive_folder = "{tmp_path}/archives"\n'
    )
    return path


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"refgenied {__version__}\n", "")
    helped = run("--help")
    assert helped.code == 0, helped
    assert "refgenied check-config" in helped.out


def test_a_wrong_word_is_one_line_and_2(run: Run) -> None:
    said = run("rnu")
    assert said.code == 2, said
    assert "rnu" in said.err


def test_init_writes_a_configuration_that_check_config_finds_nothing_wrong_with(run: Run, tmp_path: Path) -> None:
    (tmp_path / "genomes").mkdir()
    target = tmp_path / "new/config.toml"
    places = ("--genome-folder", f"{tmp_path}/genomes", "--genome-archive-folder", f"{tmp_path}/archives")
    first = run("init", "--config", str(target), *places)
    assert first.code == 0, first
    checked = run("check-config", "--config", str(target), "--json")
    assert checked.code == 0, checked
    assert json.loads(checked.out)
    again = run("init", "--config", str(target), *places)
    assert again.code == 78, again
    assert "--force" in again.err
    assert run("init", "--config", str(target), *places, "--force").code == 0


@pytest.mark.parametrize("command", ["run", "serve", "check-config", "install-units"])
def test_a_configuration_that_is_wrong_is_said_and_78(run: Run, file: Path, command: str) -> None:
    file.write_text(file.read_text() + "[archive]\nincldue = []\n")
    said = run(command, "--config", str(file))
    assert said.code == 78, said
    assert "archive.incldue is not a setting" in said.err
    assert "Traceback" not in said.err


def test_the_daemon_gets_the_flags_and_its_end_is_the_commands(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []

    class Daemon:
        def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
            seen.extend((settings, load()))

        async def run(self) -> None:
            if len(seen) > 2:
                raise AlreadyRunningError("another daemon runs")

    monkeypatch.setattr("refgenied.daemon.Daemon", Daemon)
    words = ("run", "--config", str(file), "--state-folder", f"{tmp_path}/elsewhere")
    assert run(*words).code == 0
    assert [one.state.folder for one in seen] == [f"{tmp_path}/elsewhere"] * 2
    assert run(*words).code == 75


def test_without_the_servers_package_it_says_what_to_install(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "refgenied.serve.process", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = run("serve", "--config", str(file))
    assert said.code == 78, said
    assert "needs uvicorn" in said.err
    assert "pip install 'refgenied[server]'" in said.err


def test_units_below_a_prefix_and_away_again(run: Run, file: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    shown = run("install-units", "--config", str(file), "--prefix", str(image), "--dry-run")
    assert shown.code == 0, shown
    assert not image.exists()
    assert run("install-units", "--config", str(file), "--prefix", str(image)).code == 0
    assert (image / "etc/systemd/system/refgenied.service").is_file()
    assert run("uninstall-units", "--config", f"{tmp_path}/no-such", "--prefix", str(image)).code == 0
    assert not [path for path in image.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, ""),
        (WriteError("the disk says no", hint="free some"), 1, "the disk says no"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the output cannot be written: No space left on device"),
    ],
)
def test_each_end_has_its_exit_status(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr("refgenied.config.commands.check", fail)
    said = run("check-config", "--config", str(file))
    assert said.code == code, said
    assert line in said.err


def test_an_error_of_a_file_is_not_one_of_the_output(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/file")

    monkeypatch.setattr("refgenied.config.commands.check", fail)
    with pytest.raises(OSError, match="/data/file"):
        run("check-config", "--config", str(file))


def test_what_nobody_expected_is_in_the_log_and_1(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        raise ValueError("why")

    assert refgenied.run_to_end(fail, "daemon") == 1
    logs.flush()
    assert "daemon.crashed" in "".join(capfd.readouterr())
