"""`events`: shows past events, and with `--follow` new events, even when the daemon restarts."""

import time
from collections.abc import Iterator

from refgenied.client import Client, HungUpError, Json, NoDaemonError, words
from refgenied.client.reconnect import RETRY_SECONDS
from refgenied.client.session import DONE, Session
from refgenied.shared import output

MOST_WITHOUT_SINCE = 50
"""Without `--since`, this many of the newest events are shown."""


def events(session: Session, *, follow: bool, since: float | None) -> int:
    """Show what happened lately.

    `since`: an event's number as an int, or a time as a float.
    """
    begin: dict[str, float] = {}
    if since is not None:
        begin = {"since" if isinstance(since, int) else "at": since}
    elif not follow:
        newest = session.client.watch("event.watch", follow=False).state
        begin = {"since": max(0, newest["seq"] - MOST_WITHOUT_SINCE)}
    told = False
    for row in _events(session, begin, follow=follow):
        told = True
        session.tell(words.without_watch(row), words.event(row))
    if not told and not session.json:
        output.say("no events yet" if since is None else "no events since then")
    return DONE


def _events(session: Session, begin: dict[str, float], *, follow: bool) -> Iterator[Json]:
    """The events until the watch is done. The watch continues after lags and restarts of the daemon."""
    while True:
        try:
            watch = session.client.watch("event.watch", follow=follow, **begin)
            if "since" not in begin:
                begin = {"since": watch.state["since"]}
            if watch.state["lagged"]:
                _note(f"events after {begin['since']} are forgotten; the oldest known is {watch.state['oldest']}")
            for method, row in watch:
                if method == "event":
                    begin = {"since": row["seq"]}
                    yield row
            reason = watch.end["reason"]
        except HungUpError:
            reason = "hung up"
        if reason == "done":
            return
        if reason != "lagged":
            _note("the daemon went away; waiting until it is back")
        session.replace_client(_connected_again(session.socket))


def _connected_again(socket: str | None) -> Client:
    while True:
        try:
            return Client.connect(socket)
        except NoDaemonError:
            time.sleep(RETRY_SECONDS)


def _note(text: str) -> None:
    output.note("refgeniectl", text)
