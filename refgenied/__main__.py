"""`refgenied`: runs the daemon, writes a configuration, shows the settings, serves archives, installs units.

Each command imports its modules when it runs. So `--help` and `--version` stay quick.
"""

from __future__ import annotations

import errno
import sys
from functools import partial

from refgenied import __version__
from refgenied.shared import output
from refgenied.shared.commandline import Parser, require_utf8_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any, TypeAlias

    from refgenied.model import RefgeniedError

    Flags: TypeAlias = Mapping[str, Any]
    """`section.key` → the value of a flag that gives this setting; None for a flag that was not given."""

EX_OK = 0
EX_FAILED = 1
EX_TEMPFAIL = 75  # starting again helps, or may help later: another daemon holds the state folder
EX_CONFIG = 78  # starting again does not help: somebody must change the configuration first

EXAMPLES = """\
examples:
  refgenied init --genome-folder /data/genomes \\
      --genome-archive-folder /data/archives
  refgenied run
  refgenied check-config
  refgenied serve --port 8080
  refgenied install-units && \\
      systemctl enable --now refgenied.socket refgenied.service
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `refgenied` command; returns its exit status."""
    words = sys.argv[1:] if argv is None else argv
    if argv is None:
        require_utf8_names("refgenied", words)
    output.set_up(as_json="--json" in words)
    given = vars(parser().parse_args(words))
    command: Callable[..., int] = given.pop("command")
    flags = {name: given.pop(name) for name in list(given) if "." in name}
    from refgenied.model import RefgeniedError  # noqa: PLC0415

    try:
        status = command(**given, **({"flags": flags} if flags else {}))
        sys.stdout.flush()
    except RefgeniedError as error:
        from refgenied import logs  # noqa: PLC0415

        logs.complain(error.message, error.hint)
        return {"config": EX_CONFIG, "already_running": EX_TEMPFAIL, "start_again": EX_TEMPFAIL}.get(
            error.kind, EX_FAILED
        )
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE) or error.filename:
            raise
        output.let_go_of(sys.stdout)
        output.complain("refgenied", f"the output cannot be written: {error.strerror}")
        return EX_FAILED
    return status


# --------------------------------------------------------------------------- the command line


def parser() -> Parser:
    """The command line of `refgenied`. A flag whose `dest` has a dot gives the setting of that name."""
    whole = Parser(
        prog="refgenied",
        description="Archives refgenie assets as soon as their builds finish. Talk to it with refgeniectl.",
        epilog=EXAMPLES,
    )
    whole.add_argument("--version", action="version", version=f"refgenied {__version__}")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)

    run = commands.add_parser("run", help="run the daemon in the foreground (systemd and terminals like it so)")
    _add_settings(run, _run)

    serve = commands.add_parser("serve", help="serve the archive folder with refgenieserver (extra: server)")
    _add_settings(serve, _serve)
    serve.add_argument("--host", dest="serving.host", metavar="H", help="address to listen on (default: serving.host)")
    serve.add_argument(
        "--port", dest="serving.port", metavar="N", type=int, help="port to listen on (default: serving.port)"
    )

    init = commands.add_parser("init", help="write a commented configuration and make the folders")
    _add_settings(init, _init)
    init.add_argument("--force", action="store_true", help="overwrite a configuration that is there")

    check = commands.add_parser("check-config", help="print the settings, where each came from, and all that is wrong")
    _add_settings(check, _check_config)
    check.add_argument("--json", action="store_true", help="one JSON object")

    install = commands.add_parser(
        "install-units", help="write the systemd units for a configuration, and make their users"
    )
    _add_units(install, _install_units)
    uninstall = commands.add_parser("uninstall-units", help="remove the systemd units and their users; the data stay")
    _add_units(uninstall, _uninstall_units)
    return whole


def _add_settings(command: Parser, function: Callable[..., int]) -> None:
    command.set_defaults(command=function)
    command.add_argument("--config", metavar="FILE", help="the configuration (default: the user's, else the system's)")
    for flag, setting, metavar, help_text in (
        ("--genome-folder", "refgenie.genome_folder", "FOLDER", "refgenie's genome folder"),
        ("--genome-archive-folder", "refgenie.genome_archive_folder", "FOLDER", "where archives go"),
        ("--genome-config", "refgenie.genome_config", "FILE", "refgenie 0.x's genome_config.yaml"),
        ("--state-folder", "state.folder", "FOLDER", "where the daemon keeps its database"),
        ("--socket", "control.socket", "FILE", "the control socket"),
    ):
        command.add_argument(flag, dest=setting, metavar=metavar, help=help_text)


