"""Decides what counts as one download. `refgenied serve` and `downloads import` both use it, so they count alike.

`refgenie pull` asks for an archive twice. The first GET only asks for the length, and refgenie drops it at once; but
a small archive is sent completely before the server notices. So of two requests of refgenie's client one counts. For
other clients each whole transfer counts, and ranges count once when together they cover the archive. This file uses
only the standard library, because the client imports it too.
"""

from collections import OrderedDict
from copy import deepcopy
from typing import Any, NamedTuple, Self

MAX_PULLS = 10_000
"""The most pairs of a client and an archive in memory; the oldest pair is forgotten."""
MAX_PIECES = 200
"""The most separate ranges that are remembered for one pair. A client with more only reads parts here and there."""
MAX_PROBES = 200
"""The most first requests that are remembered for one pair."""

PAIR_SECONDS = 10.0
"""The second request of refgenie begins within this time after the end of its first request."""
DROP_SECONDS = 5.0
"""refgenie drops its first request at once. A request that took longer was a second request."""
BUFFERED_BYTES = 16 * 2**20
"""The buffers between server and client hold less. So a client that drops a longer archive at once never gets all."""
SAME_DOWNLOAD_SECONDS = 2.0
"""No client gets an archive of more than BUFFERED_BYTES twice within this time."""
SLOWEST_BYTES_PER_SECOND = 10_000
"""If a download is slower, its parts do not count together."""
BETWEEN_PARTS_SECONDS = 600.0
"""The longest pause between the parts of one download."""


def asks_twice(user_agent: str) -> bool:
    """Whether this is the agent of refgenie's client (`urllib.request`)."""
    return user_agent.startswith("Python-urllib")


def remembered(size: int) -> float:
    """Seconds that a download of this many bytes may take."""
    return BETWEEN_PARTS_SECONDS + size / SLOWEST_BYTES_PER_SECOND


class Answer(NamedTuple):
    """The bytes that were sent for one GET of an archive. Times are seconds of any clock, the same for all answers."""

    at: float
    """When it ended; if only its beginning is known, when it began."""
    begun: float | None
    """When it began; None: not known."""
    size: int
    """Bytes of the archive."""
    first: int | None
    """The first byte that was sent; None: a range, and only its length is known."""
    least: int
    most: int
    """At least `least` and at most `most` bytes were sent."""
    ranged: bool = False
    """Whether the client asked for a range."""
    twice: bool = False
    """Whether the client asks twice for each pull."""
    sure: bool = True
    """False: this may be a broken transfer that looks like a whole one."""

    @property
    def is_whole(self) -> bool:
        return self.first == 0 and self.least >= self.size


