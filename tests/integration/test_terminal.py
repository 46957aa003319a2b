"""What people see: every command on terminals of many widths, with and without colour, in ASCII and in UTF-8.

The names in it are hostile: they try to steer the terminal, turn the writing direction around, are too wide, or are
no UTF-8.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from controlled import served
from parts import Parts, running
from synthetic import DIGEST, Genomes
from terminal import COLOUR, Seen, Terminal

from refgenied.__main__ import parser as refgenied_parser
from refgenied.client import cli
from refgenied.control import progress
from refgenied.control.verbs import events, wait
from refgenied.model import AssetKey, Requester
from refgenied.shared import output

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
WIDTHS = (60, 80, 160)
LOOKS = {"colour": {}, "no colour": {"NO_COLOR": "1"}, "dumb": {"TERM": "dumb"}}
ENCODINGS = ("utf-8", "ascii")
EVIL = "e\u202egpj\x1b[31m[red]名前[/]"
FILES = {
    "plain.fa": os.urandom(3 << 20),
    EVIL.replace("/", "|"): b"1",
    "bell \a, line\nbreak": b"2",
    "名" * 60: b"3",
    os.fsdecode(b"not utf-8 \xff"): b"4",
}


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Generator[Terminal]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
    terminal = Terminal(environment)
    yield terminal
    terminal.close()


@pytest.fixture
async def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Parts]:
    """A daemon over a genome folder whose own path is hostile; it tells of progress as often as it can."""
    monkeypatch.setattr(progress, "READING_PROGRESS_SECONDS", 0.001)
    for module in (wait, events):
        monkeypatch.setattr(module, "JOB_PROGRESS_SECONDS", 0.001)
    root = tmp_path / EVIL.replace("/", "|")
    root.mkdir()
    genomes = Genomes(root / "genomes")
    genomes.build("fasta", **FILES)
    recorded = genomes.config.read_text()  # refgenie pipes names with line breaks through `sort`: not our matter here
    genomes.config.write_text(re.sub(r"asset_digest: \w+", "asset_digest: null", recorded))
    async with running(genomes) as parts, served(parts, socket=str(tmp_path / "s")):
        yield parts


def well_shown(seen: Seen, columns: int, look: str, encoding: str) -> None:
    """What holds for everything that any command shows."""
    assert "Traceback" not in seen.raw
    odd = [c for c in seen.text if not c.isprintable() and c not in "\r\n"]
    assert not odd, f"{odd} in {seen.raw!r}"
    assert encoding == "utf-8" or seen.raw.isascii(), seen.raw
    assert look != "dumb" or "\x1b" not in seen.raw, seen.raw
    assert look != "no colour" or not COLOUR.search(seen.raw), seen.raw
    for line in seen.lines:  # a path or a command to copy is not broken, the terminal does that
        *_, last = output.WORD.findall(line) or [""]
        assert output.columns(line) <= columns or output.columns(last) > columns - 20, line


ALL = list(itertools.product(WIDTHS, LOOKS, ENCODINGS))


async def test_every_command_that_shows_progress(parts: Parts, terminal: Terminal, tmp_path: Path) -> None:
    socket = str(tmp_path / "s")
    folders = itertools.count()
    log = tmp_path / "access.log"
    log.write_text('1.2.3.4 - - [21/Nov/2025:10:00:00 +0000] "GET /x HTTP/1.1" 200 5 "-" "curl/8"\n' * 500)

    def look() -> None:
        for columns, look, encoding in ALL:
            run = partial(terminal.run, columns=columns, encoding=encoding, REFGENIED_SOCKET=socket, **LOOKS[look])
            for argv, said in (
                (("archive", "create", "t7/fasta", "--force"), "archived: 3.0 MB"),
                (("archive", "wait", "t7/fasta"), "archived: 3.0 MB"),
                (("archive", "verify", "t7/fasta"), "proved, "),
                (("archive", "verify", "--all"), "proved, "),
                (("archive", "import"), "1 known"),
                (("archive", "restore", "t7/fasta", "--to", str(tmp_path / str(next(folders)))), "every byte proved"),
                (("downloads", "import", "--log", str(log)), "500 lines"),
            ):
                seen = run(*argv)
                well_shown(seen, columns, look, encoding)
                assert seen.code == 0, (argv, seen)
                assert said in " ".join(seen.text.split()), (argv, seen)

    with anyio.fail_after(120):
        await anyio.to_thread.run_sync(look)


READINGS = [["packing", 0, 0, 0.0], ["packing", 5, 0, 1e3], ["packing", 9, 10**13, 0.1], ["proving", 10**13, 9, 1e12]]


@pytest.mark.parametrize(("columns", "look", "encoding"), [*ALL, (20, "colour", "ascii"), (20, "colour", "utf-8")])
@pytest.mark.parametrize("label", ["t7/fasta", f"restore {EVIL}/{'group' * 30}:名"], ids=["short", "evil"])
def test_any_reading_of_progress_can_be_drawn(
    terminal: Terminal, label: str, columns: int, look: str, encoding: str
) -> None:
    seen = terminal.run(label, readings=READINGS, columns=columns, encoding=encoding, **LOOKS[look])
    well_shown(seen, columns, look, encoding)
    assert seen.code == 0, seen
    assert columns < 60 or "proving" in seen.text, seen


OTHERS = (
    "status", "config get", "asset list", "asset list none/*", "asset get", "archive list", "archive list none/*",
    "archive show t7/fasta", "archive show t7/none", "archive remove t7/fasta", "archive remove t7/fasta --delete-file",
    "archive create t7/fasta --no-wait", "archive wait t7/none", "archive create t7/none", "archive verify t7/none",
    "archive cat t7/fasta none", "archive import /nowhere", "archive protect --all",
    "downloads import --log /nowhere", "events",
    "events --json", "events --since 1", "queue list", "queue list --all", "queue pause", "queue resume",
    "queue cancel 1", "queue retry 999999", "scan", "reload", "call rpc.describe", "call server.info --json",
    "call asset.get {", "archive restore t7/none --to /nowhere", "--version",
)  # fmt: skip
"""Each said once; what a command answers when it refuses is read, too."""


def words_of(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """A parser's commands and their groups, each as its words."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    below = [
        found for group in groups for name, sub in group.choices.items() for found in words_of(sub, (*words, name))
    ]
    return [words, *below]


