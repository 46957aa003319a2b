"""Where things are unless a setting says otherwise: the configuration file, the socket, the state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from refgenied.model import ConfigError

SYSTEM_CONFIG = Path("/etc/refgenied/config.toml")
SYSTEM_SOCKET = Path("/run/refgenied/control.sock")
LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path."""


def home(env: Mapping[str, str]) -> Path | None:
    """The user's home folder; None without one, as in a container that runs under a bare number."""
    if env.get("HOME"):
        return Path(env["HOME"])
    try:
        return Path.home()
    except RuntimeError:
        return None


def user_config(env: Mapping[str, str]) -> Path | None:
    """None when this user has no place for one."""
    return _below_home(env, "XDG_CONFIG_HOME", ".config", "refgenied/config.toml")


def _below_home(env: Mapping[str, str], variable: str, usual: str, name: str) -> Path | None:
    if env.get(variable):
        return Path(env[variable]) / name
    folder = home(env)
    return folder / usual / name if folder else None


def find_config(flag: str | None, env: Mapping[str, str]) -> Path | None:
    """The configuration file to read: `--config`, `$REFGENIED_CONFIG`, the user's, the system's.

    Raises ConfigError when one was named and is not there. Something else than a file under such a name is found, too:
    reading it says what it is, and a person's settings are never passed over in silence.
    """
    for named, by in ((flag, "--config"), (env.get("REFGENIED_CONFIG"), "REFGENIED_CONFIG")):
        if named:
            path = Path(named).expanduser().absolute()
            if not os.path.lexists(path):
                raise ConfigError(f"{path} (from {by}) is not there", hint="refgenied init --config FILE writes one")
            return path
    return next((path for path in (user_config(env), SYSTEM_CONFIG) if path and os.path.lexists(path)), None)


def default_socket(env: Mapping[str, str]) -> Path:
    runtime = env.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "refgenied/control.sock" if runtime else SYSTEM_SOCKET


def default_state(env: Mapping[str, str]) -> Path | None:
    return _state(env, "refgenied")


def default_serving_state(env: Mapping[str, str]) -> Path | None:
    """`$STATE_DIRECTORY` is of the unit that asks: the daemon and the server have one each."""
    return _state(env, "refgenied-serve")


def _state(env: Mapping[str, str], name: str) -> Path | None:
    given = env.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    return _below_home(env, "XDG_STATE_HOME", ".local/state", name)


def may_make(path: Path) -> str:
    """Why this process cannot make (or use) a folder there; empty when it can. Makes nothing."""
    nearest = path
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        what = "is not writable" if nearest == path else f"cannot be made: {nearest} is not writable"
        return f"{path} {what} for {_who()}"
    return ""


def may_read(folder: Path) -> str:
    """Why this process cannot read a folder; empty when it can."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError as error:
        return f"{folder} cannot be read by {_who()}: {error.strerror}"
    return ""


def _who() -> str:
    import pwd  # noqa: PLC0415

    try:
        return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"the user {os.geteuid()}"
