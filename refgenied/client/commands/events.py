"""`events`: shows what happened, and with `--follow` what happens, also when the daemon restarts."""

from __future__ import annotations

import time

from refgenied.client import Client, HungUpError, Json, NoDaemonError, words
from refgenied.client.reconnect import RETRY_SECONDS
from refgenied.client.session import DONE, Session
from refgenied.shared import output

MOST_WITHOUT_SINCE = 50
"""So many of the newest events are shown when no `--since` is given."""


def events(session: Session, *, follow: bool, since: float | None) -> int:
    """`since`: an event's number as an int, or a time as a float."""
    start = since
    if since is None and not follow:
        newest = session.client.watch("event.watch", follow=False).state
        start = max(0, newest["seq"] - MOST_WITHOUT_SINCE)
    following = _Following(session, start, follow=follow)
    following.run()
    if not following.told and not session.json:
        output.say("no events yet" if since is None else "no events since then")
    return DONE


class _Following:
    def __init__(self, session: Session, since: float | None, *, follow: bool) -> None:
        self._session = session
        self._follow = follow
        self._from = since if isinstance(since, float) else None
        self._last = since if isinstance(since, int) else None
        self.told = False
        """Whether an event was printed."""

    def run(self) -> None:
        while (reason := self._once()) != "done":
            if reason != "lagged":
                _note("the daemon went away; waiting until it is back")
            self._session.replace_client(self._connected_again())

    def _once(self) -> str:
        """Print events until the watch ends; why it did."""
        params: dict[str, float] = {}
        if self._last is not None:
            params = {"since": self._last}
        elif self._from is not None:
            params = {"at": self._from}
        try:
            watch = self._session.client.watch("event.watch", follow=self._follow, **params)
            if self._last is None:
                self._last = watch.state["since"]
            if watch.state["lagged"]:
                _note(f"events after {self._last} are forgotten; the oldest known is {watch.state['oldest']}")
            for method, row in watch:
                if method == "event":
                    self._print(row)
        except HungUpError:
            return "hung up"
        return str(watch.end["reason"])

    def _print(self, row: Json) -> None:
        self._last = row["seq"]
        self.told = True
        self._session.tell(words.without_watch(row), words.event(row))

    def _connected_again(self) -> Client:
        while True:
            try:
                return Client.connect(self._session.socket)
            except NoDaemonError:
                time.sleep(RETRY_SECONDS)


def _note(text: str) -> None:
    output.note("refgeniectl", text)
