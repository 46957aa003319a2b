"""What commands answer, word for word where the words matter: why, where to look, and what to do."""

import json
import time
from datetime import datetime
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
from commands import ctl
from controlled import Desk, context_of, served
from parts import Parts, claim
from synthetic import DIGEST, Genomes
from transactions import transaction

from refgenied.client import when
from refgenied.control import waiting
from refgenied.genomes.folder import GenomeFolder
from refgenied.model import AssetKey, NoSpaceError, Priority, Requester, WriteError

pytestmark = pytest.mark.anyio

KEY = AssetKey(DIGEST, "fasta", "default")


async def test_empty_lists_are_said_in_words(parts: Parts) -> None:
    async with served(parts):
        for command, words in (
            ("asset list", "no assets yet: "),
            ("asset list none/*", "no asset fits"),
            ("archive list", "no archives yet: "),
            ("archive list none/*", "no archive fits"),
            ("queue list", "no jobs now; "),
            ("queue list --all", "no jobs yet: "),
            ("events", "no events yet"),
            ("events --since yesterday", "no events since then"),
        ):
            said = await ctl(parts, *command.split())
            assert (said.code, said.out.count("\n")) == (0, 1), said
            assert said.out.startswith(words), said
            assert (await ctl(parts, *command.split(), "--json")).out == ""


async def test_config_get_looks_as_in_refgenie_1(parts: Parts, genomes: Genomes) -> None:
    await parts.reconciler.look_again()
    async with served(parts):
        lines = (await ctl(parts, "config", "get")).out.splitlines()
    assert lines[0] == "Refgenie configuration"
    assert lines[1].split() == ["genome_folder", "version", "genome_archive_folder", "servers"]
    assert lines[2].split() == [str(genomes.root), "0.4", str(parts.archive_folder.path), "-"]
    assert lines[3].startswith("refgenied (")
    assert any(line.startswith("archive.automatic") and "true" in line for line in lines[4:]), lines


@pytest.mark.parametrize("command", ["remove t7/fasta", "import", "verify --all", "create t7/fasta", "protect --all"])
async def test_without_an_archive_folder_each_command_talks_of_itself(parts: Parts, command: str) -> None:
    parts.archive_folder.path = ""
    done = {
        "remove": "removed",
        "import": "imported",
        "verify": "verified",
        "create": "archived",
        "protect": "protected",
    }
    async with served(parts):
        said = await ctl(parts, "archive", *command.split())
    word = done[command.partition(" ")[0]]
    assert said.err.splitlines()[0] == (f"refgeniectl: no genome_archive_folder is set, so nothing can be {word}")


async def test_errors_are_json_too(parts: Parts) -> None:
    async with served(parts):
        for command, kind, code in (
            ("archive show t7/none", "archive_not_found", 1),
            ("archive create t7/none", "asset_not_found", 1),
            ("archive restore t7/none --to /x", "archive_not_found", 1),
            ("archive restore /none.tgz --to /x", "archive_not_found", 1),
            ("queue cancel 7", "job_not_found", 1),
            ("queue cancel seven", "usage", 2),
            ("archive verify", "usage", 2),
            ("call asset.get {", "usage", 2),
            ("no-such-command", "usage", 2),
            ("--socket /nowhere status", "no_daemon", 3),
            ("downloads import --log /nowhere", "error", 1),
        ):
            said = await ctl(parts, *command.split(), "--json")
            [line] = said.err.splitlines()
            error = json.loads(line)["error"]
            assert (said.code, error["kind"], set(error)) == (code, kind, {"kind", "message", "hint"}), said
            assert all(json.loads(row) for row in said.out.splitlines())


async def test_status_says_nothing_twice(parts: Parts, genomes: Genomes) -> None:
    genomes.config.write_text(genomes.config.read_text() + "genomes: {x: [}\n")
    await parts.reconciler.look_again()
    async with served(parts):
        out = (await ctl(parts, "status")).out
    [said] = [line for line in out.splitlines() if str(genomes.config) in line]
    assert said.startswith("  ")
    assert "warnings" not in out


def test_an_empty_genome_folder_is_called_empty(tmp_path: Path) -> None:
    for folder in ("nothing", "fresh disk"):
        (tmp_path / folder).mkdir()
    (tmp_path / "fresh disk" / "lost+found").mkdir()
    for folder in ("nothing", "fresh disk"):
        look = GenomeFolder(str(tmp_path / folder), config=None).look(time.time())
        assert look.layout == "empty: nothing built yet"
    Genomes(tmp_path / "made")
    assert GenomeFolder(str(tmp_path / "made"), config=None).look(time.time()).layout.startswith("refgenie 0.13")


