"""Reading: flags over environment over TOML over refgenie's own YAML over defaults. An unknown key is an error."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from refgenied.config.settings import FOLDERS, File, Settings, sections
from refgenied.genomes.refgenconf import read_header
from refgenied.genomes.registry_path import check_pattern
from refgenied.model import ConfigError, RefgeniedError

ENVIRONMENT = {
    "REFGENIE": "refgenie.genome_config",
    "REFGENIE_GENOME_FOLDER": "refgenie.genome_folder",
    "REFGENIE_GENOME_ARCHIVE_FOLDER": "refgenie.genome_archive_folder",
    "REFGENIE_GENOME_STAGE_FOLDER": "refgenie.genome_archive_folder",
    "REFGENIE_LOG_LEVEL": "log.level",
    "REFGENIED_SOCKET": "control.socket",
}
"""Environment variables and the setting each one gives. `REFGENIE_HOME_PATH` gives two: see `_environment`."""


def user_config(env: Mapping[str, str]) -> Path:
    return Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "refgenied/config.toml"


SYSTEM_CONFIG = Path("/etc/refgenied/config.toml")
SYSTEM_SOCKET = Path("/run/refgenied/control.sock")


def find_config(flag: str | None, env: Mapping[str, str]) -> Path | None:
    """The configuration file to read: `--config`, `$REFGENIED_CONFIG`, the user's, the system's.

    Raises ConfigError when one was named and is not there.
    """
    for named, by in ((flag, "--config"), (env.get("REFGENIED_CONFIG"), "REFGENIED_CONFIG")):
        if named:
            path = Path(named).expanduser().absolute()
            if not path.is_file():
                raise ConfigError(f"{path} (from {by}) is not there", hint="refgenied init --config FILE writes one")
            return path
    return next((path for path in (user_config(env), SYSTEM_CONFIG) if path.is_file()), None)


def default_socket(env: Mapping[str, str]) -> Path:
    runtime = env.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "refgenied/control.sock" if runtime else SYSTEM_SOCKET


def default_state(env: Mapping[str, str]) -> Path:
    given = env.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    return Path(env.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "refgenied"


def default_serving_state(env: Mapping[str, str]) -> Path:
    """`$STATE_DIRECTORY` is of the unit that asks: the daemon and the server have one each."""
    given = env.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    return Path(env.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "refgenied-serve"


def load(
    config: str | None = None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    *,
    genomes_needed: bool = True,
) -> Settings:
    """Read all sources and return the effective settings.

    `flags` maps `section.key` to a value from the command line. Without `genomes_needed` (a server of archives
    alone) the genome folder may be empty. Raises ConfigError with one line that names
    the file or variable, the key and what to do.
    """
    try:
        return _load(config, flags, os.environ if env is None else env, genomes_needed=genomes_needed)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in a path, a circle of links, a home we may not search
        raise ConfigError(f"the configuration cannot be used: {error}") from error


def _load(
    config: str | None, flags: Mapping[str, Any] | None, env: Mapping[str, str], *, genomes_needed: bool
) -> Settings:
    path = find_config(config, env)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def put(layer: Mapping[str, tuple[Any, str]]) -> None:
        for key, (value, origin) in layer.items():
            values[key], origins[key] = value, origin

    put(_toml(path) if path else {})
    put(_environment(env))
    put({key: (value, "command line") for key, value in (flags or {}).items() if value not in (None, "")})
    _expand(values, FOLDERS, origins, env)
    header = _refgenie_yaml(values, origins)
    more = {key: found for key, found in header.items() if not values.get(key)}
    put(more)
    _expand(values, [key for key in FOLDERS if key in more], origins, env)
    put(
        {
            key: (str(value), "default")
            for key, value in (
                ("control.socket", default_socket(env)),
                ("state.folder", default_state(env)),
                ("serving.state_folder", default_serving_state(env)),
            )
            if not values.get(key)
        }
    )
    settings = _build(values, origins, path)
    _check(settings, genomes_needed=genomes_needed)
    servers = header.get("servers", ((), ""))[0]
    return msgspec.structs.replace(settings, path=str(path or ""), servers=servers, origins=origins)


def _toml(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = tomllib.loads(text)
        msgspec.convert(tree, File)  # names what is wrong by its place in this file, before anything is merged
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_plain(error)}", hint=_near(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return {f"{section}.{key}": (value, str(path)) for section, table in tree.items() for key, value in table.items()}


_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+)|(?P<dollar>\$))")
_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<section>[^`]*)`)?")
_PLACED = re.compile(r"(?P<what>.*) - at `\$\.(?P<key>[^`]*)`")


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec's message in the words of a TOML file: first the key, then what is wrong with it."""
    unknown = _UNKNOWN.search(str(error))
    if unknown:
        return f"{'.'.join(filter(None, (unknown['section'], unknown['key'])))} is not a setting"
    placed = _PLACED.fullmatch(str(error))
    return f"{placed['key']}: {placed['what'][0].lower()}{placed['what'][1:]}" if placed else str(error)


