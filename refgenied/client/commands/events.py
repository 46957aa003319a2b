"""`events`: what happened, and with `--follow` what happens, over lags and restarts of the daemon."""

from __future__ import annotations

import time
from argparse import Namespace

from refgenied.client import Client, HungUpError, Json, NoDaemonError, words
from refgenied.shared import output

LATELY = 50
"""Events that are shown when no `--since` is given."""
PATIENCE = 1.0
"""Seconds between two tries to reach a daemon that went away."""


def events(client: Client, arguments: Namespace) -> int:
    since: int | float | None = arguments.since
    if since is None and not arguments.follow:
        newest: Json = client.watch("event.watch", follow=False).state
        since = max(0, newest["seq"] - LATELY)
    following = _Following(arguments, since)
    following.run(client)
    if not following.told and not arguments.json:
        output.say("no events yet" if arguments.since is None else "no events since then")
    return 0


class _Following:
    def __init__(self, arguments: Namespace, since: float | None) -> None:
        self._arguments = arguments
        self._from = since if isinstance(since, float) else None
        self._last = since if isinstance(since, int) else None
        self.told = False
        """Whether an event was printed."""

    def run(self, client: Client) -> None:
        with client:
            reason = self._once(client)
        while reason != "done":
            with self._again(reason) as another:
                reason = self._once(another)

    def _once(self, client: Client) -> str:
        """Print events until the watch ends; why it did."""
        params: dict[str, float] = {} if self._last is None else {"since": self._last}
        if self._last is None and self._from is not None:
            params = {"at": self._from}
        try:
            watch = client.watch("event.watch", follow=self._arguments.follow, **params)
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
        if self._arguments.json:
            output.print_json({name: value for name, value in row.items() if name != "watch"})
        else:
            output.say(words.event(row))

    def _again(self, reason: str) -> Client:
        if reason != "lagged":
            _note("the daemon went away; waiting until it is back")
        while True:
            try:
                return Client.connect(self._arguments.socket)
            except NoDaemonError:
                time.sleep(PATIENCE)


def _note(text: str) -> None:
    output.note("refgeniectl", text)
