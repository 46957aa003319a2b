"""The commands `refgenied init` and `refgenied check-config`."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refgenied.config.checking import check_folders
from refgenied.config.creation import init
from refgenied.config.load import examine
from refgenied.config.places import there, user_config
from refgenied.config.settings import Settings
from refgenied.config.write import as_toml, effective
from refgenied.shared import output
from refgenied.shared.paths import SYSTEM_CONFIG


def write_first(config: str | None, flags: Mapping[str, Any], *, force: bool) -> None:
    """`refgenied init`: write a configuration, and print the chosen settings and the new files. ConfigError."""
    if config:
        target = Path(config).absolute()
    elif os.geteuid() == 0:
        target = Path(SYSTEM_CONFIG)
    else:
        target = there(user_config(os.environ), "--config FILE")
    created = init(target, flags, force=force)
    for setting, value, why in created.chosen:
        output.say(f"set {setting} = {value} ({why})")
    for folder in created.made:
        output.say(f"made {folder}")
    if created.kept:
        output.say(f"kept what was there as {created.kept}")
    output.say(f"wrote {target}")
    if config:
        output.say(f"start the daemon with: refgenied run --config {target}")
        output.say(f"refgeniectl finds it with: export REFGENIED_CONFIG={shlex.quote(str(target))}")
    else:
        output.say("start the daemon with: refgenied run")


def check(config: str | None, flags: Mapping[str, Any], *, as_json: bool) -> bool:
    """`refgenied check-config`: print the settings, the source of each, and all faults.

    Returns whether `refgenied run` would start.
    """
    settings, problems = examine(config, flags)
    refused = [f"{error.message} ({error.hint})" if error.hint else error.message for error in problems]
    notes: list[str] = []
    if settings.origins:
        _show(settings, as_json=as_json)
        for message, refuses in check_folders(settings):
            (refused if refuses else notes).append(message)
    for message in refused:
        output.complain("refgenied", message, kind="config")
    for message in notes:
        output.note("refgenied", message)
    return not refused


def _show(settings: Settings, *, as_json: bool) -> None:
    rows = effective(settings)
    if as_json:
        output.print_json({name: {"value": value, "origin": origin} for name, value, origin in rows}, indent=2)
        return
    output.say(f"configuration: {settings.path or 'none (flags, environment and defaults only)'}")
    width = max(len(name) for name, _, _ in rows)
    values = [as_toml(value) for _, value, _ in rows]
    space = min(48, max(map(len, values)))
    for (name, _, origin), value in zip(rows, values, strict=True):
        output.say(f"{name:<{width}}  {value:<{space}}  {origin}")
