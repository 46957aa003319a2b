"""Every setting, with its default, its bounds and the sentence that `config.example.toml` shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

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
    ] = ("*/*",)
    exclude: Annotated[
        tuple[str, ...],
        Meta(description='and those not to: e.g. ["test*/*", "*/fasta:draft"]; wins over include'),
    ] = ()
    compression: Annotated[
        Literal["fast", "balanced", "small"],
        Meta(
            description="balanced: pigz's size in a small part of its time; fast: up to a tenth larger, in the least "
            "time; small: as small as it gets in pigz's time"
        ),
    ] = "balanced"
    publish_private: Annotated[
        bool,
        Meta(
            description="also serve assets in which some file or folder may be read by its owner alone, and let all "
            "read their archives; otherwise such archives can be read by the daemon's user only"
        ),
    ] = False
    threads: Annotated[int, Meta(ge=0, le=256, description="compressing threads; 0: one for each core")] = 0
    attempts: Annotated[
        int, Meta(ge=1, le=20, description="of no effect since 0.2: what may pass is tried again until it succeeds")
    ] = 3
    retry_seconds: Annotated[
        Seconds, Meta(description="wait before the second attempt; doubles each time, up to an hour")
    ] = 30.0
    scrub_days: Annotated[
        float,
        Meta(ge=0, le=3650, description="read every archive back once in so many days, a share each day; 0: never"),
    ] = 30.0


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
    download_users: Annotated[
        tuple[str, ...],
        Meta(
            description="users that may look and report downloads, and give no other order even as members of the "
            'group: the user that `refgenied serve` runs as, e.g. ["refgenied-serve"]'
        ),
    ] = ()
    max_connections: Annotated[Count, Meta(description="open connections at one time (root is not limited)")] = 64
    max_connections_per_user: Annotated[Count, Meta(description="and for each user")] = 32
    first_line_seconds: Annotated[
        Seconds, Meta(description="a connection that has asked nothing for so long is closed")
    ] = 10.0


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What refgenieserver needs in the archive folder, and how `refgenied serve` serves it."""

    enabled: Annotated[
        bool, Meta(description="keep genome_config.yaml and refgenieserver's file names in the archive folder")
    ] = True
    remotes: Annotated[
        dict[str, str],
        Meta(
            description="where else the archive folder can be downloaded from; the server then sends clients there: "
            '{ http = "https://example.org/archives" }'
        ),
    ] = {}
    files: Annotated[
        bool,
        Meta(
            description="link the files of each asset in the genome folder beside its archive, so that the server's "
            "file paths lead to real files"
        ),
    ] = False
    host: Annotated[str, Meta(description="address that `refgenied serve` listens on; 0.0.0.0: all")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="and its port; 0: any that is free")] = 8080
    state_folder: Annotated[
        str,
        Meta(
            description="where `refgenied serve` keeps downloads that the daemon has not recorded yet; empty: "
            "$STATE_DIRECTORY under systemd, else $XDG_STATE_HOME/refgenied-serve, else ~/.local/state/refgenied-serve"
        ),
    ] = ""


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
    serving: Serving = Serving()
    state: State = State()
    log: Log = Log()


class Settings(File, frozen=True, forbid_unknown_fields=True):
    """The effective settings. Paths are absolute; only `genome_archive_folder` may be empty, and what the command does
    not need.
    """

    path: str = ""
    """The configuration file that was read; empty when there was none."""
    servers: tuple[str, ...] = ()
    """refgenie's `genome_servers`, for `config get`."""
    origins: dict[str, str] = {}
    """`section.key` → where its value came from."""


FOLDERS = (
    "refgenie.genome_folder",
    "refgenie.genome_config",
    "refgenie.genome_archive_folder",
    "control.socket",
    "state.folder",
    "serving.state_folder",
)

FIXED = (*FOLDERS, "log.format", "watch.interrupted_seconds")
"""Settings that a reload cannot change: the daemon must be restarted."""


def sections() -> list[tuple[str, type[msgspec.Struct]]]:
    return [(name, kind) for name, kind in get_type_hints(File).items() if isinstance(kind, type)]


def get(settings: File, name: str) -> Any:
    """One setting by its `section.key`."""
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)


def changed_fixed(old: Settings, new: Settings) -> list[str]:
    """The settings that differ and need a restart."""
    return [key for key in FIXED if get(old, key) != get(new, key)]


def keeping_fixed(old: Settings, new: Settings) -> Settings:
    """The new settings, but the old values of those that a reload cannot change."""
    sections: dict[str, Any] = {}
    for name in FIXED:
        section, key = name.split(".")
        base = sections.get(section, getattr(new, section))
        sections[section] = msgspec.structs.replace(base, **{key: get(old, name)})
    return msgspec.structs.replace(new, **sections)


class Current:
    """The settings in force; a reload swaps them, and everybody asks here at the moment of use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
