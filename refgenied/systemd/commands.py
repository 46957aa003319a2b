"""The commands `refgenied install-units` and `refgenied uninstall-units`."""

import os
from pathlib import Path

from refgenied.config.load import load
from refgenied.config.places import home, there
from refgenied.config.settings import Settings
from refgenied.model import ConfigError
from refgenied.shared import output
from refgenied.shared.paths import SYSTEM_CONFIG
from refgenied.systemd.install import Installation


def install(named: str | None, *, user: bool, prefix: str | None, dry_run: bool) -> None:
    """Write the units of a configuration, and say how to start them. ConfigError, WriteError."""
    settings = _settings(named, user=user)
    _installation(settings, user=user, prefix=prefix, dry_run=dry_run).install()
    if prefix is None:
        manager = "systemctl --user enable --now" if user else "systemctl enable --now refgenied.socket"
        output.say(f"start it with: {manager} refgenied.service")


def uninstall(named: str | None, *, user: bool, prefix: str | None, dry_run: bool) -> None:
    """Remove the units. WriteError."""
    try:
        settings = _settings(named, user=user)
    except ConfigError:
        settings = Settings()  # the units can be removed without their configuration
    _installation(settings, user=user, prefix=prefix, dry_run=dry_run).uninstall()


def _settings(named: str | None, *, user: bool) -> Settings:
    """The settings without the caller's environment, because a service does not see that environment."""
    if not user:
        return load(named or SYSTEM_CONFIG, env={"STATE_DIRECTORY": "/var/lib/refgenied"})
    own = ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
    return load(named, env={name: os.environ[name] for name in own if name in os.environ})


def _installation(settings: Settings, *, user: bool, prefix: str | None, dry_run: bool) -> Installation:
    root = there(home(os.environ), "HOME") if user else Path(prefix or "/").absolute()
    return Installation(settings=settings, root=root, user=user, live=prefix is None, dry_run=dry_run, say=output.say)
