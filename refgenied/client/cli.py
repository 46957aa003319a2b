"""`refgeniectl`: the command line.

A group's commands are imported only if the group is named. This saves half the time of a start. The values from
argparse go to a command as keyword parameters of the same names.
"""

from __future__ import annotations

import argparse
import sys

from refgenied import __version__
from refgenied.client import ClientError, DaemonError
from refgenied.client.commands import events, server
from refgenied.client.session import REFUSED, Session, complain
from refgenied.shared import output
from refgenied.shared.commandline import Parser, require_utf8_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., int]
    """A command. It takes the session and its own arguments, and returns the exit status."""

INTERRUPTED = 130
BROKEN_PIPE = 141

STATUSES = """\
exit status:
  0 done, 1 the daemon said no, 2 usage, 3 no daemon, 4 not permitted, 5 the job failed, 6 time is over,
  7 an archive is damaged
"""
STATES = (
    "complete", "building", "failed", "interrupted", "unregistered", "pulled", "added", "missing", "unreadable",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if argv is None:
        require_utf8_names("refgenied.client", words)
    output.set_up(as_json="--json" in words)
    given = vars(parser(words).parse_args(words, argparse.Namespace(socket=None, json=False)))
    run, socket, as_json = given.pop("run"), given.pop("socket"), given.pop("json")
    try:
        with Session(socket, json=as_json) as session:
            status = run(session, **given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        output.plain_again()
        return INTERRUPTED
    except BrokenPipeError:
        output.let_go_of(sys.stdout)
        return BROKEN_PIPE
    except ClientError as error:
        if isinstance(error, DaemonError) and _is_of_another_version(error):
            error.hint = "the daemon that runs is of another version: restart it (`systemctl restart refgenied`)"
        return complain(error)
    except OSError as error:  # stdout on a full disk; all other OSErrors are caught where they happen
        output.let_go_of(sys.stdout)
        complain(ClientError(f"the output cannot be written: {error.strerror or error}"))
        return REFUSED
    return status


def _is_of_another_version(error: DaemonError) -> bool:
    """Whether the daemon does not know this request, because it has another version than the client."""
    return error.kind == "unknown_verb" or (error.kind == "invalid_params" and "unknown field" in error.message)


def parser(words: list[str]) -> Parser:
    """The command line. A group has commands only when `words` name it."""
    shared = Parser(add_help=False)
    shared.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help="the daemon's socket")
    shared.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="for programs: print one JSON object on each line",
    )
    whole = Parser(
        prog="refgeniectl",
        description="Talks to refgenied, the daemon that archives refgenie assets when their builds finish.",
        epilog=f"example:\n  refgenie build hg38/fasta && refgeniectl archive wait hg38/fasta\n\n{STATUSES}",
        parents=[shared],
    )
    whole.add_argument("--version", action="version", version=f"refgeniectl {__version__}")
    _fill(_Commands(whole, shared, "refgeniectl"), set(words))
    return whole


class _Commands:
    """Adds commands that all take the shared options and show an example."""

    def __init__(self, parent: Parser, shared: Parser, path: str) -> None:
        self._children = parent.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
        self._shared = shared
        self._path = path

    def add(self, name: str, run: Run, example: str = "") -> Parser:
        """Add a command. The first paragraph of `run`'s docstring is its help."""
        command = f"{self._path} {name}"
        what = " ".join((run.__doc__ or "").partition("\n\n")[0].split())
        child = self._children.add_parser(
            name,
            help=f"{what[:1].lower()}{what[1:].removesuffix('.')}",
            description=what,
            epilog=f"example:\n  {command}{' ' if example else ''}{example}",
            parents=[self._shared],
        )
        child.set_defaults(run=run)
        return child

    def group(self, name: str, what: str) -> _Commands:
        child = self._children.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        return _Commands(child, self._shared, f"{self._path} {name}")


def _fill(commands: _Commands, named: set[str]) -> None:
    commands.add("status", server.status)
    for name, fill, what in (
        ("config", _fill_config, "the configuration in force"),
        ("asset", _fill_asset, "what is in the genome folder"),
        ("archive", _fill_archive, "archives: list, make, show, read, verify, restore, import, remove, wait for"),
        ("downloads", _fill_downloads, "how often archives were downloaded"),
        ("queue", _fill_queue, "the jobs that are queued and running"),
    ):
        group = commands.group(name, what)
        if name in named:
            fill(group)
    shown = commands.add("events", events.events, "--follow")
    shown.add_argument("-f", "--follow", action="store_true", help="then show new events as they happen")
    shown.add_argument(
        "--since",
        type=_since,
        metavar="N|TIME",
        help="begin after the event with this number, or at a time: 2h, 3d, yesterday, 14:03, '2025-11-21 14:03'",
    )
    commands.add("scan", server.scan)
    commands.add("reload", server.reload)
    call = commands.add("call", server.call, """asset.get '{"path": "hg38/fasta"}'""")
    call.add_argument("method", metavar="METHOD", help="rpc.describe lists them")
    call.add_argument("params", nargs="?", default="{}", metavar="JSON", help="its params, an object")


