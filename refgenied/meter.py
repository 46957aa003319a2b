"""How far and how fast a running job is."""

from __future__ import annotations

import time
from collections import deque

from refgenied.model import Progress

WINDOW = 5.0
"""Seconds over which the rate is taken."""


class Meter:
    """Turns counts of source bytes into readings with a rate. Called from the packing thread only."""

    def __init__(self) -> None:
        self._phase = ""
        self._points: deque[tuple[float, int]] = deque()

    def reading(self, phase: str, done: int, total: int) -> Progress:
        now = time.monotonic()
        if phase != self._phase:
            self._phase = phase
            self._points.clear()
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > WINDOW:
            self._points.popleft()
        began, start = self._points[0]
        rate = (done - start) / (now - began) if now > began else 0.0
        return Progress(phase=phase, done=done, total=total, rate=rate)
