"""`refgeniectl` as people and programs meet it: real commands against a real socket."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from commands import COMMAND, ctl, environment, on_terminal
from controlled import served
from parts import Parts, claim
from synthetic import DIGEST, Genomes

from refgenied import __version__
from refgenied.client import Client, DaemonError, NoDaemonError, reconnect, tables, words
from refgenied.client import main as refgeniectl
from refgenied.model import AssetKey, UnsafeTreeError

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


# --------------------------------------------------------------------------- the library


async def test_the_library_in_four_lines(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()

    def talk() -> None:
        with Client.connect(str(parts.root / "control.sock")) as client:
            assert client.call("asset.get", path="t7/fasta")["asset"]["registry_path"] == NAME
            watch = client.watch("event.watch", since=0, follow=False)
            assert [row["kind"] for method, row in watch if method == "event"][-1] == "job.succeeded"
            assert (watch.state["seq"], watch.end["reason"]) == (4, "done")
            with pytest.raises(DaemonError) as refused:
                client.call("asset.get", path="t7/none")
            assert (refused.value.kind, refused.value.code) == ("asset_not_found", 1001)
            assert client.call("server.info")["version"] == __version__

    async with served(parts):
        await anyio.to_thread.run_sync(talk)


def test_where_the_socket_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("REFGENIED_SOCKET", raising=False)
    with pytest.raises(NoDaemonError) as missing:
        Client.connect()
    for path in (tmp_path / "refgenied/control.sock", "/run/refgenied/control.sock"):
        assert f"{path}: not there" in missing.value.message
    assert "refgenied run" in missing.value.hint
    monkeypatch.setenv("REFGENIED_SOCKET", "/nowhere")
    with pytest.raises(NoDaemonError, match=r"^no daemon answers \(tried /nowhere: not there\)$"):
        Client.connect()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(NoDaemonError, match="dead: nobody listens"):
        Client.connect(str(tmp_path / "dead"))


# --------------------------------------------------------------------------- exit status


async def test_usage_and_no_daemon(parts: Parts) -> None:
    nobody = await ctl(parts, "status")
    assert nobody.code == 3
    assert nobody.err.startswith("refgeniectl: no daemon answers (tried ")
    assert nobody.err.splitlines()[1].startswith("hint: start it with")
    assert (await ctl(parts, "--socket", "/named", "status")).err.count("/named") == 1
    assert (await ctl(parts, "status", "--socket", "/named")).err.count("/named") == 1
    wrong = await ctl(parts, "archive", "made")
    assert (wrong.code, wrong.out) == (2, ""), wrong
    assert "hint: " in wrong.err
    assert (await ctl(parts)).code == 2
    version = await ctl(parts, "--version")
    assert (version.code, version.out) == (0, f"refgeniectl {__version__}\n"), version


async def test_help_has_an_example_for_every_command(parts: Parts) -> None:
    top = await ctl(parts, "--help")
    assert "exit status:" in top.out
    for command in ("status", "archive create", "archive wait", "asset list", "queue cancel", "events", "call"):
        said = await ctl(parts, *command.split(), "--help")
        assert said.code == 0, said
        assert f"example:\n  refgeniectl {command}" in said.out, said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_not_permitted(parts: Parts, genomes: Genomes, open_folder: Path) -> None:
    genomes.build()
    path = f"{open_folder}/control.sock"
    code = (  # what another user may not read is imported before
        "import locale, os, shutil, sys; from refgenied.client import main, cli\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"sys.exit(main(['--socket', {path!r}, 'scan']))"
    )
    async with served(parts, socket=path):
        run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False)
        closed = await anyio.to_thread.run_sync(partial(run, env=environment(parts)))
        os.chmod(path, 0o666)
        refused = await anyio.to_thread.run_sync(partial(run, env=environment(parts)))
    assert closed.returncode == 4, closed
    assert "you may not connect" in closed.stderr, closed
    assert refused.returncode == 4, refused
    assert "members of the group no-such-group" in refused.stderr, refused


async def test_wait_and_its_five_ends(parts: Parts, genomes: Genomes) -> None:
    key = genomes.build()
    async with served(parts, work=False):
        over = await ctl(parts, "archive", "wait", "t7/fasta", "--timeout", "0.2")
        assert over.code == 6, over
        assert "time is over: job 1 is queued" in over.err, over
        job = await claim(parts.jobs)
        assert job
        await parts.jobs.fail(job, UnsafeTreeError("a device: x"))
        failed = await ctl(parts, "archive", "wait", "t7/fasta")
        assert (failed.code, failed.err) == (5, "refgeniectl: t7/fasta: a device: x\n"), failed
        parts.change_settings(exclude=("t7/*",))
        genomes.start(key)
        genomes.finish(key)
        unwanted = await ctl(parts, "archive", "wait", "t7/fasta")
        assert unwanted.code == 1, unwanted
        assert "excluded" in unwanted.err, unwanted
        unknown = await ctl(parts, "archive", "wait", "t7/nothing")
        assert unknown.code == 1, unknown
        assert "hint: its asset groups: fasta" in unknown.err, unknown
        parts.change_settings(exclude=())
        await parts.settle()
        done = await ctl(parts, "archive", "wait", "t7/fasta", "--json")
        assert (done.code, done.rows[0]["state"]) == (0, "archived"), done


async def test_ctrl_c_and_a_broken_pipe_are_quiet(parts: Parts) -> None:
    async with served(parts):
        follow = subprocess.Popen(  # noqa: ASYNC220 (it is waited for in a thread)
            [*COMMAND, "call", "event.watch", "--json"],
            env=environment(parts),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert follow.stdout
        await anyio.to_thread.run_sync(follow.stdout.readline)  # it watches
        follow.send_signal(signal.SIGINT)
        _, err = await anyio.to_thread.run_sync(follow.communicate)
        assert (follow.returncode, err) == (130, b""), follow
        shell = f"{' '.join(COMMAND)} config get | head -c 1; exit ${{PIPESTATUS[0]}}"
        run = partial(subprocess.run, ["bash", "-c", shell], env=environment(parts), capture_output=True, check=False)
        done = await anyio.to_thread.run_sync(run)
        assert (done.stdout, done.stderr) == (b"R", b"")


@pytest.mark.parametrize("command", ["archive list", "status --json", "events"])
async def test_a_full_disk_behind_stdout_is_one_line(parts: Parts, genomes: Genomes, command: str) -> None:
    genomes.build(fasta=b"ACGT")
    async with served(parts):
        await parts.settle()
        shell = f"{' '.join(COMMAND)} {command} > /dev/full"
        run = partial(subprocess.run, ["bash", "-c", shell], env=environment(parts), capture_output=True, check=False)
        done = await anyio.to_thread.run_sync(run)
        assert done.returncode == 1
        what = "the output cannot be written: No space left on device"
        if "--json" in command:
            assert json.loads(done.stderr) == {"error": {"kind": "error", "message": what, "hint": ""}}
        else:
            assert done.stderr == f"refgeniectl: {what}\n".encode()


# --------------------------------------------------------------------------- what is shown


async def test_the_main_job_by_hand(parts: Parts, genomes: Genomes) -> None:
    parts.change_settings(automatic=False)
    genomes.build(a=b"1", b=b"22")
    async with served(parts):
        before = await ctl(parts, "asset", "list")
        assert "archive.automatic is off" in before.out
        made = await ctl(parts, "archive", "create", "t7/fasta", "no/such")
        assert made.code == 1
        assert "t7/fasta: archived: " in made.out
        assert "there is no genome 'no'" in made.err
        assert (await ctl(parts, "archive", "create", "t7/fasta")).out == (
            "t7/fasta: archived already, nothing has changed\n"
        )
        [row] = (await ctl(parts, "archive", "list", "--json")).rows
        promised = (
            "digest registry_path genome_digest aliases asset_group asset path size asset_digest content_digest "
            "files download_count created_at"
        )
        assert set(promised.split()) <= set(row)
        plain = (await ctl(parts, "archive", "list")).out.splitlines()
        assert plain[0] == "Asset Archives"
        assert plain[1].split("  ")[0] == "Digest"
        assert plain[2].split() == [row["digest"], NAME, row["path"], *words.size(int(str(row["size"]))).split(), "0"]
        shown = (await ctl(parts, "archive", "show", "t7/fasta")).out
        assert "build commands\n  touch a\n" in shown
        assert "       1 B  a\n" in shown
        assert "1 complete" in (await ctl(parts, "status")).out
        forced = await ctl(parts, "archive", "create", "t7/fasta", "--force", "--json")
        assert (forced.code, forced.rows[0]["outcome"]) == (0, "published"), forced
        removed = await ctl(parts, "archive", "remove", "t7/fasta")
        assert f"its file stays: {row['path']}" in removed.out
        again = await ctl(parts, "archive", "create", "t7/fasta", "--no-wait")
        assert again.out == "t7/fasta: queued (job 3)\n"
        await ctl(parts, "archive", "wait", "t7/fasta")
        gone = await ctl(parts, "archive", "remove", "t7/fasta", "--delete-file")
        assert f"its file is deleted: {row['path']}" in gone.out
        assert not Path(str(row["path"])).exists()


async def test_create_takes_more_paths_than_one_request_may_have(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    async with served(parts):
        assert (await ctl(parts, "archive", "wait", "t7/fasta", "--served")).code == 0
        assert parts.catalog.served.archives == 1
        made = await ctl(parts, "archive", "create", "--served", *["t7/fasta"] * 1001)
        assert (made.code, made.out.count("archived already")) == (0, 1001)
        forced = await ctl(parts, "archive", "create", "--force", "--served", "t7/fasta")
        assert forced.code == 0, forced


async def test_the_file_of_a_removed_archive_can_be_deleted_later(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    async with served(parts):
        await ctl(parts, "archive", "create", "t7/fasta")
        path = Path(str((await ctl(parts, "archive", "list", "--json")).rows[0]["path"]))
        await ctl(parts, "archive", "remove", "t7/fasta")
        assert path.exists()
        again = await ctl(parts, "archive", "remove", "t7/fasta")
        assert again.code == 1, again
        assert "there is no archive of t7/fasta" in again.err, again
        gone = await ctl(parts, "archive", "remove", "t7/fasta", "--delete-file")
        assert gone.code == 0, gone
        assert f"its file is deleted: {path}" in gone.out, gone
        assert not path.exists()
        assert (await ctl(parts, "archive", "remove", "t7/fasta", "--delete-file")).code == 1


async def test_a_job_that_fails_is_exit_status_5(parts: Parts, genomes: Genomes) -> None:
    key = genomes.build()
    config = genomes.config.read_text()
    genomes.config.write_text(config.replace("asset_digest: ", "asset_digest: 0000"))
    async with served(parts):
        made = await ctl(parts, "archive", "create", "t7/fasta")
    assert made.code == 5, made
    assert made.err.startswith("refgeniectl: t7/fasta: job 1 failed: ")
    assert (await parts.latest(key)).error_kind == "digest_mismatch"


async def test_queue_commands(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    async with served(parts):
        assert (await ctl(parts, "queue", "pause")).out.startswith("paused by ")
        assert "queued 1" in (await ctl(parts, "scan")).out
        listed = await ctl(parts, "queue", "list")
        assert "t7/fasta:default  queued" in listed.out
        assert "paused by" in listed.out
        cancelled = await ctl(parts, "queue", "cancel", "1")
        assert cancelled.out.splitlines()[0] == "job 1 (t7/fasta:default) is cancelled"
        assert (await ctl(parts, "queue", "list", "--json")).out == ""
        assert (await ctl(parts, "queue", "list", "--all", "--json")).rows[0]["state"] == "cancelled"
        assert (await ctl(parts, "queue", "cancel", "1")).code == 1
        assert (await ctl(parts, "queue", "retry", "1")).code == 0
        assert (await ctl(parts, "queue", "resume")).out == "the queue goes on\n"
        assert (await ctl(parts, "archive", "wait", "t7/fasta")).code == 0
        assert (await ctl(parts, "reload")).out == "reloaded\n"


async def test_call_reaches_every_verb(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    async with served(parts):
        got = await ctl(parts, "call", "asset.get", '{"path": "t7/fasta"}', "--json")
        assert got.rows[0]["asset_digest"]
        watched = await ctl(parts, "call", "event.watch", '{"since": 3, "follow": false}', "--json")
        assert [row.get("method") for row in watched.rows] == [None, "event", "end"]
        assert (await ctl(parts, "call", "asset.get", "{")).code == 2
        assert (await ctl(parts, "call", "asset.get", "[]")).code == 2
        near = await ctl(parts, "call", "asset.gets")
        assert near.code == 1, near
        assert "asset.get" in near.err, near


async def test_events_follow_over_a_restart_of_the_daemon(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    follow: subprocess.Popen[str] | None = None
    seen: list[int] = []

    def take(number: int) -> None:
        assert follow
        assert follow.stdout
        seen.extend(json.loads(follow.stdout.readline())["seq"] for _ in range(number))

    try:
        async with served(parts, work=False) as server:
            follow = subprocess.Popen(  # noqa: ASYNC220 (it is read in threads)
                [*COMMAND, "events", "--follow", "--since", "1", "--json"],
                env=environment(parts),
                stdout=subprocess.PIPE,
                text=True,
            )
            await anyio.to_thread.run_sync(take, 3)
            await server.drain()
        genomes.build("index")
        await parts.settle()  # events that nobody heard
        async with served(parts, work=False):
            with anyio.fail_after(20):
                await anyio.to_thread.run_sync(take, 4)
    finally:
        if follow:
            follow.kill()
            follow.communicate()
    assert seen == [2, 3, 4, 5, 6, 7, 8]


async def test_events_are_readable_lines(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    async with served(parts):
        lines = (await ctl(parts, "events")).out.splitlines()
    assert [line.split()[1] for line in lines] == ["job.queued", "job.running", "archive.published", "job.succeeded"]
    assert all("t7/fasta:default  job 1" in line for line in lines), lines


@pytest.mark.parametrize("columns", [40, 60, 80, 160])
async def test_tables_fit_the_terminal_and_stay_readable(parts: Parts, genomes: Genomes, columns: int) -> None:
    genomes.build()
    await parts.settle()
    async with served(parts):
        shown = await on_terminal(parts, columns, "archive", "list")
        queue = await on_terminal(parts, columns, "queue", "list", "--all")
    if columns >= 60:
        assert all(len(line) <= columns for line in words_only(shown).splitlines()), shown
    assert "fasta:default" in shown
    assert " KB" in shown or " B" in shown
    assert "succeeded" in queue, "words are not broken"
    assert "Asset Archives" in shown


# --------------------------------------------------------------------------- nobody accepts


@pytest.fixture
def unheard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """A socket that somebody holds, as systemd does, for a daemon that does not start."""
    path = str(tmp_path / "held.sock")
    monkeypatch.setattr(reconnect, "SILENCE_TOLD_SECONDS", 0.1)
    monkeypatch.setattr(reconnect, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(reconnect, "SILENCE_SECONDS", 1.0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        yield path


def test_a_daemon_that_never_accepts_is_told_of_and_given_up(unheard: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refgeniectl(["--socket", unheard, "status"]) == 3
    told, gave_up, hint = capsys.readouterr().err.splitlines()
    assert "the daemon does not answer yet" in told
    assert "has not answered for" in gave_up
    assert "systemctl status" in hint


def test_a_timeout_holds_without_a_daemon(
    unheard: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reconnect, "SILENCE_SECONDS", 30.0)
    assert refgeniectl(["--socket", unheard, "archive", "wait", "t7/fasta", "--timeout", "0.5"]) == 6
    assert "time is over: the daemon does not answer" in capsys.readouterr().err


async def test_a_long_question_to_a_daemon_that_lives_is_waited_for(
    parts: Parts, genomes: Genomes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reconnect, "SILENCE_TOLD_SECONDS", 0.1)
    monkeypatch.setattr(reconnect, "SILENCE_SECONDS", 0.2)
    genomes.start(AssetKey(DIGEST, "fasta", "default"))
    genomes.build("other")
    asked = ["--socket", str(parts.root / "control.sock"), "archive", "wait", "t7/fasta", "--timeout", "2"]
    async with served(parts):
        assert await anyio.to_thread.run_sync(refgeniectl, asked) == 6
    assert "does not answer" not in capsys.readouterr().err


def words_only(text: str) -> str:
    """Without the escape sequences of colours."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


