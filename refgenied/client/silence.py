"""A daemon that does not start: systemd accepts for it, so that a client would wait for ever and not know why."""

from __future__ import annotations

import time

from refgenied.client import Client, ClientError, NoDaemonError
from refgenied.shared import output

SHORT = 3.0
"""Seconds without a first word after which a person is told …"""
PATIENCE = 120.0
"""… and after which it counts as not there. The watchdog needs 70 of them to end one that hangs."""
ANSWER = 1.0
"""Seconds in which a daemon that lives answers a question that is answered at once."""


class Silence:
    """What `Client.on_silence` is: True when the daemon lives, and only the answer takes long."""

    def __init__(self, socket: str | None, *, deadline: float | None = None) -> None:
        self.deadline = deadline
        self._socket = socket
        self._began = time.monotonic()
        self._told = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline + ANSWER:  # the daemon's own answer comes at the deadline
            raise NoDaemonError("the daemon does not answer")
        if now < self._began + SHORT:
            return False
        if self._lives():
            return True
        if now >= self._began + PATIENCE:
            raise NoDaemonError(
                f"the daemon has not answered for {PATIENCE:.0f} s: it does not start, or hangs",
                "`systemctl status refgenied` and `journalctl -u refgenied` say why",
            )
        if not self._told:
            self._told = True
            output.note("refgeniectl", "the daemon does not answer yet; waiting until it has started")
        return False

    def _lives(self) -> bool:
        try:
            with Client.connect(self._socket, timeout=ANSWER) as other:
                other.call("config.get")  # it needs neither disk nor database
        except ClientError:
            return False
        return True


def reached(socket: str | None, *, deadline: float | None = None) -> Client:
    """Connect, as `Client.connect` does, for a command that is not to wait for ever in silence."""
    client = Client.connect(socket)
    client.on_silence = Silence(socket, deadline=deadline)
    return client
