"""Every setting, with its default, its bounds and the sentence that `config.example.toml` shows."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta

PATH = "path"
"""The setting is a path: it is made absolute, and a change needs a restart."""
RESTART = "restart"
"""A reload cannot change the setting. A change needs a restart."""

PathText = Annotated[str, PATH]
PositiveSeconds = Annotated[float, Meta(gt=0, le=31_536_000)]
Count = Annotated[int, Meta(ge=1, le=100_000)]

# After the type, each `Annotated` may have bounds, RESTART, and `$NAME` for each environment variable that gives the
# setting (a later one wins). The sentence for people is the last.


class Refgenie(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where refgenie keeps its genomes, in refgenie's own words."""

    genome_folder: Annotated[
        PathText, "$REFGENIE_GENOME_FOLDER", "refgenie's genome folder; refgenied only reads it"
    ] = ""
    genome_config: Annotated[
        PathText,
        "$REFGENIE",
        "the YAML file of refgenie 0.12/0.13; empty: genome_config.yaml in the genome folder if it is there, "
        "otherwise the folder is read as one of refgenie 1",
    ] = ""
    genome_archive_folder: Annotated[
        PathText,
        "$REFGENIE_GENOME_ARCHIVE_FOLDER",
        "$REFGENIE_GENOME_STAGE_FOLDER",
        "where archives go; empty: nothing is archived, the daemon only reports what it sees",
    ] = ""


class Archive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which assets are archived automatically, and how."""

    automatic: Annotated[bool, "archive each built asset as soon as it is complete"] = True
    existing: Annotated[bool, "also archive assets that were built before the first start, after newer ones"] = True
    pulled: Annotated[bool, "also archive assets that were downloaded with `refgenie pull`"] = False
    added: Annotated[bool, "also archive assets that were registered with `refgenie add`"] = False
    include: Annotated[
        tuple[str, ...],
        "registry paths of the assets to archive automatically; * and ? match, and the genome may be an alias or a "
        "digest",
    ] = ("*/*",)
    exclude: Annotated[
        tuple[str, ...],
        'registry paths of the assets not to archive, such as ["test*/*", "*/fasta:draft"]; stronger than include',
    ] = ()
    compression: Annotated[
        Literal["fast", "balanced", "small"],
        "balanced: the size that pigz reaches, in a small part of its time; fast: up to a tenth larger, in the "
        "shortest time; small: the smallest size that is possible in the time of pigz",
    ] = "balanced"
    publish_private: Annotated[
        bool,
        "true: also serve assets with files or folders that only their owner may read, and let everyone read their "
        "archives; false: only the daemon's user can read such archives",
    ] = False
    threads: Annotated[int, Meta(ge=0, le=256), "threads that compress; 0: one for each core"] = 0
    attempts: Annotated[
        int,
        Meta(ge=1, le=20),
        "has no effect since 0.2: after an error that may go away, a job is tried again until it succeeds",
    ] = 3
    retry_seconds: Annotated[
        PositiveSeconds, "how long to wait before the second attempt; doubles with each attempt, up to an hour"
    ] = 30.0
    scrub_days: Annotated[
        float,
        Meta(ge=0, le=3650),
        "every archive is read back and checked once in this many days, a part of them each day; 0: never",
    ] = 30.0


class Watching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the daemon looks at the genome folder."""

    enabled: Annotated[bool, "use the kernel's change notices as hints (regular looks happen in any case)"] = True
    most_folders: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        "watch at most this many folders (refgenie 1 has some for each genome); regular looks find what is new in the "
        "others; each takes a watch of fs.inotify.max_user_watches and 1 KiB of the kernel's memory",
    ] = 8192
    sweep_seconds: Annotated[
        PositiveSeconds, "look at the whole genome folder once in this many seconds; choose less on a network disk"
    ] = 600.0
    sweep_jitter: Annotated[float, Meta(ge=0, le=0.9), "each sweep comes earlier or later by up to this share"] = 0.25
    settle_seconds: Annotated[PositiveSeconds, "after a hint, wait until nothing has changed for this long"] = 1.0
    settle_max_seconds: Annotated[PositiveSeconds, "but look after this long, even when changes go on"] = 10.0
    interrupted_seconds: Annotated[
        PositiveSeconds, RESTART, "a build in which nothing has changed for this long counts as interrupted"
    ] = 1800.0


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Unix socket that refgeniectl talks to."""

    socket: Annotated[
        PathText,
        "$REFGENIED_SOCKET",
        "empty: $XDG_RUNTIME_DIR/refgenied/control.sock, else /run/refgenied/control.sock",
    ] = ""
    group: Annotated[str, "members of this group may give orders, like root and the daemon's own user"] = "refgenie"
    download_users: Annotated[
        tuple[str, ...],
        "users that may look and report downloads, and may give no other order, even when they are in the group: the "
        'user that `refgenied serve` runs as, such as ["refgenied-serve"]',
    ] = ()
    max_connections: Annotated[Count, "how many connections may be open at one time (root has no limit)"] = 64
    max_connections_per_user: Annotated[Count, "how many of them may belong to one user"] = 32
    first_line_seconds: Annotated[PositiveSeconds, "a connection that asks nothing for this long is closed"] = 10.0


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What refgenieserver needs in the archive folder, and how `refgenied serve` serves it."""

    enabled: Annotated[bool, "keep genome_config.yaml and refgenieserver's file names in the archive folder"] = True
    remotes: Annotated[
        dict[str, str],
        "other places where the archive folder can be downloaded; the server then sends clients there: "
        '{ http = "https://example.org/archives" }',
    ] = {}
    files: Annotated[
        bool,
        "put links to the files of each asset in the genome folder beside its archive, so that the server's file "
        "paths lead to real files",
    ] = False
    host: Annotated[str, "the address that `refgenied serve` listens on; 0.0.0.0: all"] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), "the port that it listens on; 0: any free port"] = 8080
    state_folder: Annotated[
        PathText,
        "where `refgenied serve` keeps downloads that the daemon has not recorded yet; empty: "
        "$STATE_DIRECTORY under systemd, else $XDG_STATE_HOME/refgenied-serve, else ~/.local/state/refgenied-serve",
    ] = ""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the daemon keeps its own database."""

    folder: Annotated[
        PathText,
        "on a local disk; empty: $STATE_DIRECTORY under systemd, else $XDG_STATE_HOME/refgenied, else "
        "~/.local/state/refgenied",
    ] = ""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the daemon writes to stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], "$REFGENIE_LOG_LEVEL", "debug, info, warning or error"
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"], RESTART, "auto (text on a terminal, JSON lines otherwise), text or json"
    ] = "auto"


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `config.toml`, section by section."""

    refgenie: Refgenie = Refgenie()
    archive: Archive = Archive()
    watch: Watching = Watching()
    control: Control = Control()
    serving: Serving = Serving()
    state: State = State()
    log: Log = Log()


