"""What counts as one download. Standard library only: the server and `downloads import` count alike.

`refgenie pull` asks for an archive twice: a first GET, for its length, is dropped at once; but a small archive is then
sent whole already. So of two requests of refgenie's client one counts. Everybody else's whole transfer counts, and
ranges count once when together they cover the archive.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Interval: TypeAlias = tuple[int, int]

MOST = 10_000
"""Clients and archives that are remembered; the oldest is forgotten."""
MOST_PIECES = 200
"""Ranges apart from each other that are remembered of one; a client that reads here and there downloads nothing."""

PAIR_SECONDS = 10.0
"""Between the two requests of one pull there is less than this."""


def asks_twice(user_agent: str) -> bool:
    """Whether this is what refgenie's client downloads with (`urllib.request`)."""
    return user_agent.startswith("Python-urllib")


class _State:
    __slots__ = ("active", "begun", "counted", "covered", "moved")

    def __init__(self) -> None:
        self.begun = 0
        self.counted = 0
        self.active = 0
        self.moved = 0.0
        self.covered: list[Interval] = []


class Pulls:
    """Tells, request by request, when a download is complete. `who` is a client and what it downloads.

    `now` is any clock in seconds, the same for all calls.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[Hashable, _State] = OrderedDict()

    def begin(self, who: Hashable, now: float) -> None:
        """A GET of the archive has come."""
        state = self._states.setdefault(who, _State())
        self._states.move_to_end(who)
        if not state.active and now - state.moved > PAIR_SECONDS:
            state.begun = state.counted = 0  # what an aborted pull left over says nothing about this one
        state.begun += 1
        state.active += 1
        state.moved = now
        while len(self._states) > MOST:
            self._states.popitem(last=False)

    def end(self, who: Hashable, now: float, sent: Interval, size: int, *, delivered: bool, twice: bool) -> bool:
        """The answer to that GET has ended: bytes [first, after last) were sent. Whether this completes a download."""
        state = self._states.get(who) or _State()  # forgotten among too many
        state.active -= 1
        state.moved = now
        whole = delivered and sent == (0, size)
        if twice:
            return self._pair(state, whole=whole)
        if not delivered:
            sent = (sent[0], min(sent[1], size - 1))  # how much of it came is not known, but the end did not
        if whole or self._covers(state, sent, size):
            state.covered.clear()
            return True
        return False

    def covered_to(self, who: Hashable) -> int:
        """How far from its beginning the archive is covered."""
        state = self._states.get(who)
        return state.covered[0][1] if state and state.covered and state.covered[0][0] == 0 else 0

    def _pair(self, state: _State, *, whole: bool) -> bool:
        if whole and state.counted < state.begun // 2:
            state.counted += 1
            return True
        return False

    def _covers(self, state: _State, sent: Interval, size: int) -> bool:
        """Whether this range was the last that was missing."""
        joined: list[Interval] = []
        for first, end in sorted([*state.covered, sent]):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            elif first < end:
                joined.append((first, end))
        state.covered = joined[:MOST_PIECES]
        return joined == [(0, size)]
