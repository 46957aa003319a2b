"""Handles a daemon that is silent, or that goes away and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

from refgenied.client import Client, ClientError, HungUpError, NoDaemonError
from refgenied.shared import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from refgenied.client.session import Session

    T = TypeVar("T")

SILENCE_TOLD_SECONDS = 3.0
"""After this long without an answer, a person is told."""
SILENCE_SECONDS = 120.0
"""After this long without an answer, the daemon counts as gone. systemd's watchdog needs 70 s to end a hanging one."""
PROBE_SECONDS = 1.0
"""A daemon that works answers a simple question within this time."""
RESTART_SECONDS = 60.0
"""A daemon that went away may take this long to come back."""
RETRY_SECONDS = 0.5
"""Seconds between two attempts to connect again."""


class Silence:
    """An `on_silence` for `Client`. It is needed because systemd also accepts connections for a daemon that does not
    start, and then nobody answers.

    It returns True when the daemon works, and only the answer takes long.
    """

    def __init__(self, socket: str | None, *, deadline: float | None = None) -> None:
        self._socket = socket
        self._deadline = deadline
        self._began = time.monotonic()
        self._told = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline + PROBE_SECONDS:  # the daemon answers at the deadline
            raise NoDaemonError("the daemon does not answer")
        if now < self._began + SILENCE_TOLD_SECONDS:
            return False
        if self._daemon_works():
            return True
        if now >= self._began + SILENCE_SECONDS:
            raise NoDaemonError(
                f"the daemon has not answered for {SILENCE_SECONDS:.0f} s: it does not start, or hangs",
                "`systemctl status refgenied` and `journalctl -u refgenied` say why",
            )
        if not self._told:
            self._told = True
            output.note("refgeniectl", "the daemon does not answer yet; waiting until it has started")
        return False

    def _daemon_works(self) -> bool:
        try:
            with Client.connect(self._socket, timeout=PROBE_SECONDS) as other:
                other.call("config.get")  # this needs neither disk nor database
        except ClientError:
            return False
        return True


def reached(socket: str | None, *, deadline: float | None = None) -> Client:
    """Connect as `Client.connect`, but do not wait for ever for a silent daemon."""
    client = Client.connect(socket)
    client.on_silence = Silence(socket, deadline=deadline)
    return client


class Lasting:
    """Sends requests that may be sent twice. If the daemon stops before the answer, it connects and sends again."""

    def __init__(self, session: Session, *, deadline: float | None = None) -> None:
        self._session = session
        self._deadline = deadline
        self._away_since: float | None = None
        session.client.on_silence = Silence(session.socket, deadline=deadline)

    def ask(self, question: Callable[[Client], T]) -> T:
        """The answer. HungUpError, NoDaemonError: the daemon does not come back (before the deadline)."""
        while True:
            try:
                answer = question(self._session.client)
            except ClientError as error:
                if error.kind not in ("hung_up", "shutting_down"):
                    raise
                self._connect_again(error)
            else:
                self._away_since = None
                return answer

    def _connect_again(self, why: ClientError) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            output.note("refgeniectl", "the daemon went away; waiting until it is back")
        latest = self._away_since + RESTART_SECONDS
        if self._deadline is not None:
            latest = min(latest, self._deadline)
        while time.monotonic() < latest:
            time.sleep(RETRY_SECONDS)
            try:
                self._session.replace_client(reached(self._session.socket, deadline=self._deadline))
            except NoDaemonError:
                continue
            return
        raise HungUpError("the daemon went away and did not come back", "its log says why") from why