async def test_create_draws_a_bar_on_a_terminal(parts: Parts, genomes: Genomes) -> None:
    genomes.build()
    async with served(parts):
        shown = words_only(await on_terminal(parts, 80, "archive", "create", "t7/fasta"))
    assert "t7/fasta: archived: " in shown
    assert "t7/fasta waiting" in shown or "t7/fasta packing" in shown


# --------------------------------------------------------------------------- words


def test_sizes_and_spans() -> None:
    assert [words.size(n) for n in (0, 1023, 1024, 9_000_000, 5 * 1024**4)] == [
        "0 B", "1023 B", "1.0 KB", "8.6 MB", "5.0 TB",
    ]  # fmt: skip
    assert [words.span(n) for n in (0, 45, 3600, 7380, 273_600)] == ["0 s", "45 s", "1 h", "2 h 3 min", "3 d 4 h"]


def test_names_are_cut_in_the_middle_and_keep_the_asset() -> None:
    assert words.middle("d41d8cd98f00b204e9800998ecf8427e", 9) == "d41d…427e"
    assert len(words.middle("/a/long/path/to/fasta__default.tgz", 20)) == 20
    assert words.middle("/a/long/path/to/fasta__default.tgz", 24).endswith("fasta__default.tgz"[-12:])
    cut = words.registry_path(NAME, 24)
    assert (cut, len(cut)) == ("d1d1d…d1d1/fasta:default", 24)
    assert words.registry_path(NAME, 12) == "…sta:default"


