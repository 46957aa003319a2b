"""Settings: flags over environment over TOML over refgenie's own YAML over defaults, as one frozen object.

An unknown key is an error. Every setting knows where it came from (`Settings.origins`). The comments of
`config.example.toml` are the descriptions below.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from refgenied.genomes.refgenconf import read_header
from refgenied.genomes.registry_path import check_pattern
from refgenied.model import ConfigError, RefgeniedError

Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
Count = Annotated[int, Meta(ge=1, le=100_000)]


class Refgenie(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where refgenie keeps its genomes, in refgenie's own words."""

    genome_folder: Annotated[str, Meta(description="refgenie's working tree; only ever read")] = ""
    genome_config: Annotated[
        str,
        Meta(
            description="the YAML of refgenie 0.12/0.13; empty: genome_config.yaml in the genome folder, if it is "
            "there, else the folder is read as refgenie 1's"
        ),
    ] = ""
    genome_archive_folder: Annotated[
        str, Meta(description="where archives go; empty: nothing is archived, the daemon only reports")
    ] = ""


class Archive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is archived by itself, and how."""

    automatic: Annotated[bool, Meta(description="archive built assets as soon as they are complete")] = True
    existing: Annotated[bool, Meta(description="also those built before the first start (after newer builds)")] = True
    pulled: Annotated[bool, Meta(description="also assets that were downloaded by `refgenie pull`")] = False
    added: Annotated[bool, Meta(description="also assets that were registered by `refgenie add`")] = False
    include: Annotated[
        tuple[str, ...],
        Meta(description="registry paths to archive by themselves; * and ? match, an alias or a digest may be used"),
    ] = ("*",)
    exclude: Annotated[
        tuple[str, ...],
        Meta(description='and those not to: e.g. ["test*/*", "*/fasta:draft"]; wins over include'),
    ] = ()
    threads: Annotated[int, Meta(ge=0, le=256, description="compressing threads; 0: one for each core")] = 0
    attempts: Annotated[int, Meta(ge=1, le=20, description="how often a job is tried before it counts as failed")] = 3
    retry_seconds: Annotated[Seconds, Meta(description="wait before the second attempt; doubles each time")] = 30.0


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the daemon looks at the genome folder."""

    enabled: Annotated[bool, Meta(description="take the kernel's change notices as hints (sweeps come anyhow)")] = True
    sweep_seconds: Annotated[
        Seconds, Meta(description="one full look each so many seconds; on a network disk lower it")
    ] = 600.0
    sweep_jitter: Annotated[
        float, Meta(ge=0, le=0.9, description="each sweep comes earlier or later by up to this share")
    ] = 0.25
    settle_seconds: Annotated[Seconds, Meta(description="after a hint, wait until it was quiet for so long")] = 1.0
    settle_max_seconds: Annotated[Seconds, Meta(description="but look after so long at the latest")] = 10.0
    interrupted_seconds: Annotated[
        Seconds, Meta(description="a build in which nothing has moved for so long counts as interrupted")
    ] = 1800.0


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Unix socket that refgeniectl talks to."""

    socket: Annotated[
        str,
        Meta(description="empty: $XDG_RUNTIME_DIR/refgenied/control.sock, else /run/refgenied/control.sock"),
    ] = ""
    group: Annotated[
        str, Meta(description="members of this group may give orders, like root and the daemon's own user")
    ] = "refgenie"
    max_connections: Annotated[Count, Meta(description="open connections at one time")] = 64
    max_connections_per_user: Annotated[Count, Meta(description="and for each user (root is not limited)")] = 32
    first_line_seconds: Annotated[
        Seconds, Meta(description="a connection that has asked nothing for so long is closed")
    ] = 10.0


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the daemon keeps its own database."""

    folder: Annotated[
        str,
        Meta(
            description="on a local disk; empty: $STATE_DIRECTORY under systemd, else "
            "$XDG_STATE_HOME/refgenied, else ~/.local/state/refgenied"
        ),
    ] = ""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the daemon writes to stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description="auto (text on a terminal, JSON lines otherwise), text or json"),
    ] = "auto"


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `config.toml`, section by section."""

    refgenie: Refgenie = Refgenie()
    archive: Archive = Archive()
    watch: Watch = Watch()
    control: Control = Control()
    state: State = State()
    log: Log = Log()


class Settings(File, frozen=True, forbid_unknown_fields=True):
    """The effective settings. Paths are absolute; only `genome_archive_folder` may be empty."""

    path: str = ""
    """The configuration file that was read; empty when there was none."""
    servers: tuple[str, ...] = ()
    """refgenie's `genome_servers`, for `config get`."""
    origins: dict[str, str] = {}
    """`section.key` → where its value came from."""


