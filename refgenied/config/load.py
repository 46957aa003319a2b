"""Reads the settings. The first of these wins: command line, environment, `config.toml`, refgenie's YAML, defaults.

An unknown key is an error.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from refgenied.config.places import default_places, find_config
from refgenied.config.roles import clashes
from refgenied.config.settings import ENVIRONMENT, FOLDERS, SETTINGS, Settings, get
from refgenied.config.toml import parse_toml, read_toml, wrong
from refgenied.genomes.refgenie0 import CONFIG_NAME, read_header
from refgenied.genomes.registry_path import check_pattern
from refgenied.model import ConfigError, RefgeniedError
from refgenied.shared.paths import with_variables

_Found = dict[str, tuple[Any, str]]
"""`section.key` → its value, and where the value came from."""


class Unwritten(NamedTuple):
    """A configuration file that is not written yet."""

    path: Path
    text: str


class Examined(NamedTuple):
    """The result of reading all sources."""

    settings: Settings
    """The settings without the values that are wrong."""
    problems: list[ConfigError]
    """Every reason why `load` refuses, one line each."""


def load(
    config: str | None = None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    *,
    genomes_needed: bool = True,
) -> Settings:
    """Read all sources and return the effective settings.

    `flags` maps `section.key` to a value from the command line. Without `genomes_needed` (for a server that only
    serves archives) the genome folder may be empty. Raises ConfigError with one line that names the file or variable,
    the key and what to do.
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
    unwritten: Unwritten | None = None,
) -> Examined:
    """As `load`, but returns all faults. `unwritten` is read in place of a file."""
    sources = _Sources(os.environ if env is None else env)
    try:
        settings = sources.read(config, flags or {}, unwritten)
        sources.check(settings, genomes_needed=genomes_needed)
    except ConfigError as error:
        return Examined(Settings(), [*sources.problems, error])
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in a path, a home folder that cannot be found
        return Examined(Settings(), [*sources.problems, ConfigError(f"the configuration cannot be used: {error}")])
    return Examined(settings, sources.problems)


class _Sources:
    """Combines the sources, and collects the faults of each."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._found: _Found = {}
        self.problems: list[ConfigError] = []

    def read(self, config: str | None, flags: Mapping[str, Any], unwritten: Unwritten | None) -> Settings:
        """The settings without the values that are wrong. ConfigError, OSError, ValueError, RuntimeError."""
        path = unwritten.path if unwritten else find_config(config, self._env)
        if path is not None:
            values, problems = parse_toml(unwritten.text, str(path)) if unwritten else read_toml(path)
            self.problems += problems
            self._found |= {name: (value, str(path)) for name, value in values.items()}
        self._found |= self._environment()
        self._found |= {name: (value, "command line") for name, value in flags.items() if value not in (None, "")}
        self._expand_folders()
        header = self._refgenie_yaml()
        servers, _ = header.pop("servers", ((), ""))
        defaults = {name: (place, "default") for name, place in default_places(self._env).items()}
        for name, found in (*header.items(), *defaults.items()):
            if not self._value(name):
                self._found[name] = found
        origins = {name: self._origin(name) for name in SETTINGS}
        return msgspec.structs.replace(self._settings(), path=str(path or ""), servers=servers, origins=origins)

    def _value(self, name: str) -> Any:
        return self._found.get(name, (None, ""))[0]

    def _origin(self, name: str) -> str:
        return self._found.get(name, (None, "default"))[1]

    def _problem(self, message: str, hint: str = "") -> None:
        self.problems.append(ConfigError(message, hint=hint))

    # ----------------------------------------------------------------- the sources

    def _environment(self) -> _Found:
        found: _Found = {}
        home = self._env.get("REFGENIE_HOME_PATH")
        if home:
            for key, folder in (("genome_folder", "genomes"), ("genome_archive_folder", "archives")):
                found[f"refgenie.{key}"] = (str(Path(home) / folder), "environment REFGENIE_HOME_PATH")
        for variable, name in ENVIRONMENT.items():
            if not self._env.get(variable):
                continue
            value = self._env[variable].lower() if name == "log.level" else self._env[variable]
            other, by = found.get(name, (value, ""))
            if other != value and by != "environment REFGENIE_HOME_PATH":
                older = by.removeprefix("environment ")
                self._problem(
                    f"{older} and {variable} name different folders: {other} and {value}",
                    "they are the older and the newer name of one setting: unset one",
                )
            found[name] = (value, f"environment {variable}")
        return found

    def _refgenie_yaml(self) -> _Found:
        """The settings in refgenie's own YAML: genome folder, archive folder, servers."""
        named, folder = self._value("refgenie.genome_config"), self._value("refgenie.genome_folder")
        path = Path(named) if named else Path(folder) / CONFIG_NAME if folder else None
        if path is None or not (named or os.path.isfile(path)):  # the daemon itself reports a file that it may not read
            return {}
        try:
            header = read_header(str(path))
        except ConfigError as error:
            if not folder:  # with a genome folder the daemon starts, reports this, and reads the file at each look
                self._problem(f"{error.message} (named by {self._origin('refgenie.genome_config')})", error.hint)
            return {}
        return {name: (value, f"refgenie's {path}") for name, value in header.items() if value}

    def _expand_folders(self) -> None:
        """Write each path in full. A path that is wrong is left out."""
        for name in FOLDERS:
            value, origin = self._found.get(name, ("", ""))
            if value and isinstance(value, str):
                try:
                    self._found[name] = self._path(name, value, origin), origin
                except ConfigError as error:
                    self.problems.append(error)
                    self._found[name] = "", origin

    def _path(self, name: str, value: str, origin: str) -> str:
        """`~`, `$NAME` and `$$` (a dollar) are replaced; a relative path has no meaning for a daemon. ConfigError."""
        full = os.path.expanduser(value)
        if origin != "command line":  # on the command line the shell has done this
            try:
                full = with_variables(name, full, self._env)
            except ValueError as error:
                raise ConfigError(str(error), hint="`$$` stands for a dollar") from None
        if "\0" in full:
            raise ConfigError(f"{name} (from {origin}) has a NUL in it, which no path has")
        if not os.path.isabs(full) and not origin.startswith(("command line", "environment")):
            raise ConfigError(f"{name} = {value!r} (from {origin}) must be an absolute path")
        return os.path.normpath(os.path.abspath(full))

    def _settings(self) -> Settings:
        tree: dict[str, dict[str, Any]] = {}
        for name, row in SETTINGS.items():
            if name in self._found:
                value, origin = self._found[name]
                problem = wrong({row.section: {row.key: value}}, origin)
                if problem is None:
                    tree.setdefault(row.section, {})[row.key] = value
                else:
                    self.problems.append(problem)
        return msgspec.convert(tree, Settings)

    # ----------------------------------------------------------------- all sources together

    def check(self, settings: Settings, *, genomes_needed: bool) -> None:
        """Look for values that are wrong only in combination with others."""
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
        self.problems += map(ConfigError, clashes(settings))
        if settings.watch.settle_max_seconds < settings.watch.settle_seconds:
            self._problem("watch.settle_max_seconds must not be less than watch.settle_seconds")
