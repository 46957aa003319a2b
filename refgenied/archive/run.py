"""How a long piece of work runs: on how many threads, what may end it, and who is told how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from refgenied.archive.format.arguments import require_callable, threads_of

PROGRESS_SECONDS = 0.1
"""Seconds between two reports, at least."""


class Phase(StrEnum):
    PACKING = "packing"
    PROVING = "proving"
    READING = "reading"  # an archive of another program, to learn what is in it
    RESTORING = "restoring"


OnProgress = Callable[[Phase, int, int], None]
"""Called in the caller's own thread with the phase, the bytes of source files that are done, and those of all files.

At most ten times a second.
"""

Check = Callable[[], None]
"""Called often in the caller's own thread. Whatever it raises ends the work and reaches the caller."""


def no_progress(_phase: Phase, _done: int, _total: int) -> None:
    """For callers that do not want reports."""


def no_check() -> None:
    """For callers that never cancel."""


class Run:
    """How a long function of the archive engine must run. BadArgumentError for a value that makes no sense.

    `threads`: how many may work; 0: as many as this process may use cores.
    """

    def __init__(self, threads: int = 1, check: Check = no_check, on_progress: OnProgress = no_progress) -> None:
        self.threads = threads_of(threads)
        require_callable(check, "check")
        require_callable(on_progress, "on_progress")
        self.check = check
        self.on_progress = on_progress

    def reporter(self, phase: Phase, total: int = 0) -> Reporter:
        """For a new phase with `total` bytes of source files; 0: nobody knows."""
        return Reporter(phase, total, self.on_progress)


class Reporter:
    """Reports how far one phase is, but not more often than a person can see."""

    def __init__(self, phase: Phase, total: int, on_progress: OnProgress) -> None:
        self._phase = phase
        self._total = total
        self._on_progress = on_progress
        self._next = 0.0

    def show(self, done: int, *, last: bool = False) -> None:
        """`done` bytes of source files are done. The `last` report is always made."""
        now = time.monotonic()
        if last or now >= self._next:
            self._next = now + PROGRESS_SECONDS
            self._on_progress(self._phase, done, self._total)