ENVIRONMENT = {
    "REFGENIE": "refgenie.genome_config",
    "REFGENIE_GENOME_FOLDER": "refgenie.genome_folder",
    "REFGENIE_GENOME_ARCHIVE_FOLDER": "refgenie.genome_archive_folder",
    "REFGENIE_GENOME_STAGE_FOLDER": "refgenie.genome_archive_folder",
    "REFGENIE_LOG_LEVEL": "log.level",
    "REFGENIED_SOCKET": "control.socket",
}
"""Environment variables and the setting each one gives. `REFGENIE_HOME_PATH` gives two: see `_environment`."""

_FOLDERS = (
    "refgenie.genome_folder",
    "refgenie.genome_config",
    "refgenie.genome_archive_folder",
    "control.socket",
    "state.folder",
)

FIXED = (*_FOLDERS, "log.format")
"""Settings that a reload cannot change: the daemon must be restarted."""


# --------------------------------------------------------------------------- places


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


# --------------------------------------------------------------------------- reading


def load(
    config: str | None = None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> Settings:
    """Read all sources and return the effective settings.

    `flags` maps `section.key` to a value from the command line. Raises ConfigError with one line that names
    the file or variable, the key and what to do.
    """
    env = os.environ if env is None else env
    path = find_config(config, env)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def put(layer: Mapping[str, tuple[Any, str]]) -> None:
        for key, (value, origin) in layer.items():
            values[key], origins[key] = value, origin

    put(_toml(path) if path else {})
    put(_environment(env))
    put({key: (value, "command line") for key, value in (flags or {}).items() if value not in (None, "")})
    _expand(values, origins, env)
    header = _refgenie_yaml(values, origins)
    put({key: found for key, found in header.items() if not values.get(key)})
    _expand(values, origins, env)
    put(
        {
            key: (str(value), "default")
            for key, value in (("control.socket", default_socket(env)), ("state.folder", default_state(env)))
            if not values.get(key)
        }
    )
    settings = _build(values, origins, path)
    _check(settings)
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
        raise ConfigError(f"{path}: {_plain(error)}", hint=_near(str(error))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return {f"{section}.{key}": (value, str(path)) for section, table in tree.items() for key, value in table.items()}


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec's message in the words of a TOML file: `$.archive.threads` is `archive.threads`."""
    return str(error).replace("Object contains", "there is an").replace("`$.", "`").replace(" - at `$`", "")


def _near(message: str) -> str:
    known = ", ".join(f"{section}.{key}" for section, table in _sections() for key in table.__struct_fields__)
    return f"the keys are: {known}" if "unknown field" in message else ""


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


def _refgenie_yaml(values: Mapping[str, Any], origins: dict[str, str]) -> dict[str, tuple[Any, str]]:
    """What refgenie's own YAML says: genome folder, archive folder, servers."""
    named = values.get("refgenie.genome_config")
    folder = values.get("refgenie.genome_folder")
    path = Path(named) if named else Path(folder) / "genome_config.yaml" if folder else None
    if path is None or not (named or path.is_file()):
        return {}
    try:
        header = read_header(str(path))
    except RefgeniedError as error:
        if folder:  # the daemon reports it, and reads it again at each look
            return {}
        origin = origins.get("refgenie.genome_config", "")
        raise ConfigError(f"{error.message} (named by {origin})", hint=error.hint) from None
    origin = f"refgenie's {path}"
    found: dict[str, tuple[Any, str]] = {"servers": (header.servers, origin)}
    if header.genome_folder:
        found["refgenie.genome_folder"] = (header.genome_folder, origin)
    if header.genome_archive_folder:
        found["refgenie.genome_archive_folder"] = (header.genome_archive_folder, origin)
    return found


def _expand(values: dict[str, Any], origins: Mapping[str, str], env: Mapping[str, str]) -> None:
    """`~` and `$NAME` in paths; a relative path has no meaning for a daemon."""
    for key in _FOLDERS:
        value = values.get(key)
        if not value or not isinstance(value, str):
            continue
        full = os.path.expanduser(value)
        for name in sorted(env, key=len, reverse=True):
            full = full.replace(f"${{{name}}}", env[name]).replace(f"${name}", env[name])
        if not os.path.isabs(full):
            if origins.get(key, "") == "command line" or origins.get(key, "").startswith("environment"):
                full = os.path.abspath(full)
            else:
                raise ConfigError(f"{key} = {value!r} (from {origins.get(key)}) must be an absolute path")
        values[key] = os.path.normpath(full)


def _build(values: Mapping[str, Any], origins: dict[str, str], path: Path | None) -> Settings:
    tree: dict[str, dict[str, Any]] = {}
    for section, table in _sections():
        for key in table.__struct_fields__:
            name = f"{section}.{key}"
            if name in values:
                tree.setdefault(section, {})[key] = values[name]
            origins.setdefault(name, "default")
    origins.pop("servers", None)
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        where = next((origin for key, origin in origins.items() if f"$.{key}" in str(error)), str(path or "settings"))
        raise ConfigError(f"{where}: {_plain(error)}") from None


def _check(settings: Settings) -> None:
    refgenie = settings.refgenie
    if not refgenie.genome_folder:
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
    for key in ("include", "exclude"):
        for pattern in getattr(settings.archive, key):
            try:
                check_pattern(pattern)
            except RefgeniedError as error:
                raise ConfigError(f"archive.{key}: {error.message}", hint=error.hint) from None
    if settings.watch.settle_max_seconds < settings.watch.settle_seconds:
        raise ConfigError("watch.settle_max_seconds must not be less than watch.settle_seconds")


def changed_fixed(old: Settings, new: Settings) -> list[str]:
    """The settings that differ and need a restart."""
    return [key for key in FIXED if _get(old, key) != _get(new, key)]


def _get(settings: File, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)


# --------------------------------------------------------------------------- writing


def _sections() -> list[tuple[str, type[msgspec.Struct]]]:
    return [(name, kind) for name, kind in get_type_hints(File).items() if isinstance(kind, type)]


def effective(settings: Settings) -> list[tuple[str, Any, str]]:
    """Every setting as (`section.key`, value, where it came from), in the order of the file."""
    return [
        (name, _get(settings, name), settings.origins.get(name, "default"))
        for section, table in _sections()
        for name in (f"{section}.{key}" for key in table.__struct_fields__)
    ]


def render(values: Mapping[str, Any] | None = None) -> str:
    """A commented `config.toml`: every key with its default and a sentence; keys in `values` are set."""
    values = values or {}
    lines = [
        "# The configuration of refgenied. Every key is shown with its default;",
        "# remove the '#' before one to change it. `refgenied check-config` shows what is in force.",
    ]
    for section, table in _sections():
        lines += ["", f"[{section}]", f"# {table.__doc__}"]
        hints = get_type_hints(table, include_extras=True)
        defaults = table()
        for key in table.__struct_fields__:
            name = f"{section}.{key}"
            lines += ["", *_comment(_description(hints[key]))]
            value = values.get(name, getattr(defaults, key))
            lines.append(f"{'' if name in values else '#'}{key} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _description(hint: Any) -> str:
    metas: tuple[Any, ...] = getattr(hint, "__metadata__", ())
    return next((meta.description for meta in metas if isinstance(meta, Meta) and meta.description), "")


def _comment(text: str) -> list[str]:
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > 100:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return [*lines, line]


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(part) for part in value) + "]"
    return repr(value)


class Current:
    """The settings in force; a reload swaps them, and everybody asks here at the moment of use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
