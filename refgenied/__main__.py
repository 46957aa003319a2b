"""`refgenied`: run the daemon, write a configuration, show the effective one."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from pathlib import Path

from refgenied import __version__
from refgenied.shared import output
from refgenied.shared.commandline import Parser, require_utf8_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from refgenied.config import Settings
    from refgenied.model import RefgeniedError

EX_OK = 0
EX_FAILED = 1
EX_TEMPFAIL = 75  # starting again helps, or may help later: another daemon holds the state folder
EX_CONFIG = 78  # starting again does not help before somebody has changed the configuration

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
    arguments = _parser().parse_args(words)
    from refgenied.model import RefgeniedError  # noqa: PLC0415 (--help and --version stay quick)

    try:
        status = int(arguments.command(arguments))
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


def _parser() -> Parser:
    parser = Parser(
        prog="refgenied",
        description="Archives refgenie assets as soon as their builds finish. Talk to it with refgeniectl.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"refgenied {__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", dest="verb", parser_class=Parser
    )

    run = commands.add_parser("run", help="run the daemon in the foreground (systemd and terminals like it so)")
    _settings_flags(run)
    run.set_defaults(command=_run)

    serve = commands.add_parser("serve", help="serve the archive folder with refgenieserver (extra: server)")
    _settings_flags(serve)
    serve.add_argument("--host", metavar="H", help="address to listen on (default: serving.host)")
    serve.add_argument("--port", metavar="N", type=int, help="port to listen on (default: serving.port)")
    serve.set_defaults(command=_serve)

    init = commands.add_parser("init", help="write a commented configuration and make the folders")
    _settings_flags(init)
    init.add_argument("--force", action="store_true", help="overwrite a configuration that is there")
    init.set_defaults(command=_init)

    check = commands.add_parser("check-config", help="print the settings, where each came from, and all that is wrong")
    _settings_flags(check)
    check.add_argument("--json", action="store_true", help="one JSON object")
    check.set_defaults(command=_check_config)

    for name, what in (
        ("install-units", "write the systemd units for a configuration, and make their users"),
        ("uninstall-units", "remove the systemd units and their users; the data stay"),
    ):
        _units_flags(commands.add_parser(name, help=what))
    return parser


def _units_flags(units: argparse.ArgumentParser) -> None:
    units.add_argument("--config", metavar="FILE", help="the configuration that the units are for")
    where = units.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for your own systemd instead of the machine's")
    where.add_argument(
        "--prefix", metavar="FOLDER", help="put the files below this folder (an image, a package) and do nothing else"
    )
    units.add_argument("--dry-run", action="store_true", help="show what would be written and run")
    units.set_defaults(command=_units)


def _settings_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="the configuration (default: the user's, else the system's)")
    parser.add_argument("--genome-folder", metavar="FOLDER", help="refgenie's genome folder")
    parser.add_argument("--genome-archive-folder", metavar="FOLDER", help="where archives go")
    parser.add_argument("--genome-config", metavar="FILE", help="refgenie 0.x's genome_config.yaml")
    parser.add_argument("--state-folder", metavar="FOLDER", help="where the daemon keeps its database")
    parser.add_argument("--socket", metavar="FILE", help="the control socket")


def _flags(arguments: argparse.Namespace) -> dict[str, str | int | None]:
    return {
        "refgenie.genome_folder": arguments.genome_folder,
        "refgenie.genome_archive_folder": arguments.genome_archive_folder,
        "refgenie.genome_config": arguments.genome_config,
        "state.folder": arguments.state_folder,
        "control.socket": arguments.socket,
    }


def _run(arguments: argparse.Namespace) -> int:
    import structlog  # noqa: PLC0415

    from refgenied import config, logs  # noqa: PLC0415
    from refgenied.daemon import Daemon  # noqa: PLC0415
    from refgenied.model import RefgeniedError  # noqa: PLC0415

    def load() -> config.Settings:
        return config.load(arguments.config, _flags(arguments))

    logs.show_crashes()
    try:
        settings = load()
        logs.set_up(settings.log)
        logs.take_over(structlog.get_logger("library"))
        return _ended(Daemon(settings, load).run, "daemon")
    except RefgeniedError as error:
        if error.kind != "start_again":  # who waits goes on waiting for that
            _say_why_not(error)
        raise


def _ended(run: Callable[[], Awaitable[None]], name: str) -> int:
    """Run it to its end; the exit status. What nobody expected is an event of the log, which waits for nobody.

    RefgeniedError.
    """
    import anyio  # noqa: PLC0415
    import structlog  # noqa: PLC0415

    from refgenied.model import RefgeniedError  # noqa: PLC0415

    try:
        anyio.run(run)
    except RefgeniedError:
        raise
    except Exception:  # noqa: BLE001 - it is told with its traceback
        structlog.get_logger(name).exception(f"{name}.crashed")
        return EX_FAILED
    return EX_OK


def _serve(arguments: argparse.Namespace) -> int:
    from refgenied import config, logs  # noqa: PLC0415
    from refgenied.model import ConfigError  # noqa: PLC0415

    try:
        from refgenied.serve.process import Serving, quiet_libraries  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"refgenied serve needs {error.name}, which is not installed",
            hint="pip install 'refgenied[server]'",
        ) from None
    flags = _flags(arguments) | {"serving.host": arguments.host, "serving.port": arguments.port}
    settings = config.load(arguments.config, flags, genomes_needed=False)
    logs.set_up(settings.log)
    quiet_libraries()
    try:
        serving = Serving(settings, settings.serving.host, settings.serving.port)
    except ImportError as error:
        raise ConfigError(
            f"refgenied serve needs {error.name}, which is not installed",
            hint="pip install 'refgenied[server]'",
        ) from None
    return _ended(serving.run, "serve")


def _say_why_not(error: RefgeniedError) -> None:
    """Tell systemd's status, and the clients that wait at its socket."""
    from refgenied.control.listener import refuse_waiting  # noqa: PLC0415
    from refgenied.control.protocol import error_reply  # noqa: PLC0415
    from refgenied.systemd.notify import notify  # noqa: PLC0415

    notify(f"STATUS={error.message}")
    refuse_waiting(error_reply(None, type(error)(f"the daemon cannot start: {error.message}", hint=error.hint)))


