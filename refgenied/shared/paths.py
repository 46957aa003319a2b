"""Paths that both commands know, and how a path in a configuration is written. Only the standard library."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

SYSTEM_CONFIG = "/etc/refgenied/config.toml"
SYSTEM_SOCKET = "/run/refgenied/control.sock"
MAX_CONFIG_BYTES = 1 << 20
"""The most bytes of our configuration file."""


def with_variables(setting: str, text: str, env: Mapping[str, str]) -> str:
    """The text with `$NAME` and `${NAME}` replaced by variables, and `$$` by a dollar.

    ValueError: a variable is not set; the error names the setting and the variable.
    """
    import re  # noqa: PLC0415 - the client must start quickly

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name and name not in env:
            raise ValueError(f"{setting}: the environment variable {name} is not set")
        return env[name] if name else "$"

    return re.sub(r"\$(?:\{(\w+)\}|(\w+)|\$)", value, text)
