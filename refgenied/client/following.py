"""`events`: what happened, and with `--follow` what happens, over lags and restarts of the daemon."""

from __future__ import annotations

import time
from argparse import Namespace

from refgenied import output
from refgenied.client import Client, HungUpError, Json, NoDaemonError, words

LATELY = 50
"""Events that are shown when no `--since` is given."""
PATIENCE = 1.0
"""Seconds between two tries to reach a daemon that went away."""


def events(client: Client, arguments: Namespace) -> int:
    since: int | None = arguments.since
    if since is None and not arguments.follow:
        newest: Json = client.watch("event.watch", follow=False).state
        since = max(0, newest["seq"] - LATELY)
    _Following(arguments, since).run(client)
    return 0


class _Following:
    def __init__(self, arguments: Namespace, since: int | None) -> None:
        self._arguments = arguments
        self._last = since

    def run(self, client: Client) -> None:
        with client:
            reason = self._once(client)
        while reason != "done":
            with self._again(reason) as another:
                reason = self._once(another)

    def _once(self, client: Client) -> str:
        """Print events until the watch ends; why it did."""
        params = {} if self._last is None else {"since": self._last}
        try:
            watch = client.watch("event.watch", follow=self._arguments.follow, **params)
            if self._last is None:
                self._last = watch.state["seq"]
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