GROUPS = ["config", "asset", "archive", "downloads", "queue"]
COMMANDS = words_of(cli.parser(GROUPS))


async def test_every_other_command_and_what_it_says_when_it_refuses(
    parts: Parts, terminal: Terminal, tmp_path: Path
) -> None:
    named = {tuple(line.split()[:n]) for line in OTHERS for n in (1, 2)}
    named |= {("archive", "restore"), ("archive", "verify"), ("archive", "create"), ("archive", "wait")}
    assert {words for words in COMMANDS if words} <= named | {(group,) for group in GROUPS}, "a command is not tried"

    def look() -> None:
        for columns, encoding in itertools.product(WIDTHS, ENCODINGS):
            for line in (
                "archive create t7/fasta",
                *OTHERS,
                f"archive show {EVIL}/x",
                f"archive cat t7/fasta {EVIL}",
                f"asset {EVIL}",
            ):
                argv = line.replace(" t7/none", f" t7/none{EVIL[:1]}").split()
                seen = terminal.run(*argv, columns=columns, encoding=encoding, REFGENIED_SOCKET=str(tmp_path / "s"))
                well_shown(seen, columns if "call" not in argv and "--json" not in argv else 10**9, "", encoding)
                assert seen.code in (0, 1, 2), (argv, seen)
                assert seen.text, argv

    await anyio.to_thread.run_sync(look)


async def test_ctrl_c_says_what_goes_on(parts: Parts, terminal: Terminal, tmp_path: Path) -> None:
    press = partial(terminal.run, interrupt_at="waiting", columns=200, REFGENIED_SOCKET=str(tmp_path / "s"))
    said = partial(terminal.run, columns=200, REFGENIED_SOCKET=str(tmp_path / "s"))

    async def pressed(*argv: str) -> str:
        seen = await anyio.to_thread.run_sync(partial(press, *argv))
        # The key may come in the middle of a line that is drawn, and cut it within a sequence: a terminal ignores that.
        assert seen.code == 130, seen
        assert "Traceback" not in seen.raw, seen
        return seen.lines[-2]

    await anyio.to_thread.run_sync(partial(said, "archive", "create", "t7/fasta"))
    await parts.pause.pause(Requester("ann"))
    create = await pressed("archive", "create", "t7/fasta", "--force")
    assert create == "refgeniectl: job 2 goes on; cancel with: `refgeniectl queue cancel 2`"
    await anyio.to_thread.run_sync(partial(said, *create.split("`")[1].split()[1:]))
    assert (await parts.latest(AssetKey(DIGEST, "fasta", "default"))).state == "cancelled"
    await anyio.to_thread.run_sync(partial(said, "archive", "create", "t7/fasta", "--force", "--no-wait"))
    ended = await anyio.to_thread.run_sync(partial(press, "archive", "create", "t7/fasta", "--force", by="SIGTERM"))
    assert ended.code == 130, ended
    assert ended.raw.rindex("\x1b[?25h") > ended.raw.rindex("\x1b[?25l"), "the cursor is shown again"
    async with parts.importer._turn:
        assert "nothing more is imported; what was taken stays" in await pressed("archive", "import")
    async with parts.verifier._limiter:
        assert "nothing more is read; what was found so far is recorded" in await pressed("archive", "verify", "--all")


@pytest.mark.parametrize("words", COMMANDS + [("refgenied", *words) for words in words_of(refgenied_parser())])
def test_help_fits_every_terminal(terminal: Terminal, words: tuple[str, ...]) -> None:
    for columns, encoding in itertools.product(WIDTHS, ENCODINGS):
        seen = terminal.run(*words, "--help", columns=columns, encoding=encoding)
        well_shown(seen, columns, "", "ascii")
        assert seen.code == 0, seen
        assert "usage: " in seen.text, seen
        assert "\\x" not in seen.text, "help is written in ASCII"


