"""`refgeniectl`: the command line, and its exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module

from refgenied import __version__
from refgenied.client import ClientError, DaemonError, NoDaemonError, NotPermittedError, UsageError
from refgenied.client.silence import reached
from refgenied.shared import output
from refgenied.shared.commandline import Parser, require_utf8_names

DONE, REFUSED, USAGE, NO_DAEMON, NOT_PERMITTED, JOB_FAILED, TIME_OVER, DAMAGED = range(8)
INTERRUPTED = 130
BROKEN_PIPE = 141

STATUSES = """\
exit status:
  0 done, 1 the daemon said no, 2 usage, 3 no daemon, 4 not permitted, 5 the job failed, 6 time is over,
  7 an archive is damaged
"""
ALONE = frozenset({"restore.restore"})
"""Actions that do without a daemon, or connect by themselves."""
STATES = (
    "complete", "building", "failed", "interrupted", "unregistered", "pulled", "added", "missing", "unreadable",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if argv is None:
        require_utf8_names("refgenied.client", words)
    output.set_up(as_json="--json" in words)
    arguments = _parser(words).parse_args(words, argparse.Namespace(socket=None, json=False))
    try:
        if arguments.action in ALONE:
            status = _action(arguments.action)(arguments)
        else:
            with reached(arguments.socket) as client:
                status = _action(arguments.action)(client, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        output.let_go_of(sys.stdout)
        return BROKEN_PIPE
    except ClientError as error:
        if isinstance(error, DaemonError) and arguments.action != "queue.call" and _is_of_another_version(error):
            error.hint = "the daemon that runs is of another version: restart it (`systemctl restart refgenied`)"
        complain(error)
        return status_of(error)
    except OSError as error:  # what talks to the daemon or reads files says so itself; this is stdout, on a full disk
        output.let_go_of(sys.stdout)
        complain(ClientError(f"the output cannot be written: {error.strerror or error}"))
        return REFUSED
    return int(status)


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


def complain(error: ClientError) -> None:
    output.complain("refgeniectl", error.message, error.hint, kind=error.kind)


def _is_of_another_version(error: DaemonError) -> bool:
    """Whether the daemon does not know what this version of the client asks for."""
    return error.kind == "unknown_verb" or (error.kind == "invalid_params" and "unknown field" in error.message)


def status_of(error: ClientError) -> int:
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, NoDaemonError):
        return NO_DAEMON
    if isinstance(error, NotPermittedError) or (isinstance(error, DaemonError) and error.kind == "permission_denied"):
        return NOT_PERMITTED
    return DAMAGED if isinstance(error, DaemonError) and error.kind == "archive_damaged" else REFUSED


def _action(name: str) -> Callable[..., int]:
    module, _, function = name.partition(".")
    return getattr(import_module(f"refgenied.client.commands.{module}"), function)


def _parser(argv: list[str]) -> Parser:
    """The whole command line; groups that are not named in `argv` stay empty, which saves half the time of a start."""
    shared = Parser(add_help=False)
    shared.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help="the daemon's socket")
    shared.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="for programs: one JSON object a line"
    )
    parser = Parser(
        prog="refgeniectl",
        description="Talks to refgenied, the daemon that archives refgenie assets when their builds finish.",
        epilog=f"example:\n  refgenie build hg38/fasta && refgeniectl archive wait hg38/fasta\n\n{STATUSES}",
        parents=[shared],
    )
    parser.add_argument("--version", action="version", version=f"refgeniectl {__version__}")
    _fill(_Commands(parser, shared, "refgeniectl"), set(argv))
    return parser


class _Commands:
    """Adds sub-commands that all take the shared options and show an example."""

    def __init__(self, parser: Parser, shared: Parser, path: str) -> None:
        self._children = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
        self._shared = shared
        self._path = path

    def add(self, name: str, action: str, what: str, example: str = "") -> Parser:
        command = f"{self._path} {name}"
        parser = self._children.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=f"example:\n  {command}{' ' if example else ''}{example}",
            parents=[self._shared],
        )
        parser.set_defaults(action=action)
        return parser

    def group(self, name: str, what: str) -> _Commands:
        parser = self._children.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        return _Commands(parser, self._shared, f"{self._path} {name}")


def _fill(commands: _Commands, named: set[str]) -> None:
    commands.add("status", "server.status", "show how the daemon is: folders, counts, queue, health")
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
    events = commands.add("events", "events.events", "show what happened lately", "--follow")
    events.add_argument("-f", "--follow", action="store_true", help="go on with what will happen")
    events.add_argument(
        "--since",
        type=_since,
        metavar="N|TIME",
        help="begin after the event with this number, or at a time: 2h, 3d, yesterday, 14:03, '2025-11-21 14:03'",
    )
    commands.add("scan", "queue.scan", "look at the genome folder now")
    commands.add("reload", "queue.reload", "read the configuration again")
    call = commands.add("call", "queue.call", "call any verb of the protocol", """asset.get '{"path": "hg38/fasta"}'""")
    call.add_argument("method", metavar="METHOD", help="rpc.describe lists them")
    call.add_argument("params", nargs="?", default="{}", metavar="JSON", help="its params, an object")


def _fill_config(config: _Commands) -> None:
    config.add("get", "archives.config_get", "show refgenie's settings, and all others with where each came from")


def _fill_asset(asset: _Commands) -> None:
    listed = asset.add("list", "archives.asset_list", "list every asset with its state", "'hg38/*' --state failed")
    listed.add_argument("pattern", nargs="?", default="", metavar="PATTERN", help="registry path with * and ?")
    listed.add_argument("--state", choices=STATES, metavar="STATE", help=", ".join(STATES))


def _fill_archive(archive: _Commands) -> None:
    listed = archive.add("list", "archives.archive_list", "list the archives", "'hg38/*' --json")
    listed.add_argument("pattern", nargs="?", default="", metavar="PATTERN", help="registry path with * and ?")
    create = archive.add(
        "create", "create.create", "archive assets, and wait until it is done", "hg38/fasta mm10/fasta"
    )
    create.add_argument("paths", nargs="+", metavar="P", help="registry path, such as hg38/fasta or hg38/fasta:default")
    create.add_argument("--force", action="store_true", help="make it anew, also when nothing has changed")
    create.add_argument("--no-wait", action="store_true", help="return as soon as it is queued")
    show = archive.add(
        "show", "server.archive_show", "show one archive: record, contents, build commands", "hg38/fasta"
    )
    show.add_argument("path", metavar="P")
    remove = archive.add("remove", "queue.remove", "forget an archive; its file stays", "hg38/fasta --delete-file")
    remove.add_argument("path", metavar="P")
    remove.add_argument("--delete-file", action="store_true", help="delete the file too")
    wait = archive.add(
        "wait", "create.wait", "wait until the archive of an asset, as it is now, is there", "hg38/fasta --timeout 600"
    )
    wait.add_argument("path", metavar="P")
    wait.add_argument("--timeout", type=_seconds, metavar="S", help="seconds; exit status 6 when they are over")

    cat = archive.add("cat", "read.cat", "write one file of an archive to stdout", "hg38/fasta hg38.fa.fai")
    cat.add_argument("path", metavar="P")
    cat.add_argument("file", metavar="FILE", help="its path in the asset, as `archive show` lists it")
    _fill_keeping(archive)


def _fill_keeping(archive: _Commands) -> None:
    verify = archive.add(
        "verify", "verify.verify", "read archives back and compare every byte with their manifests", "hg38/fasta"
    )
    verify.add_argument("paths", nargs="*", metavar="P")
    verify.add_argument("--all", action="store_true", help="every archive, the one proved longest ago first")
    verify.add_argument("--quick", action="store_true", help="compare sizes, manifests and records only")
    protect = archive.add(
        "protect", "verify.protect", "let no more people read archives than may read their assets", "--all"
    )
    protect.add_argument("paths", nargs="*", metavar="P")
    protect.add_argument("--all", action="store_true", help="every archive that more people may read")
    restore = archive.add(
        "restore", "restore.restore", "extract an archive and prove what comes out", "hg38/fasta --to /tmp/hg38"
    )
    restore.add_argument("path", metavar="P", help="registry path, or the path of a .tgz (no daemon is needed then)")
    restore.add_argument("--to", required=True, metavar="DIR", help="makes DIR/ASSET; DIR itself if that is its name")
    restore.add_argument(
        "--file", action="append", default=[], metavar="F", help="only this file or folder of the asset; repeatable"
    )
    restore.add_argument("--most", type=int, metavar="BYTES", help="that an archive without a manifest may unpack to")
    restore.add_argument(
        "--leave-out-stray", action="store_true", help="leave out links that lead out of the asset, and name them"
    )
    bring = archive.add(
        "import", "verify.bring", "take archives that are there already into the database", "/mnt/old/archives"
    )
    bring.add_argument(
        "what",
        nargs="?",
        default="",
        metavar="FOLDER|P",
        help="a folder with archives (without it: the archive folder itself); or one archive, also one that was "
        "removed: its registry path, or the path of its .tgz",
    )


def _fill_downloads(downloads: _Commands) -> None:
    imported = downloads.add(
        "import",
        "downloads.import_log",
        "count the downloads in an access log of nginx, Apache or Caddy; twice does no harm",
        "--log /var/log/nginx/access.log",
    )
    imported.add_argument("--log", required=True, metavar="FILE", help="the log; may be gzipped; -: standard input")


def _fill_queue(queue: _Commands) -> None:
    listed = queue.add("list", "archives.queue_list", "list running and queued jobs")
    listed.add_argument("--all", action="store_true", help="and the last 100 that have ended")
    queue.add("pause", "queue.pause", "start no more jobs; a running one goes on")
    queue.add("resume", "queue.resume", "start jobs again")
    for name, what in (("cancel", "cancel a job"), ("retry", "queue an ended job again")):
        queue.add(name, f"queue.{name}", what, "17").add_argument("job", type=int, metavar="JOB", help="its number")
