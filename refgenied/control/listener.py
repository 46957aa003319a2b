"""The listening socket: systemd hands it over, or it is made here. At no moment may more people connect than allowed.

Everybody who may connect may read. A socket from systemd has the mode in its unit. A socket made here has mode 0660 and
the group `control.group`, if that group exists and the daemon may give the socket to it; else it has mode 0600, for the
daemon's own user and root. So a user outside the group gets no answer, unless the administrator's socket unit says
`SocketMode=0666`.
"""

import os
import socket
import stat
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from refgenied.config.places import LONGEST_SOCKET
from refgenied.config.settings import Control
from refgenied.control.peer import group_id
from refgenied.files.regular import identity
from refgenied.model import ConfigError, ConflictError

log = structlog.get_logger("control")

FIRST_INHERITED = 3
"""systemd's SD_LISTEN_FDS_START."""
BACKLOG = 128
REFUSED_CLIENT_SECONDS = 0.5
"""A client has this long to read why it is refused."""


@contextmanager
def listening(control: Control, env: MutableMapping[str, str] | None = None) -> Generator[socket.socket]:
    """The non-blocking socket that accepts clients. The caller must hold the lock against a second daemon already.

    ConfigError: the socket cannot be made there. ConflictError: another daemon answers on it.
    """
    inherited = _inherited(os.environ if env is None else env)
    if inherited is not None:
        with inherited:
            log.info("control.listening", socket=inherited.getsockname(), inherited=True)
            yield inherited
        return
    path = Path(control.socket)
    with _bound(path, control.group) as listener:
        ours = identity(path)
        log.info("control.listening", socket=str(path), mode=f"{stat.S_IMODE(os.stat(path).st_mode):04o}")
        try:
            yield listener
        finally:
            if identity(path) == ours:
                with suppress(OSError):
                    path.unlink()


def refuse_waiting(reply: bytes, env: MutableMapping[str, str] | None = None) -> None:
    """The daemon will not start: send `reply` to each client that waits at systemd's socket, if there is one.

    Otherwise the clients would wait for ever, and systemd would start the daemon again and again.
    """
    try:
        listener = _inherited(os.environ if env is None else env)
    except ConfigError:
        return
    if listener is None:
        return
    with listener, suppress(OSError):  # BlockingIOError: no more clients wait
        while True:
            waiting, _ = listener.accept()
            with waiting, suppress(OSError):
                waiting.settimeout(REFUSED_CLIENT_SECONDS)
                waiting.sendall(reply)
                waiting.shutdown(socket.SHUT_WR)
                while waiting.recv(65536):  # if bytes stay unread, the client loses the reply when we close
                    pass


def _inherited(env: MutableMapping[str, str]) -> socket.socket | None:
    """The first socket that systemd hands over, or None. Its variables are not passed on to children."""
    mine = env.get("LISTEN_PID") == str(os.getpid())
    number = env.get("LISTEN_FDS", "0")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        env.pop(name, None)
    if not mine or not number.isdecimal() or int(number) == 0:
        return None
    try:
        listener = socket.socket(fileno=FIRST_INHERITED)
    except OSError as error:
        raise ConfigError(f"systemd handed over no socket: {error}") from None
    accepting = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (listener.family, listener.type) != (socket.AF_UNIX, socket.SOCK_STREAM) or not accepting:
        listener.detach()
        raise ConfigError("systemd handed over another kind of socket", hint="the socket unit needs ListenStream=PATH")
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener


@contextmanager
def _bound(path: Path, group: str) -> Generator[socket.socket]:
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise ConfigError(
            f"control.socket: {path} is longer than {LONGEST_SOCKET} bytes, the most that a socket's path may have"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.setblocking(False)
        # Linux gives the socket's file the mode of the unbound socket, so it is private from its first moment.
        os.fchmod(listener.fileno(), 0o600)
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _clear_stale(path)
            listener.bind(str(path))
            listener.listen(BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"control.socket: {path} cannot be made: {error.strerror or error}",
                hint="set control.socket to a path in a folder that the daemon's user may write to",
            ) from None
        _open_to_group(path, group)
        yield listener


def _clear_stale(path: Path) -> None:
    """Remove the socket of a daemon that has ended. The socket of a running daemon, and any other file, stay."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"control.socket: {path} is there and is not a socket", hint="move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:  # the daemon is busy, or this user may not connect
            reason = error.strerror
        else:
            reason = "it answers"
    raise ConflictError(f"another daemon listens on {path} ({reason})", hint="stop it, or set another control.socket")


def _open_to_group(path: Path, group: str) -> None:
    gid = group_id(group)
    if gid is None:
        return
    try:
        if os.lstat(path).st_gid != gid:  # a sandbox may forbid the call itself
            os.chown(path, -1, gid)
    except OSError:
        log.info("control.private", group=group, reason="this user may not give the socket to the group")
        return
    path.chmod(0o660)
