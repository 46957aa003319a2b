"""Finds the daemon's socket: by its given name, in the daemon's configuration, or in the usual places.

The client does this at each start, so it must be quick. It uses only the standard library.
"""

from __future__ import annotations

import os
import stat

from refgenied.shared.paths import MAX_CONFIG_BYTES, SYSTEM_CONFIG, SYSTEM_SOCKET, with_variables

TYPE_CHECKING = False  # an import of `typing` takes a third of the time of an import of the client
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def socket_paths(
    named: str | None = None, env: Mapping[str, str] | None = None, system_config: str = SYSTEM_CONFIG
) -> tuple[list[str], list[str]]:
    """The paths to try in order, and one line for each configuration that could not be read.

    If `named` or `$REFGENIED_SOCKET` gives a socket, only this socket is tried. Otherwise the sockets in the
    configurations that the daemon would read are tried, and then the usual places.
    """
    env = os.environ if env is None else env
    given = named or env.get("REFGENIED_SOCKET")
    if given:
        return [given], []
    problems: list[str] = []
    runtime = env.get("XDG_RUNTIME_DIR")
    usual = [f"{runtime}/refgenied/control.sock"] if runtime else []
    chosen = env.get("REFGENIED_CONFIG")
    if chosen:
        paths = [*_configured(chosen, env, problems, required=True), *usual, SYSTEM_SOCKET]
    else:
        own = f"{env.get('XDG_CONFIG_HOME') or os.path.expanduser('~/.config')}/refgenied/config.toml"  # or no file
        paths = [*_configured(own, env, problems), *usual, *_configured(system_config, env, problems), SYSTEM_SOCKET]
    return list(dict.fromkeys(paths)), problems


def _configured(path: str, env: Mapping[str, str], problems: list[str], *, required: bool = False) -> Iterator[str]:
    """The socket in a configuration, if there is one."""
    try:
        text = _read(os.path.expanduser(path))
        import tomllib  # noqa: PLC0415 - only where there is a configuration

        socket = tomllib.loads(text).get("control", {}).get("socket", "")
        if socket:
            yield _expanded(socket, env)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        if required or not isinstance(error, FileNotFoundError):
            problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is not a regular file")
        return file.read(MAX_CONFIG_BYTES).decode("utf-8-sig")


def _expanded(path: str, env: Mapping[str, str]) -> str:
    """The path with `~`, `$NAME` and `$$` replaced, as the daemon does. ValueError: it cannot be a path."""
    full = with_variables("control.socket", os.path.expanduser(path), env)
    if "\0" in full or not os.path.isabs(full):
        raise ValueError("control.socket is not an absolute path")
    return full