def _near(error: msgspec.ValidationError) -> str:
    unknown = _UNKNOWN.search(str(error))
    if not unknown:
        return ""
    known = [f"{section}.{key}" for section, table in sections() for key in table.__struct_fields__]
    wanted = ".".join(filter(None, (unknown["section"], unknown["key"])))
    near = get_close_matches(wanted, known, n=3) or [name for name in known if name.endswith(f".{unknown['key']}")]
    return f"perhaps {' or '.join(near)}" if near else "`refgenied check-config` lists all settings"


def _environment(env: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    home = env.get("REFGENIE_HOME_PATH")
    if home:
        for key, folder in (("genome_folder", "genomes"), ("genome_archive_folder", "archives")):
            found[f"refgenie.{key}"] = (str(Path(home) / folder), "environment REFGENIE_HOME_PATH")
    for name, key in ENVIRONMENT.items():
        if not env.get(name):
            continue
        value = env[name].lower() if key == "log.level" else env[name]
        other = found.get(key)
        if other and other[1] != "environment REFGENIE_HOME_PATH" and other[0] != value:
            raise ConfigError(
                f"{other[1].removeprefix('environment ')} and {name} name different folders: {other[0]} and {value}",
                hint="they are the older and the newer name of one setting: unset one",
            )
        found[key] = (value, f"environment {name}")
    return found


def _refgenie_yaml(values: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """What refgenie's own YAML says: genome folder, archive folder, servers."""
    named = values.get("refgenie.genome_config")
    folder = values.get("refgenie.genome_folder")
    path = Path(named) if named else Path(folder) / "genome_config.yaml" if folder else None
    if path is None or not (named or os.path.isfile(path)):  # one that may not be read is the daemon's to report
        return {}
    try:
        header = read_header(str(path))
    except ConfigError as error:
        if folder:  # the daemon reports it, and reads it again at each look
            return {}
        by = origins.get("refgenie.genome_config", "default")
        raise ConfigError(f"{error.message} (named by {by})", hint=error.hint) from None
    origin = f"refgenie's {path}"
    found: dict[str, tuple[Any, str]] = {"servers": (header.servers, origin)}
    if header.genome_folder:
        found["refgenie.genome_folder"] = (header.genome_folder, origin)
    if header.genome_archive_folder:
        found["refgenie.genome_archive_folder"] = (header.genome_archive_folder, origin)
    return found


def _expand(values: dict[str, Any], keys: Iterable[str], origins: Mapping[str, str], env: Mapping[str, str]) -> None:
    """`~`, `$NAME` and `$$` (a dollar) in paths; a relative path has no meaning for a daemon."""
    for key in keys:
        value = values.get(key)
        if not value or not isinstance(value, str):
            continue
        full = os.path.expanduser(value)
        if origins.get(key) != "command line":  # the shell has done that
            full = _VARIABLE.sub(partial(_variable, key, env), full)
        if not os.path.isabs(full):
            if origins.get(key, "") == "command line" or origins.get(key, "").startswith("environment"):
                full = os.path.abspath(full)
            else:
                raise ConfigError(f"{key} = {value!r} (from {origins.get(key)}) must be an absolute path")
        values[key] = os.path.normpath(full)


def _variable(key: str, env: Mapping[str, str], found: re.Match[str]) -> str:
    name = found["braced"] or found["plain"]
    if found["dollar"]:
        return "$"
    if name not in env:
        raise ConfigError(f"{key}: the environment variable {name} is not set", hint="`$$` stands for a dollar")
    return env[name]


def _build(values: Mapping[str, Any], origins: dict[str, str], path: Path | None) -> Settings:
    tree: dict[str, dict[str, Any]] = {}
    for section, table in sections():
        for key in table.__struct_fields__:
            name = f"{section}.{key}"
            if name in values:
                tree.setdefault(section, {})[key] = values[name]
            origins.setdefault(name, "default")
    origins.pop("servers", None)
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        where = next((origin for key, origin in origins.items() if f"`$.{key}" in str(error)), str(path or "settings"))
        raise ConfigError(f"{where}: {_plain(error)}") from None


def _check(settings: Settings, *, genomes_needed: bool) -> None:
    for key in ("include", "exclude"):
        for pattern in getattr(settings.archive, key):
            try:
                check_pattern(pattern)
            except RefgeniedError as error:
                raise ConfigError(f"archive.{key}: {error.message}", hint=error.hint) from None
    refgenie = settings.refgenie
    if not refgenie.genome_folder:
        if not genomes_needed:
            return
        raise ConfigError(
            "no genome folder is set",
            hint="run `refgenied init --genome-folder G --genome-archive-folder A`, or set refgenie.genome_folder "
            "in the configuration, or REFGENIE_GENOME_FOLDER",
        )
    genome, archive = Path(refgenie.genome_folder), Path(refgenie.genome_archive_folder or "/nonexistent")
    if refgenie.genome_archive_folder and genome.resolve() == archive.resolve():
        raise ConfigError(f"the archive folder must not be the genome folder: {genome}")
    data = genome.resolve() / "data"
    if refgenie.genome_archive_folder and data in (archive.resolve(), *archive.resolve().parents):
        raise ConfigError(f"the archive folder {archive} must not lie in the genome folder's data/")
    if settings.watch.settle_max_seconds < settings.watch.settle_seconds:
        raise ConfigError("watch.settle_max_seconds must not be less than watch.settle_seconds")