async def test_a_failed_build_names_refgenies_log(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    build = genomes.folder(KEY) / "_refgenie_build"
    (build / "refgenie_X_failed.flag").touch()
    log = build / "refgenie_log.md"
    async with served(parts, work=False):
        await ctl(parts, "scan")
        [row] = (await ctl(parts, "asset", "list", "--json")).rows
        assert row["why_not"] == "its last build failed; refgenie_X_failed.flag is there"
        log.write_text("### log")
        await ctl(parts, "scan")
        reason = f"its last build failed; refgenie's log says why: {log}"
        [row] = (await ctl(parts, "asset", "list", "--json")).rows
        assert (row["reason"], row["why_not"]) == (reason, reason)
        assert (await ctl(parts, "archive", "create", "t7/fasta")).err == (
            f"refgeniectl: t7/fasta cannot be archived: {reason}\n"
        )
        assert (await ctl(parts, "archive", "wait", "t7/fasta")).err == (
            f"refgeniectl: t7/fasta will not be archived by itself: {reason}\n"
        )


@pytest.mark.parametrize("state", ["building", "interrupted", "missing", "failed"])
async def test_no_reason_repeats_the_state(parts: Parts, genomes: Genomes, state: str) -> None:
    key = genomes.build()
    build = genomes.folder(key) / "_refgenie_build"
    if state == "missing":
        genomes.folder(key).rename(genomes.root / "away")
    elif state == "failed":
        (build / "refgenie_X_failed.flag").touch()
    else:
        genomes.start(key)
    if state == "interrupted":
        parts.clock = lambda: time.time() + 7200
    await parts.reconciler.look_again()
    [(asset, stands)] = (await parts.reconciler.standings.all()).values()
    assert asset.state == state
    assert stands.why_not == asset.reason
    assert not asset.reason.startswith(("it is", state))


# --------------------------------------------------------------------------- what is waited for


async def test_wait_says_what_it_waits_for(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    await parts.reconciler.look_again()
    job = await parts.latest(KEY)

    async def reason() -> str:
        said = await ctl(parts, "archive", "wait", "t7/fasta", "--timeout", "0")
        assert said.code == 6
        return said.err.removeprefix("refgeniectl: t7/fasta: time is over: ").strip()

    async with served(parts, work=False):
        assert await reason() == "job 1 is queued"
        for name in ("a", "b"):
            await parts.jobs.enqueue(AssetKey(DIGEST, name, "x"), stamp="", priority=Priority.ASKED)
        assert await reason() == "job 1 is queued behind 2 others"
        await parts.pause.pause(Requester("ann"))
        assert await reason() == "job 1 is queued, and the queue stands still: paused by ann"
        await parts.pause.resume(Requester("ann"))
        async with transaction(parts.store) as tx:
            await tx.execute("DELETE FROM job WHERE id <> ?", (job.id,))
        claimed = await claim(parts.jobs)
        assert claimed
        assert await reason() == "job 1 is running"
        parts.current.settings = msgspec.structs.replace(
            parts.current.settings,
            archive=msgspec.structs.replace(parts.current.settings.archive, retry_seconds=3600.0),
        )
        await parts.jobs.fail(claimed, WriteError("the disk is ill"))
        assert "and is tried again at " in await reason()
        assert "the disk is ill" in await reason()
        await parts.pause.caused(NoSpaceError("no room"))
        assert "the queue stands still: waiting for room in the archive folder" in await reason()


@pytest.mark.parametrize("command", ["wait t7/fasta --timeout 30", "create t7/fasta"])
async def test_who_waits_long_is_told_once_why(
    parts: Parts, genomes: Genomes, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(waiting, "REASON_SECONDS", 0.05)
    genomes.build()
    await parts.pause.pause(Requester("ann"))

    async def resume_when_told() -> None:
        await told.wait()
        await parts.pause.resume(Requester("ann"))

    told = anyio.Event()
    heard = waiting.JobNews.tell

    async def tell(self: waiting.JobNews, *given: object) -> None:
        await heard(self, *given)
        if self.told_cause:
            told.set()

    monkeypatch.setattr(waiting.JobNews, "tell", tell)
    async with served(parts), anyio.create_task_group() as group:
        group.start_soon(resume_when_told)
        said = await ctl(parts, "archive", *command.split())
    assert said.code == 0, said
    assert said.err.splitlines()[0] == (
        "refgeniectl: t7/fasta waits: job 1 is queued, and the queue stands still: paused by ann"
    )
    assert len(said.err.splitlines()) <= 2


# --------------------------------------------------------------------------- times

NOW = datetime.fromisoformat("2025-11-21 14:03:07").astimezone()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2h", "2025-11-21 12:03:07"),
        ("2h30min", "2025-11-21 11:33:07"),
        ("1d 2h ago", "2025-11-20 12:03:07"),
        ("90s", "2025-11-21 14:01:37"),
        ("today", "2025-11-21 00:00:00"),
        ("yesterday", "2025-11-20 00:00:00"),
        ("14:03", "2025-11-21 14:03:00"),
        ("14:04", "2025-11-20 14:04:00"),
        ("9:05:10", "2025-11-21 09:05:10"),
        ("2025-11-01", "2025-11-01 00:00:00"),
        ("2025-11-01 10:00", "2025-11-01 10:00:00"),
        ("2025-11-01t10:00:30", "2025-11-01 10:00:30"),
    ],
)
def test_times_as_people_write_them(text: str, meant: str) -> None:
    assert when.moment(text, NOW) == datetime.fromisoformat(meant).timestamp()


def test_a_zone_is_believed_and_nonsense_is_refused() -> None:
    assert when.since("2025-11-21T14:03:00Z") == 1763733780.0
    assert when.since("@1763733780.5") == 1763733780.5
    assert when.since("17") == 17
    assert isinstance(when.since("17"), int)
    for text in ("", "soon", "2 fortnights", "25:00", "-3", "2h x", "2025-13-01", "@x", "1.5"):
        with pytest.raises(ValueError, match=r"\w"):
            when.since(text)


async def test_events_since_a_time(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    async with transaction(parts.store) as tx:
        await tx.execute("UPDATE event SET at = at - 7200 WHERE seq <= 2")
    desk = Desk(context_of(parts))
    async with served(parts):
        for since, seqs in (("1h", [3, 4]), ("3h", [1, 2, 3, 4]), ("2", [3, 4]), ("now", [])):
            said = await ctl(parts, "events", "--since", since, "--json")
            assert [row["seq"] for row in said.rows] == seqs, since
        wrong = await ctl(parts, "events", "--since", "soon")
        assert wrong.code == 2, wrong
        assert "'soon' is neither: write an event's number, or a time: 2h" in wrong.err, wrong
    assert (await desk.refused("event.watch", since=1, at=1.0))["data"]["kind"] == "invalid_params"
