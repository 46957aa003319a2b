"""Questions that outlive a restart of the daemon: asked again when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable

from refgenied.client import Client, DaemonError, HungUpError, NoDaemonError
from refgenied.client.silence import Silence, reached
from refgenied.shared import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

PATIENCE = 60.0
"""Seconds without a connection after which a daemon that went away counts as gone."""
BREATH = 0.5
"""Seconds between two tries."""


class Lasting:
    """A connection that is made anew when the daemon stops in between. Only for questions that may be asked twice."""

    def __init__(self, client: Client, socket: str | None, *, deadline: float | None = None) -> None:
        self._client = client
        self._socket = socket
        self._deadline = deadline
        client.on_silence = Silence(socket, deadline=deadline)
        self._away_since: float | None = None

    def ask(self, question: Callable[[Client], T]) -> T:
        """The answer. HungUpError, NoDaemonError when the daemon does not come back (before the deadline)."""
        while True:
            try:
                answer = question(self._client)
            except HungUpError as error:
                self._come_back(error)
            except DaemonError as error:
                if error.kind != "shutting_down":
                    raise
                self._come_back(error)
            else:
                self._away_since = None
                return answer

    def _come_back(self, why: HungUpError | DaemonError) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            output.note("refgeniectl", "the daemon went away; waiting until it is back")
        latest = self._away_since + PATIENCE
        if self._deadline is not None:
            latest = min(latest, self._deadline)
        while time.monotonic() < latest:
            time.sleep(BREATH)
            try:
                back = reached(self._socket, deadline=self._deadline)
            except NoDaemonError:
                continue
            self._client.close()
            self._client = back
            return
        raise HungUpError("the daemon went away and did not come back", "its log says why") from why
