"""What counts as one download. Standard library only: `refgenied serve` and `downloads import` count alike.

`refgenie pull` asks for an archive twice: a first GET, for its length, is dropped at once; but of a small archive the
first answer is sent whole before the server notices. So of two requests of refgenie's client one counts. Everybody
else's whole transfer counts, and ranges count once when together they cover the archive.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from typing import Any, NamedTuple

MOST = 10_000
"""Clients and archives that are remembered in memory; the oldest is forgotten."""
MOST_PIECES = 200
"""Ranges apart from each other that are remembered of one; a client that reads here and there downloads nothing."""
MOST_PROBES = 200

PAIR_SECONDS = 10.0
"""From the end of refgenie's first request to the beginning of its second there is less than this."""
DROP_SECONDS = 5.0
"""refgenie drops its first request at once; what took longer was a second one."""
SWALLOWED = 16 * 2**20
"""A client that drops a longer archive at once has never got all of it: the buffers between are smaller."""
SAME_MOMENT = 2.0
"""Nobody gets an archive of more than SWALLOWED bytes twice within so many seconds."""
SLOWEST = 10_000
"""Bytes per second; who is slower is not waited for."""
PAUSE_SECONDS = 600.0
"""Between the parts of one download there may be a pause."""


def asks_twice(user_agent: str) -> bool:
    """Whether this is what refgenie's client downloads with (`urllib.request`)."""
    return user_agent.startswith("Python-urllib")


def remembered(size: int) -> float:
    """Seconds that a download of so many bytes may take."""
    return PAUSE_SECONDS + size / SLOWEST


class Answer(NamedTuple):
    """What was sent for one GET of an archive. Times are any clock in seconds, the same for all answers."""

    at: float
    """When it ended; when it began, if only that is known."""
    begun: float | None
    """None if it is not known."""
    size: int
    """Bytes of the archive."""
    first: int | None
    """The first byte that was sent; None for a range of which only the length is known."""
    least: int
    most: int
    """Bytes that were sent: at least and at most so many."""
    ranged: bool = False
    """It was asked for as a range."""
    twice: bool = False
    """The client asks twice for each pull."""
    sure: bool = True
    """False when a broken transfer may look like a whole one."""

    @property
    def is_whole(self) -> bool:
        return self.first == 0 and self.least >= self.size