# --------------------------------------------------------------------------- streams of real processes

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
STRICT = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"}
LATIN = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1:strict"}


def said(*argv: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nowhere"} | environment
    module, *rest = argv
    asked = [sys.executable, "-m", module, *rest]
    if shell:
        asked = ["sh", "-c", f'exec "$@" {shell}', "sh", *asked]
    return subprocess.run(asked, env=given, capture_output=True, timeout=60, check=False, cwd="/")


@pytest.mark.parametrize("locale", [ASCII, STRICT, LATIN], ids=["C", "ascii", "latin-1"])
async def test_no_locale_brings_a_traceback(parts: Parts, tmp_path: Path, locale: dict[str, str]) -> None:
    environment = locale | {"REFGENIED_SOCKET": str(tmp_path / "s")}
    await anyio.to_thread.run_sync(partial(said, "refgenied.client", "archive", "create", "t7/fasta", **environment))
    await parts.pause.pause(Requester("ann"))
    await parts.jobs.enqueue(AssetKey("ü…" * 9, "名", "x"), stamp="", priority=0)

    def run() -> None:
        for line in ("--help", "events", "archive show t7/fasta", "status", "queue list", "asset list --state ü"):
            done = said("refgenied.client", *line.split(), **environment)
            assert b"Traceback" not in done.stderr, done
            assert done.returncode == (2 if "--state" in line else 0), done
            assert locale is LATIN or (done.stdout + done.stderr).isascii()
        shown = said("refgenied.client", "archive", "show", "t7/fasta", **environment)
        assert rb"not utf-8 \xff" in shown.stdout
        assert rb"e\u202egpj\x1b[31m[red]\u540d" in shown.stdout
        jobs = said("refgenied.client", "queue", "list", **environment)
        assert (b"\xfc" if locale is LATIN else rb"\xfc") in jobs.stdout

    await anyio.to_thread.run_sync(run)


NAMELESS = os.fsdecode(b"/dev/null/\xff\x1b[31m\xc3\xbc")


@pytest.mark.parametrize(
    "argv",
    [
        ("run", "--config", NAMELESS),
        ("run", "--genome-folder", NAMELESS, "--state-folder", NAMELESS),
        ("check-config", "--genome-folder", NAMELESS),
        ("check-config", "--genome-folder", NAMELESS, "--json"),
        ("init", "--config", "/dev/null/x", "--genome-folder", NAMELESS),
        ("serve", "--genome-archive-folder", NAMELESS, "--config", NAMELESS),
        ("install-units", "--dry-run", "--config", NAMELESS),
        ("install-units", "--dry-run", "--prefix", NAMELESS),
        (NAMELESS,),
    ],
    ids=" ".join,
)
def test_refgenied_in_ascii(argv: tuple[str, ...]) -> None:
    done = said("refgenied", *argv, **ASCII)
    assert b"Traceback" not in done.stderr, done
    assert (done.stdout + done.stderr).isascii()
    assert b"\x1b" not in done.stdout + done.stderr
    assert done.stdout + done.stderr


@pytest.mark.parametrize("module", ["refgenied", "refgenied.client"])
@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_matter(module: str, shell: str) -> None:
    for word, code in (("--version", 0), ("no-such", 2)):
        done = said(module, word, shell=shell)
        assert done.returncode == code, done
        assert b"Traceback" not in done.stderr, done


@pytest.mark.parametrize("shell", ["2>/dev/full", "2>&1 >/dev/null | true", "2>&1 | true"])
def test_a_stderr_that_takes_nothing_changes_no_exit_status(shell: str) -> None:
    done = said("refgenied.client", "--socket", "/nowhere", "status", shell=f"{shell.partition('|')[0]}")
    assert done.returncode == 3
    done = said("refgenied.client", "--socket", "/nowhere", "status", shell=shell)
    assert b"Traceback" not in done.stderr


def test_what_is_not_printable_is_spelled() -> None:
    assert output.spelled("t\ttab\x1b[31mred\nnew\x9bline ü") == r"t\ttab\x1b[31mred\nnew\x9bline ü"
    for odd in "\u202a\u202b\u202d\u202e\u2066\u2069\u200e\u200f\u061c\u200b\ufeff\u2028\xad\udcff\U000e0041\xa0":
        assert output.spelled(f"a{odd}b") == f"a{odd.encode('unicode_escape').decode()}b"
    assert output.spelled("ü…·", "ascii") == r"\xfc~-"
    assert output.spelled("ü…", "latin-1") == "ü~"
    assert output.spelled("名前", "utf-8") == "名前"


def test_lines_are_wrapped_between_words() -> None:
    assert output.wrapped("one two `three four` five", 16, 2) == ["one two", "  `three four`", "  five"]
    assert output.wrapped(f"path      {'x' * 30} more", 20, 4) == [f"path      {'x' * 30}", "    more"]
    assert output.wrapped("名名名 名名", 8) == ["名名名", "名名"]
    assert [output.head("名名名", n) for n in (0, 1, 2, 5, 6)] == ["", "", "名", "名名", "名名名"]
    assert output.columns("e\u0301") == 1
