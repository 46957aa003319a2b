"""The texts of the units: the templates of `systemd/`, filled in with the real paths of a configuration."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from refgenied.config.settings import Settings
from refgenied.model import ConfigError

HOMES = ("/home", "/root", "/run/user")
"""The folders that ProtectHome= hides."""
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 (not used: hidden)
"""The folders that PrivateTmp= hides."""
SYSTEM_STATE = "/var/lib/refgenied"
"""The folder of StateDirectory=refgenied. The database is in it unless the configuration names another folder."""
SERVING_STATE = "/var/lib/refgenied-serve"
"""The folder of StateDirectory=refgenied-serve, the same for the server."""

NOT_OURS = (
    *("/", "/run", "/var/run", "/var", "/var/lib", "/var/cache", "/var/log", "/etc", "/usr", "/opt", "/srv"),
    *("/boot", "/bin", "/sbin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/local", "/dev", "/proc", "/sys"),
    *HOMES,
    *TEMPORARY,
)
"""Folders that the daemon's user never gets as its own: not for its socket, its state or the archives."""

SYSUSERS = "etc/sysusers.d/refgenied.conf"
TMPFILES = "etc/tmpfiles.d/refgenied.conf"
SYSTEM_FILES = {
    "etc/systemd/system/refgenied.service": "refgenied.service",
    "etc/systemd/system/refgenied.socket": "refgenied.socket",
    "etc/systemd/system/refgenied-serve.service": "refgenied-serve.service",
    SYSUSERS: "refgenied.sysusers",
    TMPFILES: "refgenied.tmpfiles",
}
"""Path below the root → the template of the file there, for the machine's systemd."""
USER_FILES = {".config/systemd/user/refgenied.service": "refgenied.user.service"}
"""The same below the home folder, for one person's systemd."""

_PLACE = re.compile(r"@([A-Z_]+)@")
_NOT_PLAIN = re.compile(r"[\s\"'\\;]")


def template(name: str) -> str:
    """A file of `systemd/`: inside this package in a wheel, beside the package in a checkout."""
    package = Path(__file__).parents[1]
    places = (package / "systemd/templates" / name, package.parent / "systemd" / name)
    found = next(path for path in places if path.is_file())
    return found.read_text(encoding="utf-8")


def system_units(settings: Settings) -> dict[str, str]:
    """Path below the root → text, for the machine's systemd. ConfigError: a unit cannot express a setting."""
    if str(Path(settings.control.socket).parent) in NOT_OURS:
        raise ConfigError(
            f"control.socket: {settings.control.socket} must lie in a folder of its own", hint="/run/refgenied, say"
        )
    if _NOT_PLAIN.search(settings.control.socket) or "$" in settings.control.socket:
        raise ConfigError(
            f"control.socket: {settings.control.socket} has a character that a socket unit cannot express",
            hint="choose a path without blanks, quotes, semicolons, backslashes and dollars",
        )
    places = _places(settings)
    serving = places | _sandbox(settings, _readable(settings, archive=True), [serving_state(settings)])
    return {path: fill(template(name), serving if "-serve" in name else places) for path, name in SYSTEM_FILES.items()}


def serving_state(settings: Settings) -> str:
    """The folder for the downloads that the server's unit has counted: systemd's folder, or the configured folder."""
    named = settings.origins.get("serving.state_folder", "default") == settings.path
    return settings.serving.state_folder if named else SERVING_STATE


def user_units(settings: Settings) -> dict[str, str]:
    """Path below the home folder → text, for one person's systemd."""
    return {path: fill(template(name), _commands(settings)) for path, name in USER_FILES.items()}


def fill(text: str, places: dict[str, str]) -> str:
    """Replace each `@NAME@` by its value; leave out a setting that gets an empty value."""
    lines: list[str] = []
    for line in text.splitlines():
        filled = _PLACE.sub(lambda found: places.get(found[1], found[0]), line)
        if filled == line or not filled.endswith("="):
            lines.append(filled.rstrip())
    return "\n".join(lines) + "\n"