def test_widths_give_way_from_the_widest() -> None:
    columns = [tables.DIGEST, tables.ASSET_NAME, tables.PATH, tables.SIZE]
    rows = [["d" * 32, NAME, "/" * 90, "8.6 MB"]]
    assert tables.fitted(columns, rows, 1000) == [32, len(NAME), 90, 6]
    assert sum(tables.fitted(columns, rows, 120)) == 120
    assert tables.fitted(columns, rows, 10) == [7, 17, 10, 6]


def test_a_daemon_of_another_version_is_to_be_restarted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The package was upgraded, and 0.1.0 still runs: it knows less than the client asks for."""
    path = str(tmp_path / "old.sock")
    data = {"kind": "invalid_params", "hint": "archive.wait takes path, timeout (optional), progress (optional)"}
    error = {"code": -32602, "message": "archive.wait: there is an unknown field `waiting`", "data": data}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1 << 16)
                connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode() + b"\n")

        daemon = threading.Thread(target=answer)
        daemon.start()
        assert refgeniectl(["--socket", path, "archive", "wait", "t7/fasta"]) == 1
        daemon.join()
    assert "the daemon that runs is of another version: restart it" in capsys.readouterr().err


def test_the_client_imports_only_the_standard_library_until_it_draws() -> None:
    code = (
        "import sys; import refgenied.client; "
        "third = [m for m in sys.modules if m.split('.')[0] in "
        "('msgspec','anyio','rich','yaml','structlog','watchfiles','deflate')]; "
        "print(third); sys.exit(bool(third))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
