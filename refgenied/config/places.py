"""The default places of the configuration file, the socket and the state."""

import os
from collections.abc import Mapping
from pathlib import Path

from refgenied.model import ConfigError
from refgenied.shared.paths import SYSTEM_CONFIG, SYSTEM_SOCKET

LONGEST_SOCKET = 107
"""The most bytes of a Unix socket's path."""


def home(env: Mapping[str, str]) -> Path | None:
    """The user's home folder; None when there is none (for example in a container whose user has only a number)."""
    if env.get("HOME"):
        return Path(env["HOME"])
    try:
        return Path.home()
    except RuntimeError:
        return None


def there(place: Path | None, instead: str) -> Path:
    """The place itself. ConfigError: it is None, because this user has no home folder."""
    if place is None:
        raise ConfigError("this user has no home folder (HOME is not set)", hint=f"name a place with {instead}")
    return place


def user_config(env: Mapping[str, str]) -> Path | None:
    """The user's configuration file; None without a home folder."""
    return _below_home(env, "XDG_CONFIG_HOME", ".config", "refgenied/config.toml")


def _below_home(env: Mapping[str, str], variable: str, usual: str, name: str) -> Path | None:
    if env.get(variable):
        return Path(env[variable]) / name
    folder = home(env)
    return folder / usual / name if folder else None


def find_config(flag: str | None, env: Mapping[str, str]) -> Path | None:
    """The configuration file to read: `--config`, `$REFGENIED_CONFIG`, the user's file, the system's file.

    ConfigError: a person named a file that does not exist. A path that is not a regular file is returned too: to read
    it gives an error, so no settings are silently ignored.
    """
    for named, by in ((flag, "--config"), (env.get("REFGENIED_CONFIG"), "REFGENIED_CONFIG")):
        if named:
            path = Path(named).expanduser().absolute()
            if not os.path.lexists(path):
                raise ConfigError(f"{path} (from {by}) is not there", hint="refgenied init --config FILE writes one")
            return path
    return next((path for path in (user_config(env), Path(SYSTEM_CONFIG)) if path and os.path.lexists(path)), None)


def default_places(env: Mapping[str, str]) -> dict[str, str]:
    """`section.key` → its default place; "" for a state folder without a home folder.

    `$STATE_DIRECTORY` belongs to the unit that runs: the daemon and the server have one each.
    """
    runtime, given = env.get("XDG_RUNTIME_DIR"), env.get("STATE_DIRECTORY")

    def state(name: str) -> str:
        folder = Path(given.split(":")[0]) if given else _below_home(env, "XDG_STATE_HOME", ".local/state", name)
        return str(folder or "")

    return {
        "control.socket": str(Path(runtime, "refgenied/control.sock") if runtime else SYSTEM_SOCKET),
        "state.folder": state("refgenied"),
        "serving.state_folder": state("refgenied-serve"),
    }
