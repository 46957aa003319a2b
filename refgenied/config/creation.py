"""`refgenied init`: writes a first configuration. `refgenied run` can start with it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from refgenied.config.checking import check_folders, may_make
from refgenied.config.load import Examined, Unwritten, examine
from refgenied.config.places import LONGEST_SOCKET, default_places, home
from refgenied.config.settings import Settings, get
from refgenied.config.write import render
from refgenied.files.durable import keep_beside, save_atomically
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.model import ConfigError
from refgenied.shared.output import fits

_FROM_REFGENIE = ("refgenie.genome_folder", "refgenie.genome_config", "refgenie.genome_archive_folder")
_FOLDERS_TO_MAKE = {"refgenie.genome_folder": 0o777, "refgenie.genome_archive_folder": 0o777, "state.folder": 0o750}
"""The folders that are made, with their permission bits."""


class Chosen(NamedTuple):
    """A setting that was chosen because nobody named it."""

    setting: str
    value: str
    why: str


class Created(NamedTuple):
    made: list[Path]
    """Folders that were made."""
    chosen: list[Chosen]
    kept: Path | None
    """The new name of a configuration that was there before."""


def init(
    target: Path, values: Mapping[str, str | int | None], *, force: bool, env: Mapping[str, str] | None = None
) -> Created:
    """Write a configuration with these settings and make their folders.

    If no genome folder is named, it is looked for in refgenie's own places. If no socket is named, a socket is chosen
    that this user can make. ConfigError, and nothing is written: there is a configuration and no `force`, a folder
    cannot be made, or `refgenied run` would refuse to start.
    """
    env = os.environ if env is None else env
    given = {name: os.path.abspath(os.path.expanduser(str(value))) for name, value in values.items() if value}
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already", hint="edit it, or overwrite it with --force")
    for name, value in given.items():
        if not fits(value):
            raise ConfigError(f"{name}: {value!r} is not UTF-8, and a configuration can hold nothing else")
    chosen = _choose(target, given, env)
    settings, problems = _examined(target, given, env)
    problems += [ConfigError(message) for message, refused in check_folders(settings) if refused and not problems]
    if problems:
        raise problems[0]
    made = _make_folders(given)
    return Created(made, chosen, _write(target, _text(given)))


def _choose(target: Path, given: dict[str, str], env: Mapping[str, str]) -> list[Chosen]:
    """Add the settings that nobody named to `given`. ConfigError."""
    chosen: list[Chosen] = []
    if not given.get("refgenie.genome_folder") and not given.get("refgenie.genome_config"):
        found = _refgenies_own(_examined(target, given, env), env)
        chosen += [row for row in found if row.setting not in given]
        given.update({name: value for name, value, _ in chosen})
    if "control.socket" not in given:
        socket = _other_socket(_examined(target, given, env).settings, env)
        if socket is not None:
            given[socket.setting] = socket.value
            chosen.append(socket)
    return chosen


def _make_folders(given: Mapping[str, str]) -> list[Path]:
    """Make the folders. Returns the new ones. ConfigError."""
    made: list[Path] = []
    for folder, mode in ((Path(given[name]), mode) for name, mode in _FOLDERS_TO_MAKE.items() if name in given):
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, mode=mode)
                made.append(folder)
        except FileExistsError as error:
            raise ConfigError(
                f"{error.filename} is not a folder",
                hint="name a folder; refgenie's own YAML goes with --genome-config",
            ) from None
        except OSError as error:
            raise ConfigError(f"{error.filename or folder}: {error.strerror}") from None
    return made


def _write(target: Path, text: str) -> Path | None:
    """Write the file. Returns the new name of the old file, if there was one. ConfigError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = keep_beside(target, "replaced") if os.path.lexists(target) else None
        save_atomically(target, text.encode())
    except OSError as error:
        raise ConfigError(
            f"{error.filename or target}: {error.strerror}", hint="--config FILE puts the configuration elsewhere"
        ) from None
    return kept


def _text(given: Mapping[str, str]) -> str:
    return render({name: value.replace("$", "$$") for name, value in given.items()})  # `$NAME` means a variable there


def _examined(target: Path, given: Mapping[str, str], env: Mapping[str, str]) -> Examined:
    return examine(env=env, unwritten=Unwritten(target, _text(given)))


def _refgenies_own(examined: Examined, env: Mapping[str, str]) -> list[Chosen]:
    """The folders that refgenie's variables or its home folder give. ConfigError: they give none."""
    settings, problems = examined
    if settings.refgenie.genome_config and not settings.refgenie.genome_folder:
        raise problems[0]  # $REFGENIE names a file without a usable genome folder
    if settings.refgenie.genome_folder:
        # The folders are written into the file, because systemd or cron starts the daemon without these variables.
        found = [(name, get(settings, name), settings.origins.get(name, "")) for name in _FROM_REFGENIE]
        return [
            Chosen(name, value, f"from {origin}")
            for name, value, origin in found
            if value and (origin.startswith("environment") or name == "refgenie.genome_folder")
        ]
    own = (home(env) or Path("/nonexistent")) / ".refgenie"
    if (own / "genomes").is_dir():
        return [Chosen("refgenie.genome_folder", str(own / "genomes"), "refgenie 1's home folder")]
    if (own / CONFIG_NAME).is_file():
        return [Chosen("refgenie.genome_config", str(own / CONFIG_NAME), "refgenie's home folder")]
    raise ConfigError(
        f"init needs --genome-folder (or --genome-config): neither REFGENIE, REFGENIE_GENOME_FOLDER nor "
        f"REFGENIE_HOME_PATH names one, and {own / 'genomes'} is not there"
    )


def _other_socket(settings: Settings, env: Mapping[str, str]) -> Chosen | None:
    """A socket that this user can make at any time; None when the usual socket is good enough. ConfigError."""
    usual = Path(settings.control.socket)
    impossible = bool(may_make(usual.parent))
    of_session = os.geteuid() != 0 and settings.origins.get("control.socket") == "default"
    if not settings.state.folder or not (impossible or of_session):
        return None
    socket = f"{settings.state.folder}/control.sock"
    if len(os.fsencode(socket)) <= LONGEST_SOCKET:
        lasting = "the folder of a login session is not there for cron, su and the like"
        return Chosen("control.socket", socket, f"{usual} cannot be made here" if impossible else lasting)
    if not impossible:
        return None
    raise ConfigError(
        f"neither {default_places(env)['control.socket']} can be made here nor {socket}, which is longer than "
        f"{LONGEST_SOCKET} bytes",
        hint="name another with --socket",
    )