def _add_units(command: Parser, function: Callable[..., int]) -> None:
    command.set_defaults(command=function)
    command.add_argument("--config", metavar="FILE", help="the configuration that the units are for")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for your own systemd instead of the machine's")
    where.add_argument(
        "--prefix", metavar="FOLDER", help="put the files below this folder (an image, a package) and do nothing else"
    )
    command.add_argument("--dry-run", action="store_true", help="show what would be written and run")


# --------------------------------------------------------------------------- the commands
# Each gets the values of its command line as keyword arguments, and returns the exit status.


def _run(*, config: str | None, flags: Flags) -> int:
    from refgenied.shared import memory  # noqa: PLC0415

    memory.give_back_early()
    with memory.without("rich"):  # structlog would import it for tracebacks that our logs never have: 5 MB
        import structlog  # noqa: PLC0415

    from refgenied import logs  # noqa: PLC0415
    from refgenied.config.load import load  # noqa: PLC0415
    from refgenied.daemon import Daemon  # noqa: PLC0415
    from refgenied.model import RefgeniedError  # noqa: PLC0415

    logs.show_crashes()
    try:
        settings = load(config, flags)
        logs.set_up(settings.log)
        logs.take_over(structlog.get_logger("library"))
        return run_to_end(Daemon(settings, partial(load, config, flags)).run, "daemon")
    except RefgeniedError as error:
        if error.kind != "start_again":  # otherwise clients at systemd's socket wait for the next start
            _say_why_not(error)
        raise


def _serve(*, config: str | None, flags: Flags) -> int:
    from refgenied.shared import memory  # noqa: PLC0415

    memory.give_back_early()
    from refgenied import logs  # noqa: PLC0415
    from refgenied.config.load import load  # noqa: PLC0415
    from refgenied.model import ConfigError  # noqa: PLC0415

    try:
        from refgenied.serve.process import ServingProcess, quiet_libraries  # noqa: PLC0415

        settings = load(config, flags, genomes_needed=False)
        logs.set_up(settings.log)
        quiet_libraries()
        serving = ServingProcess(settings, settings.serving.host, settings.serving.port)
    except ImportError as error:
        raise ConfigError(
            f"refgenied serve needs {error.name}, which is not installed",
            hint="pip install 'refgenied[server]'",
        ) from None
    return run_to_end(serving.run, "serve")


def run_to_end(run: Callable[[], Awaitable[None]], name: str) -> int:
    """Run a process to its end, and return its exit status.

    An unexpected exception is written to the log, which never makes the process wait. RefgeniedError.
    """
    import anyio  # noqa: PLC0415
    import structlog  # noqa: PLC0415

    from refgenied.model import RefgeniedError  # noqa: PLC0415

    try:
        anyio.run(run)
    except RefgeniedError:
        raise
    except Exception:  # noqa: BLE001 - it is logged with its traceback
        structlog.get_logger(name).exception(f"{name}.crashed")
        return EX_FAILED
    return EX_OK


def _say_why_not(error: RefgeniedError) -> None:
    """Tell systemd's status, and the clients that wait at systemd's socket, why the daemon does not start."""
    from refgenied.control.listener import refuse_waiting  # noqa: PLC0415
    from refgenied.control.protocol import error_reply  # noqa: PLC0415
    from refgenied.systemd.notify import notify  # noqa: PLC0415

    notify(f"STATUS={error.message}")
    refuse_waiting(error_reply(None, type(error)(f"the daemon cannot start: {error.message}", hint=error.hint)))


def _init(*, config: str | None, flags: Flags, force: bool) -> int:
    from refgenied.config import commands  # noqa: PLC0415

    commands.write_first(config, flags, force=force)
    return EX_OK


def _check_config(*, config: str | None, flags: Flags, json: bool) -> int:
    from refgenied.config import commands  # noqa: PLC0415

    return EX_OK if commands.check(config, flags, as_json=json) else EX_CONFIG


def _install_units(*, config: str | None, user: bool, prefix: str | None, dry_run: bool) -> int:
    from refgenied.systemd import commands  # noqa: PLC0415

    commands.install(config, user=user, prefix=prefix, dry_run=dry_run)
    return EX_OK


def _uninstall_units(*, config: str | None, user: bool, prefix: str | None, dry_run: bool) -> int:
    from refgenied.systemd import commands  # noqa: PLC0415

    commands.uninstall(config, user=user, prefix=prefix, dry_run=dry_run)
    return EX_OK


if __name__ == "__main__":
    sys.exit(main())
