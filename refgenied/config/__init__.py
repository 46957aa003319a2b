"""The settings: what they are (`settings`), how they are read (`load`) and written (`write`)."""

from refgenied.config.load import SYSTEM_CONFIG, SYSTEM_SOCKET, find_config, load, user_config
from refgenied.config.settings import (
    FOLDERS,
    Archive,
    Control,
    Current,
    Log,
    Serving,
    Settings,
    changed_fixed,
    keeping_fixed,
)
from refgenied.config.write import as_toml, effective, init, render

__all__ = [
    "FOLDERS",
    "SYSTEM_CONFIG",
    "SYSTEM_SOCKET",
    "Archive",
    "Control",
    "Current",
    "Log",
    "Serving",
    "Settings",
    "as_toml",
    "changed_fixed",
    "effective",
    "find_config",
    "init",
    "keeping_fixed",
    "load",
    "render",
    "user_config",
]