class Pull:
    """The parts of one archive that one client has got, and that are not a download yet."""

    def __init__(self) -> None:
        self.dropped: list[float] = []
        """The end times of dropped requests of refgenie that have no second request yet."""
        self.whole: list[float] = []
        """The end times of requests that were sent whole and seem to be the first of a pair."""
        self.alone: float | None = None
        """The end time of the last long request that counted without a first request before it."""
        self.covered: list[tuple[int, int]] = []
        """[first, after last) of the bytes that came in ranges or resumed transfers: sorted, with gaps between them."""
        self.lengths: list[tuple[int, int, int]] = []
        """Ranges with a known length only: at least, at most, and how many such ranges came in a row."""
        self.counted = False
        """Whether the ranges in `lengths` have counted. Ranges that may belong to them must not count again."""
        self.moved = 0.0
        """When the last range ended."""

    @classmethod
    def load(cls, state: dict[str, Any]) -> Self:
        """A `Pull` from the value of `state`."""
        pull = cls()
        for name in vars(pull):
            setattr(pull, name, state[name])
        pull.covered = [(first, end) for first, end in pull.covered]
        pull.lengths = [(least, most, times) for least, most, times in pull.lengths]
        return pull

    @property
    def state(self) -> dict[str, Any]:
        """All values in a form for JSON."""
        return dict(vars(self))

    @property
    def is_over(self) -> bool:
        """Whether there are no parts that another answer could complete."""
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
        """Handle a whole answer: the second of a pair counts; an answer that may be the first of a pair is kept."""
        begun = answer.at - remembered(answer.size) if answer.begun is None else answer.begun
        self._forget_probes(answer)
        pair = begun - PAIR_SECONDS, answer.at + PAIR_SECONDS
        if _take_last(self.dropped, *pair) or _take_last(self.whole, *pair):
            return True
        if answer.sure and answer.size > BUFFERED_BYTES:  # we did not see its first request
            if self.alone is not None and abs(answer.at - self.alone) <= SAME_DOWNLOAD_SECONDS:
                return False
            self.alone = answer.at
            return True
        self.whole.append(answer.at)
        return False

    def _dropped(self, answer: Answer) -> bool:
        """Handle a dropped answer: the first of a pair (perhaps noticed late), or an interrupted second one."""
        self._forget_probes(answer)
        begun = answer.at if answer.begun is None else answer.begun
        if answer.at - begun > DROP_SECONDS:
            pair = begun - PAIR_SECONDS, begun
            _ = _take_last(self.dropped, *pair) or _take_last(self.whole, *pair)
            return False
        if _take_last(self.whole, begun, answer.at + PAIR_SECONDS):
            return True
        self.dropped.append(answer.at)
        return False

    def _forget_probes(self, answer: Answer) -> None:
        after = answer.at - remembered(answer.size) - PAIR_SECONDS
        self.dropped = [end for end in self.dropped if end >= after][-MAX_PROBES:]
        self.whole = [end for end in self.whole if end >= after][-MAX_PROBES:]

    # ----------------------------------------------------------------- ranges

    def _forget_ranges(self) -> None:
        self.covered, self.lengths, self.counted = [], [], False

    def _covers(self, begin: int, end: int, size: int) -> bool:
        """Whether this range was the last missing one."""
        joined: list[tuple[int, int]] = []
        for first, after in sorted([*self.covered, (begin, min(end, size))]):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(after, joined[-1][1]))
            elif first < after:
                joined.append((first, after))
        self.covered = joined[:MAX_PIECES]
        if joined != [(0, size)]:
            return False
        self._forget_ranges()
        return True

    def _adds_up(self, answer: Answer) -> bool:
        """Whether ranges with known lengths only add up to the archive, or complete an interrupted transfer."""
        if self.covered and self.covered[0][0] == 0 and self.covered[0][1] + answer.most >= answer.size:
            self._forget_ranges()
            return True
        if self.counted and self._length(0) + answer.least > answer.size:
            self._forget_ranges()
        span = (answer.least, answer.most)
        same = self.lengths.pop()[2] if self.lengths and self.lengths[-1][:2] == span else 0
        self.lengths.append((*span, same + 1))
        while self._length(0) > answer.size or len(self.lengths) > MAX_PIECES:
            least, most, times = self.lengths.pop(0)
            if times > 1:
                self.lengths.insert(0, (least, most, times - 1))
        if self.counted or self._length(1) < answer.size:
            return False
        self.counted = True
        return True

    def _length(self, which: int) -> int:
        return sum(piece[which] * piece[2] for piece in self.lengths)


def _take_last(ends: list[float], first: float, last: float) -> bool:
    """Remove the last of these times in this span. Returns whether there was one."""
    found = [end for end in ends if first <= end <= last]
    if found:
        ends.remove(found[-1])
    return bool(found)


class Pulls:
    """Says for each answer whether it completes a download. `who`: texts that identify a client and its archive."""

    def __init__(self) -> None:
        self._pulls: OrderedDict[tuple[str, ...], Pull] = OrderedDict()
        self.changed = False
        """Whether anything has changed since the last call of `states`."""

    def states(self) -> list[tuple[list[str], dict[str, Any]]]:
        """All parts that are not a download yet, in a form for JSON."""
        self.changed = False
        return [(list(who), pull.state) for who, pull in self._pulls.items() if not pull.is_over]

    def load(self, states: list[tuple[list[str], dict[str, Any]]]) -> None:
        """Continue from a value of `states`. LookupError, TypeError, ValueError: it is not such a value."""
        self._pulls.update({tuple(map(str, who)): Pull.load(state) for who, state in states[-MAX_PULLS:]})

    def would_take(self, who: tuple[str, ...], answer: Answer) -> bool:
        """The result that `take` would give now."""
        return deepcopy(self._pulls.get(who, Pull())).take(answer)

    def take(self, who: tuple[str, ...], answer: Answer) -> bool:
        """Whether this answer completes a download."""
        self.changed = True
        pull = self._pulls.setdefault(who, Pull())
        self._pulls.move_to_end(who)
        while len(self._pulls) > MAX_PULLS:
            self._pulls.popitem(last=False)
        return pull.take(answer)
