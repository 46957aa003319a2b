"""Progress and cancellation: the two callbacks that every long loop of the archive engine takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

INTERVAL = 0.1
"""Seconds between two reports, at least."""


class Phase(StrEnum):
    PACKING = "packing"
    PROVING = "proving"
    READING = "reading"  # an archive of another program, to learn what is in it
    RESTORING = "restoring"


OnProgress = Callable[[Phase, int, int], None]
"""Called in the caller's own thread with the phase and its source bytes, done and in all, at most ten times a
second.
"""

Check = Callable[[], None]
"""Called in the caller's own thread, often; whatever it raises ends the work and reaches the caller."""


def no_progress(_phase: Phase, _done: int, _total: int) -> None:
    """For callers that do not want to hear of it."""


def no_check() -> None:
    """For callers that never cancel."""


class Meter:
    """Passes on how far a phase is, but not more often than anyone can see."""

    def __init__(self, phase: Phase, total: int, on_progress: OnProgress) -> None:
        self._phase = phase
        self._total = total
        self._on_progress = on_progress
        self._next = 0.0

    def show(self, done: int, *, last: bool = False) -> None:
        """`done` source bytes of this phase are behind us."""
        now = time.monotonic()
        if last or now >= self._next:
            self._next = now + INTERVAL
            self._on_progress(self._phase, done, self._total)
