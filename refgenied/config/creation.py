"""`refgenied init`: a first configuration, with which `refgenied run` starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from refgenied.config.checking import check_folders
from refgenied.config.load import Draft, Examined, examine
from refgenied.config.places import LONGEST_SOCKET, default_socket, home, may_make
from refgenied.config.settings import Settings, get
from refgenied.config.write import render
from refgenied.files.durable import keep_beside, save_atomically
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.model import ConfigError

_FROM_REFGENIE = ("refgenie.genome_folder", "refgenie.genome_config", "refgenie.genome_archive_folder")
_MADE = ("refgenie.genome_folder", "refgenie.genome_archive_folder", "state.folder")


class Created(NamedTuple):
    path: Path
    """The configuration file."""
    made: list[Path]
    """Folders that were made."""
    chosen: list[tuple[str, str, str]]
    """Settings that nobody named: `section.key`, value, and why this one."""
    kept: Path | None
    """What the configuration is called now that was there before."""


def init(
    target: Path, values: Mapping[str, str | int | None], *, force: bool, env: Mapping[str, str] | None = None
) -> Created:
    """Write a configuration with these settings and make their folders.

    A genome folder that is not named is looked for in refgenie's own places, and a socket that is not named is one
    that this user can make. Raises ConfigError, and writes nothing, when a configuration is there and `force` is
    not given, when a folder cannot be made, and for all for which `refgenied run` would refuse.
    """
    env = os.environ if env is None else env
    given = {name: os.path.abspath(os.path.expanduser(str(value))) for name, value in values.items() if value}
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already", hint="edit it, or overwrite it with --force")
    for name, value in given.items():
        if not _is_utf8(value):
            raise ConfigError(f"{name}: {value!r} is not UTF-8, and a configuration can hold nothing else")
    chosen = _choose(target, given, env)
    settings, problems = _examined(target, given, env)
    problems += [ConfigError(message) for message, refused in check_folders(settings) if refused and not problems]
    if problems:
        raise problems[0]
    made, kept = _write(target, given)
    return Created(target, made, chosen, kept)


def _choose(target: Path, given: dict[str, str], env: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Add to `given` what nobody named. ConfigError."""
    chosen: list[tuple[str, str, str]] = []
    if not given.get("refgenie.genome_folder") and not given.get("refgenie.genome_config"):
        found = _refgenies_own(_examined(target, given, env), env)
        chosen += [row for row in found if row[0] not in given]
        given.update({name: value for name, value, _ in chosen})
    if "control.socket" not in given:
        socket, why = _other_socket(_examined(target, given, env).settings, env)
        if socket:
            given["control.socket"] = socket
            chosen.append(("control.socket", socket, why))
    return chosen


def _write(target: Path, given: Mapping[str, str]) -> tuple[list[Path], Path | None]:
    """The folders that were made, and where the file is that was there. ConfigError."""
    made: list[Path] = []
    kept: Path | None = None
    try:
        for name in _MADE:
            folder = Path(given[name]) if name in given else None
            if folder and not folder.is_dir():
                folder.mkdir(parents=True, mode=0o750 if name == "state.folder" else 0o777)
                made.append(folder)
    except FileExistsError as error:
        raise ConfigError(
            f"{error.filename} is not a folder", hint="name a folder; refgenie's own YAML goes with --genome-config"
        ) from None
    except OSError as error:
        raise ConfigError(f"{error.filename or target}: {error.strerror}") from None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            kept = keep_beside(target, "replaced")
        save_atomically(target, _text(given).encode())
    except OSError as error:
        raise ConfigError(
            f"{error.filename or target}: {error.strerror}", hint="--config FILE puts the configuration elsewhere"
        ) from None
    return made, kept


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(given: Mapping[str, str]) -> str:
    literal: dict[str, Any] = {name: value.replace("$", "$$") for name, value in given.items()}  # `$NAME` is a variable
    return render(literal)


def _examined(target: Path, given: Mapping[str, str], env: Mapping[str, str]) -> Examined:
    return examine(env=env, draft=Draft(target, _text(given)))


def _refgenies_own(examined: Examined, env: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """What refgenie's variables, or its home folder, say of its folders. ConfigError when they say nothing."""
    settings, problems = examined
    if settings.refgenie.genome_config and not settings.refgenie.genome_folder:
        raise problems[0]  # $REFGENIE names a file that says nothing
    if settings.refgenie.genome_folder:
        # Written down, because the daemon is started elsewhere: by systemd or cron, without these variables.
        named = [(name, get(settings, name), settings.origins.get(name, "")) for name in _FROM_REFGENIE]
        return [
            (name, value, f"from {origin}")
            for name, value, origin in named
            if value and (origin.startswith("environment") or name == "refgenie.genome_folder")
        ]
    own = (home(env) or Path("/nonexistent")) / ".refgenie"
    if (own / "genomes").is_dir():
        return [("refgenie.genome_folder", str(own / "genomes"), "refgenie 1's home folder")]
    if (own / CONFIG_NAME).is_file():
        return [("refgenie.genome_config", str(own / CONFIG_NAME), "refgenie's home folder")]
    raise ConfigError(
        f"init needs --genome-folder (or --genome-config): neither REFGENIE, REFGENIE_GENOME_FOLDER nor "
        f"REFGENIE_HOME_PATH names one, and {own / 'genomes'} is not there"
    )


def _other_socket(settings: Settings, env: Mapping[str, str]) -> tuple[str, str]:
    """A socket that this user can make at any time, and why the usual one is none; "" when it is."""
    usual = Path(settings.control.socket)
    why = f"{usual} cannot be made here" if may_make(usual.parent) else ""
    if not why and os.geteuid() != 0 and settings.origins.get("control.socket") == "default":
        why = "the folder of a login session is not there for cron, su and the like"
    socket = f"{settings.state.folder}/control.sock"
    if not why or not settings.state.folder:
        return "", ""
    if len(os.fsencode(socket)) <= LONGEST_SOCKET:
        return socket, why
    if not may_make(usual.parent):
        return "", ""
    raise ConfigError(
        f"neither {default_socket(env)} can be made here nor {socket}, which is longer than {LONGEST_SOCKET} bytes",
        hint="name another with --socket",
    )
