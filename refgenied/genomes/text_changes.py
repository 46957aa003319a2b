"""Where two texts differ: compared at C speed, because refgenie's config may have 60 MB."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

_CHUNK = 1 << 16
_SHORT = 1 << 14
"""A change of at most this many bytes is not searched for unchanged text inside it."""
_PROBE = 1 << 9
"""The bytes that must agree where unchanged text is taken to go on. They hold the digests of one asset."""
_NEAR = 1 << 16
"""Unchanged text is first searched this near: a search through all of a text takes milliseconds."""
_PROBES = 8
"""The places that are tried."""
_MOST_CHANGES = 500


class Change(NamedTuple):
    """The bytes from `old` to `old_end` became those from `new` to `new_end`."""

    old: int
    old_end: int
    new: int
    new_end: int

    @property
    def shift(self) -> int:
        """The distance between the same text behind the change in the new and in the old text."""
        return self.new_end - self.old_end


def changes(old: bytes, new: bytes, places: Callable[[int], Iterable[int]]) -> list[Change]:
    """What differs between two different texts, in order. The texts between the changes are equal.

    `places`: where a line of interest begins in the old text, from a place on. Unchanged text is searched only there.
    """
    here = there = _prefix(old, 0, new, 0, min(len(old), len(new)))
    behind = _suffix(old, len(old), new, len(new), min(len(old), len(new)) - here)
    old_end, new_end = len(old) - behind, len(new) - behind
    found: list[Change] = []
    while len(found) < _MOST_CHANGES and min(old_end - here, new_end - there) > _SHORT:
        tried = [place for place in islice(places(here), _PROBES) if place < old_end]
        for place, until in [
            *((place, place - here + _NEAR) for place in tried),
            *((place, new_end) for place in tried),
        ]:
            match = new.find(old[place : place + _PROBE], there, min(there + until, new_end))
            if match >= 0:
                back = _suffix(old, place, new, match, min(place - here, match - there))
                found.append(Change(here, place - back, there, match - back))
                same = _prefix(old, place, new, match, min(old_end - place, new_end - match))
                here, there = place + same, match + same
                break
        else:
            break
    found.append(Change(here, old_end, there, new_end))
    ends = [0, *(change.old_end for change in found)]
    return [_from_its_line(old, new, change, since) for change, since in zip(found, ends, strict=False)]


def as_one(found: list[Change]) -> Change:
    """All of them, with the texts between."""
    return Change(found[0].old, found[-1].old_end, found[0].new, found[-1].new_end)


def _from_its_line(old: bytes, new: bytes, change: Change, since: int) -> Change:
    """The same change, told so that it begins with a line, if the text from `since` on allows it.

    Lines often begin alike: without this, a new line would seem to begin in the middle of the one that follows it.
    """
    back = change.old - (old.rfind(b"\n", since, change.old) + 1)
    moved = old[change.old_end - back : change.old_end] == new[change.new_end - back : change.new_end]
    if back > change.old - since or not moved:
        return change
    return Change(*(place - back for place in change))


def _prefix(old: bytes, here: int, new: bytes, there: int, most: int) -> int:
    """How many bytes agree from these places on."""
    return _run(most, lambda low, high: old[here + low : here + high] == new[there + low : there + high])


def _suffix(old: bytes, here: int, new: bytes, there: int, most: int) -> int:
    """How many bytes before these places agree, at most `most`."""
    return _run(most, lambda low, high: old[here - high : here - low] == new[there - high : there - low])


def _run(most: int, agree: Callable[[int, int], bool]) -> int:
    """How many bytes agree, at most `most`. `agree`: whether those from `low` to before `high` do."""
    low = 0
    while low < most and agree(low, min(low + _CHUNK, most)):
        low = min(low + _CHUNK, most)
    high = min(low + _CHUNK, most)  # the first `low` bytes agree, and the first `high` do not, or are all
    while low < high:
        middle = (low + high + 1) // 2
        if agree(low, middle):
            low = middle
        else:
            high = middle - 1
    return low
