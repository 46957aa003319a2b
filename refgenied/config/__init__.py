"""The settings: what they are (`settings`), how they are read (`load`, `toml`) and written (`write`, `creation`), where
things are by default (`places`), which places must not be one (`roles`), and which can be used (`checking`).
"""

from refgenied.config.checking import Finding, check_folders
from refgenied.config.creation import init
from refgenied.config.load import Examined, examine, load
from refgenied.config.places import LONGEST_SOCKET, SYSTEM_CONFIG, SYSTEM_SOCKET, find_config, home, user_config
from refgenied.config.roles import DATABASE, LOCK, MARKER, clashes
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
from refgenied.config.write import as_toml, effective, render

__all__ = [
    "DATABASE",
    "FOLDERS",
    "LOCK",
    "LONGEST_SOCKET",
    "MARKER",
    "SYSTEM_CONFIG",
    "SYSTEM_SOCKET",
    "Archive",
    "Control",
    "Current",
    "Examined",
    "Finding",
    "Log",
    "Serving",
    "Settings",
    "as_toml",
    "changed_fixed",
    "check_folders",
    "clashes",
    "effective",
    "examine",
    "find_config",
    "home",
    "init",
    "keeping_fixed",
    "load",
    "render",
    "user_config",
]