def _places(settings: Settings) -> dict[str, str]:
    refgenie = settings.refgenie
    socket_folder = str(Path(settings.control.socket).parent)
    folders = [refgenie.genome_folder, refgenie.genome_archive_folder, refgenie.genome_config]
    writable = [refgenie.genome_archive_folder, settings.state.folder, socket_folder]
    return (
        _commands(settings)
        | _sandbox(settings, _readable(settings, archive=False), [path for path in writable if path])
        | {
            "GROUP": settings.control.group,
            "SOCKET_FOLDER": socket_folder.replace("%", "%%"),
            "MOUNTS": " ".join(mount_units(with_targets(path for path in folders if path))),
        }
    )


def _commands(settings: Settings) -> dict[str, str]:
    return {
        "REFGENIED": _command("refgenied", "refgenied"),
        "REFGENIECTL": _command("refgeniectl", "refgenied.client"),
        "CONFIG": argument(settings.path),
        "SOCKET": argument(settings.control.socket),
    }


def _command(name: str, module: str) -> str:
    script = Path(sys.prefix) / "bin" / name
    return argument(str(script)) if script.is_file() else f"{argument(sys.executable)} -m {module}"


def _readable(settings: Settings, *, archive: bool) -> list[str]:
    refgenie = settings.refgenie
    found = [refgenie.genome_folder, refgenie.genome_archive_folder if archive else ""]
    if refgenie.genome_config and not _below(refgenie.genome_config, [refgenie.genome_folder]):
        # The folder is bound and not the file: when refgenie replaces a bound file, the sandbox still has the old one.
        found.append(str(Path(refgenie.genome_config).parent))
    return [path for path in found if path]


def _sandbox(settings: Settings, read_only: Sequence[str], read_write: Sequence[str]) -> dict[str, str]:
    """Folders that the sandbox hides by itself (homes, /tmp) are bound into it. Each may be missing at the start."""
    read_only, read_write = with_targets(read_only), with_targets(read_write)
    seen = [*read_only, *with_targets([str(Path(settings.path).parent)]), *_own_code()]
    hidden = [*HOMES, *TEMPORARY]
    in_homes = any(_below(path, HOMES) for path in (*seen, *read_write))
    return {
        "READ_ONLY": _list(path for path in read_only if not _below(path, hidden)),
        "READ_WRITE": _list(path for path in read_write if not _below(path, [*hidden, SYSTEM_STATE, SERVING_STATE])),
        "BIND_READ_ONLY": _list(path for path in seen if _below(path, hidden)),
        "BIND_READ_WRITE": _list(path for path in read_write if _below(path, hidden)),
        "PROTECT_HOME": "tmpfs" if in_homes else "yes",
    }


def with_targets(paths: Iterable[str]) -> list[str]:
    """These paths, and the targets of links. In a sandbox that hides homes, a link into a home is broken."""
    return list(dict.fromkeys(name for path in paths for name in (path, os.path.realpath(path))))


def _own_code() -> list[str]:
    """The paths of the interpreter and this package. The daemon cannot start if the sandbox hides them."""
    own = (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]))
    return list(dict.fromkeys(own))


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _list(paths: Iterable[str]) -> str:
    return " ".join(quoted(f"-{path}") for path in dict.fromkeys(paths))


def quoted(text: str) -> str:
    """A word for a list in a unit file, quoted if systemd would split it (systemd.syntax(7))."""
    if "\n" in text:
        raise ConfigError(f"{text!r}: a path with a line break cannot stand in a unit")
    text = text.replace("%", "%%")
    if not _NOT_PLAIN.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def argument(text: str) -> str:
    """The same for a command line, where `$` begins a variable."""
    return quoted(text).replace("$", "$$")


def mount_units(paths: Iterable[str]) -> list[str]:
    """The names of the mount units that may hold these paths: for each folder, and for each folder above it."""
    folders = {str(folder) for path in paths for folder in (Path(path), *Path(path).parents)} - {"/"}
    return [f"{escaped(folder)}.mount" for folder in sorted(folders)]


def escaped(path: str) -> str:
    """A path as `systemd-escape --path` writes it."""
    plain = path.strip("/")
    kept = re.compile(r"[A-Za-z0-9:_.]")
    return "".join(
        "-" if char == "/" else char if kept.match(char) and not (place == 0 and char == ".") else _hex(char)
        for place, char in enumerate(plain)
    )


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", errors="surrogateescape"))
