"""How a long piece of work runs: on how many threads, what may cancel it, and which function gets its progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from refgenied.archive.format.arguments import require_callable, threads_of

PROGRESS_SECONDS = 0.1
"""At least this many seconds lie between two reports."""


class Phase(StrEnum):
    PACKING = "packing"
    PROVING = "proving"
    READING = "reading"  # an archive of another program, to learn what is in it
    RESTORING = "restoring"


OnProgress = Callable[[Phase, int, int], None]
"""A function that is called in the caller's own thread, at most ten times a second.

It gets the phase, the bytes of source files that are done, and the bytes of all source files.
"""

Check = Callable[[], None]
"""A function that is called often in the caller's own thread. An error that it raises ends the work and reaches the
caller."""


def no_progress(_phase: Phase, _done: int, _total: int) -> None:
    """For callers that do not want reports."""


def no_check() -> None:
    """For callers that never cancel."""


class Run:
    """How a long function of the archive engine must run. BadArgumentError for a value that makes no sense.

    `threads`: how many threads may work; 0: one for each core that this process may use.
    """

    def __init__(self, threads: int = 1, check: Check = no_check, on_progress: OnProgress = no_progress) -> None:
        self.threads = threads_of(threads)
        require_callable(check, "check")
        require_callable(on_progress, "on_progress")
        self.check = check
        self.on_progress = on_progress

    def reporter(self, phase: Phase, total: int = 0) -> Reporter:
        """A reporter for a new phase with `total` bytes of source files; 0: the number is not known."""
        return Reporter(phase, total, self.on_progress)


class Reporter:
    """Reports the progress of one phase, at most once in `PROGRESS_SECONDS`."""

    def __init__(self, phase: Phase, total: int, on_progress: OnProgress) -> None:
        self._phase = phase
        self._total = total
        self._on_progress = on_progress
        self._next = 0.0

    def show(self, done: int, *, last: bool = False) -> None:
        """Report that `done` bytes of source files are done. The `last` report is always made."""
        now = time.monotonic()
        if last or now >= self._next:
            self._next = now + PROGRESS_SECONDS
            self._on_progress(self._phase, done, self._total)