def _check_config(arguments: argparse.Namespace) -> int:
    from refgenied import config  # noqa: PLC0415

    settings, problems = config.examine(arguments.config, _flags(arguments))
    if settings.origins:
        _show(config.effective(settings), settings, as_json=arguments.json)
    findings = config.check_folders(settings) if settings.origins else []
    refused = [f"{error.message} ({error.hint})" if error.hint else error.message for error in problems]
    refused += [message for message, refuses in findings if refuses]
    for message in refused:
        output.complain("refgenied", message, kind="config")
    for message in [message for message, refuses in findings if not refuses]:
        output.note("refgenied", message)
    return EX_CONFIG if refused else EX_OK


def _show(rows: list[tuple[str, Any, str]], settings: Settings, *, as_json: bool) -> None:
    from refgenied import config  # noqa: PLC0415

    if as_json:
        output.print_json({name: {"value": value, "origin": origin} for name, value, origin in rows}, indent=2)
        return
    output.say(f"configuration: {settings.path or 'none (flags, environment and defaults only)'}")
    width = max(len(name) for name, _, _ in rows)
    values = [config.as_toml(value) for _, value, _ in rows]
    space = min(48, max(map(len, values)))
    for (name, _, origin), value in zip(rows, values, strict=True):
        output.say(f"{name:<{width}}  {value:<{space}}  {origin}")


def _init(arguments: argparse.Namespace) -> int:
    from refgenied import config  # noqa: PLC0415

    target = Path(arguments.config).absolute() if arguments.config else _default_target()
    flags = _flags(arguments)
    written, made, chosen, kept = config.init(target, flags, force=arguments.force)
    for name, value, why in chosen:
        output.say(f"set {name} = {value} ({why})")
    for folder in made:
        output.say(f"made {folder}")
    if kept:
        output.say(f"kept what was there as {kept}")
    output.say(f"wrote {written}")
    again = f" --config {written}" if arguments.config else ""
    output.say(f"start the daemon with: refgenied run{again}")
    if again:
        output.say(f"refgeniectl finds it with: export REFGENIED_CONFIG={shlex.quote(str(written))}")
    return EX_OK


def _units(arguments: argparse.Namespace) -> int:
    from refgenied import config  # noqa: PLC0415
    from refgenied.model import ConfigError  # noqa: PLC0415
    from refgenied.systemd.install import Installation  # noqa: PLC0415

    # The service does not see the caller's environment, so the units are not made from it either.
    own = ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
    env = {name: os.environ[name] for name in own if name in os.environ}
    system = {"STATE_DIRECTORY": "/var/lib/refgenied"}
    named = arguments.config or (None if arguments.user else str(config.SYSTEM_CONFIG))
    taking_away = arguments.verb == "uninstall-units"
    try:
        settings = config.load(named, env=env if arguments.user else system)
    except ConfigError:
        if not taking_away:
            raise
        settings = config.Settings()  # without its configuration an installation can still be taken away
    installation = Installation(
        settings,
        _there(config.home(os.environ), "HOME") if arguments.user else Path(arguments.prefix or "/").absolute(),
        user=arguments.user,
        live=arguments.prefix is None,
        dry_run=arguments.dry_run,
        say=_say,
    )
    if taking_away:
        installation.uninstall()
        return EX_OK
    installation.install()
    if arguments.prefix is None:
        manager = "systemctl --user enable --now" if arguments.user else "systemctl enable --now refgenied.socket"
        output.say(f"start it with: {manager} refgenied.service")
    return EX_OK


def _say(text: str) -> None:
    for line in text.splitlines():
        output.say(line)


def _default_target() -> Path:
    from refgenied import config  # noqa: PLC0415

    if os.geteuid() == 0:
        return config.SYSTEM_CONFIG
    return _there(config.user_config(os.environ), "--config FILE")


def _there(place: Path | None, instead: str) -> Path:
    """A place that this user has only with a home folder."""
    from refgenied.model import ConfigError  # noqa: PLC0415

    if place is None:
        raise ConfigError("this user has no home folder (HOME is not set)", hint=f"name a place with {instead}")
    return place


if __name__ == "__main__":
    sys.exit(main())