class Pull:
    """What one client has got of one archive and is no download yet."""

    def __init__(self) -> None:
        self.dropped: list[float] = []
        """Ends of refgenie's requests that were dropped, and no second one has followed."""
        self.whole: list[float] = []
        """Ends of those that were sent whole: the first of a pair, or so it seems."""
        self.alone: float | None = None
        """End of the last long one that counted with no first one before it."""
        self.covered: list[tuple[int, int]] = []
        """[first, after last) of what came in ranges or was resumed, in order, not touching each other."""
        self.lengths: list[tuple[int, int, int]] = []
        """Of the ranges of which no more is known: at least, at most, and how many such in a row."""
        self.counted = False
        """The ranges in `lengths` have counted; what may still belong to them must not count again."""
        self.moved = 0.0

    @classmethod
    def load(cls, state: dict[str, Any]) -> Pull:
        """From what `state` gave."""
        pull = cls()
        pull.dropped, pull.whole, pull.alone = state["dropped"], state["whole"], state["alone"]
        pull.covered = [(first, end) for first, end in state["covered"]]
        pull.lengths = [(least, most, times) for least, most, times in state["lengths"]]
        pull.counted, pull.moved = state["counted"], state["moved"]
        return pull

    @property
    def state(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))

    @property
    def is_over(self) -> bool:
        """Nothing is kept that another answer could complete."""
        return not (self.dropped or self.whole or self.covered or self.lengths)

    def take(self, answer: Answer) -> bool:
        """Whether this answer completes a download."""
        if answer.twice and not answer.ranged:
            return self._second(answer) if answer.is_whole else self._dropped(answer)
        if answer.is_whole:
            self._forget_ranges()
            return True
        if abs(answer.at - self.moved) > remembered(answer.size):
            self._forget_ranges()
        self.moved = max(self.moved, answer.at)
        if answer.first is None:
            return self._adds_up(answer)
        return self._covers(answer.first, answer.first + answer.least, answer.size)

    # ----------------------------------------------------------------- pairs

    def _second(self, answer: Answer) -> bool:
        """A whole answer: the second of a pair counts, and what may be a first one is kept."""
        begun = answer.at - remembered(answer.size) if answer.begun is None else answer.begun
        self._forget_probes(answer)
        for firsts in (self.dropped, self.whole):
            if found := [first for first in firsts if begun - PAIR_SECONDS <= first <= answer.at + PAIR_SECONDS]:
                firsts.remove(found[-1])
                return True
        if answer.sure and answer.size > SWALLOWED:  # its first request was not seen, but this cannot be one
            if self.alone is not None and abs(answer.at - self.alone) <= SAME_MOMENT:
                return False
            self.alone = answer.at
            return True
        self.whole.append(answer.at)
        return False

    def _dropped(self, answer: Answer) -> bool:
        """The first of a pair, maybe noticed late; or a second one that was broken off."""
        self._forget_probes(answer)
        begun = answer.at if answer.begun is None else answer.begun
        if answer.at - begun > DROP_SECONDS:
            for firsts in (self.dropped, self.whole):
                if found := [end for end in firsts if begun - PAIR_SECONDS <= end <= begun]:
                    firsts.remove(found[-1])
                    break
            return False
        if late := [end for end in self.whole if begun <= end <= answer.at + PAIR_SECONDS]:
            self.whole.remove(late[-1])
            return True
        self.dropped.append(answer.at)
        return False

    def _forget_probes(self, answer: Answer) -> None:
        after = answer.at - remembered(answer.size) - PAIR_SECONDS
        self.dropped = [end for end in self.dropped if end >= after][-MOST_PROBES:]
        self.whole = [end for end in self.whole if end >= after][-MOST_PROBES:]

    # ----------------------------------------------------------------- ranges

    def _forget_ranges(self) -> None:
        self.covered, self.lengths, self.counted = [], [], False

    def _covers(self, begin: int, end: int, size: int) -> bool:
        """Whether this range was the last that was missing."""
        joined: list[tuple[int, int]] = []
        for first, after in sorted([*self.covered, (begin, min(end, size))]):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(after, joined[-1][1]))
            elif first < after:
                joined.append((first, after))
        self.covered = joined[:MOST_PIECES]
        if joined != [(0, size)]:
            return False
        self._forget_ranges()
        return True

    def _adds_up(self, answer: Answer) -> bool:
        """Whether ranges of which only the lengths are known are as long as the archive, or end what was cut before."""
        if self.covered and self.covered[0][0] == 0 and self.covered[0][1] + answer.most >= answer.size:
            self._forget_ranges()
            return True
        if self.counted and self._length(0) + answer.least > answer.size:
            self._forget_ranges()
        span = (answer.least, answer.most)
        same = self.lengths.pop()[2] if self.lengths and self.lengths[-1][:2] == span else 0
        self.lengths.append((*span, same + 1))
        while self._length(0) > answer.size or len(self.lengths) > MOST_PIECES:
            least, most, times = self.lengths.pop(0)
            if times > 1:
                self.lengths.insert(0, (least, most, times - 1))
        if self.counted or self._length(1) < answer.size:
            return False
        self.counted = True
        return True

    def _length(self, which: int) -> int:
        return sum(piece[which] * piece[2] for piece in self.lengths)


class Pulls:
    """Tells, answer by answer, when a download is complete. `who` is a client and what it downloads, as texts."""

    def __init__(self) -> None:
        self._pulls: OrderedDict[tuple[str, ...], Pull] = OrderedDict()
        self.changed = False
        """Since `states` was asked for."""

    def states(self) -> list[tuple[list[str], dict[str, Any]]]:
        """What is no download yet, for JSON."""
        self.changed = False
        return [(list(who), pull.state) for who, pull in self._pulls.items() if not pull.is_over]

    def load(self, states: list[tuple[list[str], dict[str, Any]]]) -> None:
        """From what `states` gave. LookupError, TypeError, ValueError when it is something else."""
        self._pulls.update({tuple(map(str, who)): Pull.load(state) for who, state in states[-MOST:]})

    def would_take(self, who: tuple[str, ...], answer: Answer) -> bool:
        """What `take` would say now."""
        return deepcopy(self._pulls.get(who, Pull())).take(answer)

    def take(self, who: tuple[str, ...], answer: Answer) -> bool:
        self.changed = True
        pull = self._pulls.setdefault(who, Pull())
        self._pulls.move_to_end(who)
        while len(self._pulls) > MOST:
            self._pulls.popitem(last=False)
        return pull.take(answer)
