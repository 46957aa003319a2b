"""Reading: flags over environment over TOML over refgenie's own YAML over defaults. An unknown key is an error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from refgenied.config.places import default_serving_state, default_socket, default_state, find_config
from refgenied.config.roles import clashes
from refgenied.config.settings import FOLDERS, Settings, get, sections
from refgenied.config.toml import parse_toml, read_toml, wrong
from refgenied.genomes.refgenie0 import CONFIG_NAME, read_header
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

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+)|(?P<dollar>\$))")

_Layer = dict[str, tuple[Any, str]]
"""`section.key` → its value, and where that came from."""


class Draft(NamedTuple):
    """A configuration file that is to be written."""

    path: Path
    text: str


class Examined(NamedTuple):
    """Every source, read as far as it can be."""

    settings: Settings
    """What is wrong in a source is left out."""
    problems: list[ConfigError]
    """Everything for which `load` refuses, one line each."""


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
    settings, problems = examine(config, flags, env, genomes_needed=genomes_needed)
    if not problems:
        return settings
    first, more = problems[0], len(problems) - 1
    others = f"{more} more {'thing is' if more == 1 else 'things are'} wrong: `refgenied check-config` names all"
    raise ConfigError(first.message, hint="; ".join(filter(None, (first.hint, others if more else ""))))


def examine(
    config: str | None = None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    *,
    genomes_needed: bool = True,
    draft: Draft | None = None,
) -> Examined:
    """As `load`, but with all that is wrong. `draft` is read instead of a file."""
    env = os.environ if env is None else env
    reading = _Reading(env)
    try:
        settings = reading.all(config, flags or {}, draft)
        reading.check(settings, genomes_needed=genomes_needed)
    except ConfigError as error:
        return Examined(Settings(), [*reading.problems, error])
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in a path, a home that cannot be found
        return Examined(Settings(), [*reading.problems, ConfigError(f"the configuration cannot be used: {error}")])
    return Examined(settings, reading.problems)


class _Reading:
    """Puts the sources over one another, and collects what is wrong with each."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._values: dict[str, Any] = {}
        self._origins: dict[str, str] = {}
        self.problems: list[ConfigError] = []

    def all(self, config: str | None, flags: Mapping[str, Any], draft: Draft | None) -> Settings:
        path = draft.path if draft else find_config(config, self._env)
        if path is not None:
            values, problems = parse_toml(draft.text, str(path)) if draft else read_toml(path)
            self.problems += problems
            self._put({key: (value, str(path)) for key, value in values.items()})
        self._put(self._environment())
        self._put({key: (value, "command line") for key, value in flags.items() if value not in (None, "")})
        self._expand(FOLDERS)
        header = self._refgenie_yaml()
        servers = header.pop("servers", ((), ""))[0]
        self._put({key: found for key, found in header.items() if not self._values.get(key)})
        defaults = (
            ("control.socket", default_socket),
            ("state.folder", default_state),
            ("serving.state_folder", default_serving_state),
        )
        self._put({key: (str(of(self._env) or ""), "default") for key, of in defaults if not self._values.get(key)})
        settings = self._built()
        return msgspec.structs.replace(settings, path=str(path or ""), servers=servers, origins=self._origins)

    def _put(self, layer: _Layer) -> None:
        for key, (value, origin) in layer.items():
            self._values[key], self._origins[key] = value, origin

    def _problem(self, message: str, hint: str = "") -> None:
        self.problems.append(ConfigError(message, hint=hint))

    # ----------------------------------------------------------------- the sources

    def _environment(self) -> _Layer:
        found: _Layer = {}
        home = self._env.get("REFGENIE_HOME_PATH")
        if home:
            for key, folder in (("genome_folder", "genomes"), ("genome_archive_folder", "archives")):
                found[f"refgenie.{key}"] = (str(Path(home) / folder), "environment REFGENIE_HOME_PATH")
        for name, key in ENVIRONMENT.items():
            if not self._env.get(name):
                continue
            value = self._env[name].lower() if key == "log.level" else self._env[name]
            other = found.get(key)
            if other and other[1] != "environment REFGENIE_HOME_PATH" and other[0] != value:
                older = other[1].removeprefix("environment ")
                self._problem(
                    f"{older} and {name} name different folders: {other[0]} and {value}",
                    "they are the older and the newer name of one setting: unset one",
                )
            found[key] = (value, f"environment {name}")
        return found

    def _refgenie_yaml(self) -> _Layer:
        """What refgenie's own YAML says: genome folder, archive folder, servers."""
        named = self._values.get("refgenie.genome_config")
        folder = self._values.get("refgenie.genome_folder")
        path = Path(named) if named else Path(folder) / CONFIG_NAME if folder else None
        if path is None or not (named or os.path.isfile(path)):  # one that may not be read is the daemon's to report
            return {}
        try:
            header = read_header(str(path))
        except ConfigError as error:
            if not folder:  # else the daemon reports it, and reads it again at each look
                by = self._origins.get("refgenie.genome_config", "default")
                self._problem(f"{error.message} (named by {by})", error.hint)
            return {}
        origin = f"refgenie's {path}"
        found: _Layer = {"servers": (header.servers, origin)}
        if header.genome_folder:
            found["refgenie.genome_folder"] = (header.genome_folder, origin)
        if header.genome_archive_folder:
            found["refgenie.genome_archive_folder"] = (header.genome_archive_folder, origin)
        return found

    def _expand(self, keys: Iterable[str]) -> None:
        """Spell paths out. One that is wrong is left out."""
        for key in keys:
            value = self._values.get(key)
            if value and isinstance(value, str):
                try:
                    self._values[key] = self._path(key, value, self._origins.get(key, ""))
                except ConfigError as error:
                    self.problems.append(error)
                    del self._values[key]

    def _path(self, key: str, value: str, origin: str) -> str:
        """`~`, `$NAME` and `$$` (a dollar) are replaced; a relative path has no meaning for a daemon. ConfigError."""
        full = os.path.expanduser(value)
        if origin != "command line":  # the shell has done that
            full = _VARIABLE.sub(partial(_variable, key, self._env), full)
        if "\0" in full:
            raise ConfigError(f"{key} (from {origin}) has a NUL in it, which no path has")
        if not os.path.isabs(full) and not origin.startswith(("command line", "environment")):
            raise ConfigError(f"{key} = {value!r} (from {origin}) must be an absolute path")
        return os.path.normpath(os.path.abspath(full))

    def _built(self) -> Settings:
        tree: dict[str, dict[str, Any]] = {}
        for section, table in sections():
            for key in table.__struct_fields__:
                name = f"{section}.{key}"
                if name in self._values:
                    value = self._values[name]
                    problem = wrong({section: {key: value}}, self._origins[name])
                    if problem is None:
                        tree.setdefault(section, {})[key] = value
                    else:
                        self.problems.append(problem)
                self._origins.setdefault(name, "default")
        return msgspec.convert(tree, Settings)

    # ----------------------------------------------------------------- what they say together

    def check(self, settings: Settings, *, genomes_needed: bool) -> None:
        for key in ("include", "exclude"):
            for pattern in getattr(settings.archive, key):
                try:
                    check_pattern(pattern)
                except RefgeniedError as error:
                    self._problem(f"archive.{key}: {error.message}", error.hint)
        if not settings.refgenie.genome_folder and genomes_needed and not self.problems:
            self._problem(
                "no genome folder is set",
                "run `refgenied init --genome-folder G --genome-archive-folder A`, or set refgenie.genome_folder "
                "in the configuration, or REFGENIE_GENOME_FOLDER",
            )
        needed = "state.folder" if genomes_needed else "serving.state_folder"
        if not get(settings, needed) and not self.problems:
            self._problem(f"{needed} is not set, and this user has no home folder (HOME) for it", f"set {needed}")
        for message in clashes(settings):
            self._problem(message)
        if settings.watch.settle_max_seconds < settings.watch.settle_seconds:
            self._problem("watch.settle_max_seconds must not be less than watch.settle_seconds")


def _variable(key: str, env: Mapping[str, str], found: re.Match[str]) -> str:
    name = found["braced"] or found["plain"]
    if found["dollar"]:
        return "$"
    if name not in env:
        raise ConfigError(f"{key}: the environment variable {name} is not set", hint="`$$` stands for a dollar")
    return env[name]
