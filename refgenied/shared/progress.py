"""How far work is and how fast: the same type in the daemon, in messages and on the screen.

This file uses only the standard library, because the client imports it too.
"""

import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

RATE_SECONDS = 5.0
"""The rate is the mean over this many seconds."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far work is. Bytes are source bytes."""

    phase: str
    """`packing`, `proving`, `reading` or `restoring`."""
    done: int
    total: int
    """0: not known yet."""
    rate: float
    """Bytes a second, over the last seconds; 0: not known yet."""

    def message(self) -> dict[str, Any]:
        """The progress in the form of the daemon's messages."""
        return asdict(self)


class Meter:
    """Turns counts of source bytes into progress with a rate. Only one thread may call it."""

    def __init__(self) -> None:
        self._phase = ""
        self._points: deque[tuple[float, int]] = deque()

    def reading(self, phase: str, done: int, total: int) -> Progress:
        now = time.monotonic()
        if phase != self._phase:
            self._phase = phase
            self._points.clear()
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > RATE_SECONDS:
            self._points.popleft()
        began, start = self._points[0]
        rate = (done - start) / (now - began) if now > began else 0.0
        return Progress(phase=str(phase), done=done, total=total, rate=rate)