class Settings(File, frozen=True, forbid_unknown_fields=True):
    """The effective settings. Paths are absolute. A path may be empty only if the command does not need it, or if it is
    `genome_archive_folder`.
    """

    path: str = ""
    """The configuration file that was read; empty when there was none."""
    servers: tuple[str, ...] = ()
    """refgenie's `genome_servers`, for `config get`."""
    origins: dict[str, str] = {}
    """`section.key` → where its value came from."""


class SettingRow(NamedTuple):
    """One row of the table of settings."""

    section: str
    key: str
    default: Any
    sentence: str
    traits: tuple[object, ...]
    """PATH, RESTART and environment variables."""


def _rows() -> Iterator[SettingRow]:
    for section, table in get_type_hints(File).items():
        hints, defaults = get_type_hints(table, include_extras=True), table()
        for key in table.__struct_fields__:
            *traits, sentence = hints[key].__metadata__
            yield SettingRow(section, key, getattr(defaults, key), sentence, tuple(traits))


SETTINGS = {f"{row.section}.{row.key}": row for row in _rows()}
"""Every setting by its `section.key`, in the order of the file."""

FOLDERS = tuple(name for name, row in SETTINGS.items() if PATH in row.traits)
"""Settings that are paths of folders or files."""
FIXED = tuple(name for name, row in SETTINGS.items() if {PATH, RESTART} & {*row.traits})
"""Settings that need a restart."""
ENVIRONMENT = {
    trait[1:]: name
    for name, row in SETTINGS.items()
    for trait in row.traits
    if isinstance(trait, str) and trait.startswith("$")
}
"""Environment variables, and the setting that each gives. `REFGENIE_HOME_PATH` gives two: see `load`."""


def get(settings: File, name: str) -> Any:
    """One setting by its `section.key`."""
    row = SETTINGS[name]
    return getattr(getattr(settings, row.section), row.key)


def changed_fixed(old: Settings, new: Settings) -> list[str]:
    """The settings that differ and need a restart."""
    return [name for name in FIXED if get(old, name) != get(new, name)]


def keeping_fixed(old: Settings, new: Settings) -> Settings:
    """The new settings, but with the old values for the settings that a reload cannot change."""
    for name in FIXED:
        row = SETTINGS[name]
        section = msgspec.structs.replace(getattr(new, row.section), **{row.key: get(old, name)})
        new = msgspec.structs.replace(new, **{row.section: section})
    return new


class Current:
    """The settings in force. A reload replaces them, so all code reads them here when it needs them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
