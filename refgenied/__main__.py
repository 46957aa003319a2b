"""`refgenied`: run the daemon, write a configuration, show the effective one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from refgenied import __version__

EX_OK = 0
EX_FAILED = 1
EX_USAGE = 2
EX_TEMPFAIL = 75  # another daemon holds the state folder: starting again later may help
EX_CONFIG = 78  # starting again does not help before somebody has changed the configuration

EXAMPLES = """\
examples:
  refgenied init --genome-folder /data/genomes --genome-archive-folder /data/archives
  refgenied run
  refgenied check-config
  refgenied serve --port 8080
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `refgenied` command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    from refgenied.model import RefgeniedError  # noqa: PLC0415 (--help and --version stay quick)

    try:
        return int(arguments.command(arguments))
    except RefgeniedError as error:
        print(f"refgenied: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return {"config": EX_CONFIG, "already_running": EX_TEMPFAIL}.get(error.kind, EX_FAILED)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="refgenied",
        description="Archives refgenie assets as soon as their builds finish. Talk to it with refgeniectl.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"refgenied {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

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

    check = commands.add_parser("check-config", help="print the effective settings and where each came from")
    _settings_flags(check)
    check.add_argument("--json", action="store_true", help="one JSON object")
    check.set_defaults(command=_check_config)
    return parser


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
    import anyio  # noqa: PLC0415

    from refgenied import config, logs  # noqa: PLC0415
    from refgenied.daemon import Daemon  # noqa: PLC0415

    def load() -> config.Settings:
        return config.load(arguments.config, _flags(arguments))

    settings = load()
    logs.set_up(settings.log)
    anyio.run(Daemon(settings, load).run)
    return EX_OK


def _serve(arguments: argparse.Namespace) -> int:
    import anyio  # noqa: PLC0415

    from refgenied import config, logs  # noqa: PLC0415
    from refgenied.model import ConfigError  # noqa: PLC0415

    try:
        from refgenied.serving.server.run import Serving, quiet_libraries  # noqa: PLC0415
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
    anyio.run(serving.run)
    return EX_OK


def _check_config(arguments: argparse.Namespace) -> int:
    import json  # noqa: PLC0415

    from refgenied import config  # noqa: PLC0415

    settings = config.load(arguments.config, _flags(arguments))
    rows = config.effective(settings)
    if arguments.json:
        print(json.dumps({name: {"value": value, "origin": origin} for name, value, origin in rows}, indent=2))
        return EX_OK
    print(f"configuration: {settings.path or 'none (flags, environment and defaults only)'}")
    width = max(len(name) for name, _, _ in rows)
    values = [config.as_toml(value) for _, value, _ in rows]
    space = min(48, max(map(len, values)))
    for (name, _, origin), value in zip(rows, values, strict=True):
        print(f"{name:<{width}}  {value:<{space}}  {origin}")
    return EX_OK


def _init(arguments: argparse.Namespace) -> int:
    from refgenied import config  # noqa: PLC0415

    target = Path(arguments.config).absolute() if arguments.config else _default_target()
    flags = _flags(arguments)
    written, made = config.init(target, flags, force=arguments.force)
    for folder in made:
        print(f"made {folder}")
    print(f"wrote {written}")
    again = f" --config {written}" if arguments.config else ""
    print(f"start the daemon with: refgenied run{again}")
    return EX_OK


def _default_target() -> Path:
    from refgenied import config  # noqa: PLC0415

    return config.SYSTEM_CONFIG if os.geteuid() == 0 else config.user_config(os.environ)


if __name__ == "__main__":
    sys.exit(main())
