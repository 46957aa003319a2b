"""What counts as one download. Only the standard library: `refgenied serve` and `downloads import` count alike.

`refgenie pull` asks for an archive twice. It drops the first GET, which is for the length, at once; but the first
answer about a small archive is sent whole before the server notices. So of two requests of refgenie's client one
counts. For other clients each whole transfer counts, and ranges count once when together they cover the archive.
"""

from collections import OrderedDict
from copy import deepcopy
from typing import Any, NamedTuple, Self

MAX_PULLS = 10_000
"""Pairs of a client and an archive that are remembered in memory; the oldest is forgotten."""
MAX_PIECES = 200
"""Separate ranges that are remembered for one of them; a client that reads here and there downloads nothing."""
MAX_PROBES = 200
"""First requests that are remembered for one of them."""

PAIR_SECONDS = 10.0
"""The second request of refgenie begins less than this after the end of its first one."""
DROP_SECONDS = 5.0
"""refgenie drops its first request at once; a request that took longer was a second one."""
BUFFERED_BYTES = 16 * 2**20
"""The buffers between server and client hold less: a client that drops a longer archive at once never gets it all."""
SAME_DOWNLOAD_SECONDS = 2.0
"""No client gets an archive of more than BUFFERED_BYTES twice within this time."""
SLOWEST_BYTES_PER_SECOND = 10_000
"""The parts of a slower download do not count together."""
BETWEEN_PARTS_SECONDS = 600.0
"""The longest pause between the parts of one download."""


def asks_twice(user_agent: str) -> bool:
    """Whether this is what refgenie's client downloads with (`urllib.request`)."""
    return user_agent.startswith("Python-urllib")


def remembered(size: int) -> float:
    """Seconds that a download of so many bytes may take."""
    return BETWEEN_PARTS_SECONDS + size / SLOWEST_BYTES_PER_SECOND


class Answer(NamedTuple):
    """What was sent for one GET of an archive. Times are seconds of any clock, the same clock for all answers."""

    at: float
    """When it ended; or when it began, if only that is known."""
    begun: float | None
    """None if it is not known."""
    size: int
    """Bytes of the archive."""
    first: int | None
    """The first byte that was sent; None for a range of which only the length is known."""
    least: int
    most: int
    """At least `least` and at most `most` bytes were sent."""
    ranged: bool = False
    """The client asked for a range."""
    twice: bool = False
    """The client asks twice for each pull."""
    sure: bool = True
    """False when this may be a broken transfer that looks like a whole one."""

    @property
    def is_whole(self) -> bool:
        return self.first == 0 and self.least >= self.size


class Pull:
    """The parts of one archive that one client has got and that are no download yet."""

    def __init__(self) -> None:
        self.dropped: list[float] = []
        """When refgenie's dropped requests ended that no second request has followed."""
        self.whole: list[float] = []
        """When those ended that were sent whole, and seem to be the first of a pair."""
        self.alone: float | None = None
        """When the last long one ended that counted without a first one before it."""
        self.covered: list[tuple[int, int]] = []
        """[first, after last) of what came in ranges or was resumed: sorted, and with gaps between them."""
        self.lengths: list[tuple[int, int, int]] = []
        """Ranges of which only the length is known: at least, at most, and how many such ranges came in a row."""
        self.counted = False
        """The ranges in `lengths` have counted; ranges that may belong to them must not count again."""
        self.moved = 0.0
        """When the last range ended."""

    @classmethod
    def load(cls, state: dict[str, Any]) -> Self:
        """From what `state` gave."""
        pull = cls()
        for name in vars(pull):
            setattr(pull, name, state[name])
        pull.covered = [(first, end) for first, end in pull.covered]
        pull.lengths = [(least, most, times) for least, most, times in pull.lengths]
        return pull

    @property
    def state(self) -> dict[str, Any]:
        """In a form for JSON."""
        return dict(vars(self))

    @property
    def is_over(self) -> bool:
        """Whether nothing is kept that another answer could complete."""
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
        """A whole answer: the second of a pair counts, and an answer that may be a first one is kept."""
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
        """A dropped answer: the first of a pair, perhaps noticed late; or a second one that was broken off."""
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
        """Whether ranges of which only the lengths are known add up to the archive, or complete a cut transfer."""
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
    """Remove the last of these times that lies in this span; returns whether there is one."""
    found = [end for end in ends if first <= end <= last]
    if found:
        ends.remove(found[-1])
    return bool(found)


class Pulls:
    """Says with each answer whether a download is complete. `who` is a client and what it downloads, as texts."""

    def __init__(self) -> None:
        self._pulls: OrderedDict[tuple[str, ...], Pull] = OrderedDict()
        self.changed = False
        """Whether anything has changed since the last call of `states`."""

    def states(self) -> list[tuple[list[str], dict[str, Any]]]:
        """What is no download yet, in a form for JSON."""
        self.changed = False
        return [(list(who), pull.state) for who, pull in self._pulls.items() if not pull.is_over]

    def load(self, states: list[tuple[list[str], dict[str, Any]]]) -> None:
        """Go on from what `states` gave. LookupError, TypeError, ValueError when it is something else."""
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