def _fill_config(group: _Commands) -> None:
    from refgenied.client.commands import config  # noqa: PLC0415

    group.add("get", config.get)


def _fill_asset(group: _Commands) -> None:
    from refgenied.client.commands import assets  # noqa: PLC0415

    listed = group.add("list", assets.list_assets, "'hg38/*' --state failed")
    _add_pattern(listed)
    listed.add_argument("--state", choices=STATES, metavar="STATE", help=", ".join(STATES))


def _fill_archive(group: _Commands) -> None:
    from refgenied.client.commands import archives, create, read, remove, wait  # noqa: PLC0415

    _add_pattern(group.add("list", archives.list_archives, "'hg38/*' --json"))
    made = group.add("create", create.create, "hg38/fasta mm10/fasta")
    made.add_argument("paths", nargs="+", metavar="P", help="registry path, such as hg38/fasta or hg38/fasta:default")
    made.add_argument("--force", action="store_true", help="make it anew, also when nothing has changed")
    until = made.add_mutually_exclusive_group()
    until.add_argument("--no-wait", action="store_true", help="return as soon as it is queued")
    until.add_argument("--served", action="store_true", help="wait until `refgenie pull` can get it, too")
    _add_path(group.add("show", archives.show, "hg38/fasta"))
    removed = group.add("remove", remove.remove, "hg38/fasta --delete-file")
    _add_path(removed)
    removed.add_argument("--delete-file", action="store_true", help="delete the file too")
    awaited = group.add("wait", wait.wait, "hg38/fasta --timeout 600")
    _add_path(awaited)
    awaited.add_argument("--served", action="store_true", help="wait until `refgenie pull` can get it, too")
    awaited.add_argument("--timeout", type=_seconds, metavar="S", help="seconds; exit status 6 when they are over")
    written = group.add("cat", read.cat, "hg38/fasta hg38.fa.fai")
    _add_path(written)
    written.add_argument("file", metavar="FILE", help="its path in the asset, as `archive show` lists it")
    _fill_archive_upkeep(group)


def _fill_archive_upkeep(group: _Commands) -> None:
    from refgenied.client.commands import imports, protect, restore, verify  # noqa: PLC0415

    verified = group.add("verify", verify.verify, "hg38/fasta")
    _add_paths(verified, "every archive, the one proved longest ago first")
    verified.add_argument("--quick", action="store_true", help="compare sizes, manifests and records only")
    protected = group.add("protect", protect.protect, "--all")
    _add_paths(protected, "every archive that more people may read")
    restored = group.add("restore", restore.restore, "hg38/fasta --to /tmp/hg38")
    restored.add_argument("path", metavar="P", help="registry path, or the path of a .tgz (no daemon is needed then)")
    restored.add_argument(
        "--to", required=True, metavar="DIR", help="the folder DIR/ASSET is made, or DIR itself if its name is ASSET"
    )
    restored.add_argument(
        "--file", action="append", default=[], metavar="F", help="only this file or folder of the asset; repeatable"
    )
    restored.add_argument(
        "--most", type=int, metavar="BYTES", help="most bytes that an archive without a manifest may unpack to"
    )
    restored.add_argument(
        "--leave-out-stray", action="store_true", help="leave out links that lead out of the asset, and name them"
    )
    imported = group.add("import", imports.import_archives, "/mnt/old/archives")
    imported.add_argument(
        "what",
        nargs="?",
        default="",
        metavar="FOLDER|P",
        help="a folder with archives (without it: the archive folder itself); or one archive, also one that was "
        "removed: its registry path, or the path of its .tgz",
    )


def _fill_downloads(group: _Commands) -> None:
    from refgenied.client.commands import downloads  # noqa: PLC0415

    imported = group.add("import", downloads.import_log, "--log /var/log/nginx/access.log")
    imported.add_argument("--log", required=True, metavar="FILE", help="the log; may be gzipped; -: standard input")


def _fill_queue(group: _Commands) -> None:
    from refgenied.client.commands import queue  # noqa: PLC0415

    listed = group.add("list", queue.list_jobs)
    listed.add_argument("--all", action="store_true", dest="every", help="and the last 100 that have ended")
    group.add("pause", queue.pause)
    group.add("resume", queue.resume)
    cancelled = group.add("cancel", queue.cancel, "17")
    retried = group.add("retry", queue.retry, "17")
    for command in (cancelled, retried):
        command.add_argument("job", type=int, metavar="JOB", help="its number")


def _add_pattern(command: Parser) -> None:
    command.add_argument("pattern", nargs="?", default="", metavar="PATTERN", help="registry path with * and ?")


def _add_path(command: Parser) -> None:
    command.add_argument("path", metavar="P")


def _add_paths(command: Parser, every: str) -> None:
    command.add_argument("paths", nargs="*", metavar="P")
    command.add_argument("--all", action="store_true", dest="every", help=every)


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def _since(text: str) -> int | float:
    from refgenied.client import when  # noqa: PLC0415 (few commands need it)

    try:
        return when.since(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither: write {when.HOW}") from None
