"""Many threads, one order: blocks go in and come out in the order they were given.

For every item `work` runs on one of the worker threads, `then` gets the results in order on a thread of its
own, and `aside` sees the items in order on another, beside the work (hashes, whose order matters). The
caller's thread feeds, waits, recycles and asks whether to go on: whatever goes wrong anywhere is raised
there, and no thread outlives the `with`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from refgenied.archive.run import Check

MAX_THREADS = 32
"""More would hold more blocks in flight than the bound on memory allows."""

LOOK_UP = 0.05
"""Seconds of waiting after which the caller is asked again whether to go on."""

NICENESS = 10
"""Of the worker threads at least: whoever else wants a core goes first, the daemon's own control API among them."""
STEP = 5
"""By how much they are nicer than the daemon, should that be nice already."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pipeline(Generic[Item, Result]):
    """See the module. At most `depth` items are in flight; `retire` gets each back, in the caller's
    thread.
    """

    def __init__(
        self,
        *,
        work: Callable[[Item], Result],
        then: Callable[[Result], None],
        aside: Callable[[Item], None],
        retire: Callable[[Item], None],
        threads: int,
        check: Check,
    ) -> None:
        threads = max(1, min(threads, MAX_THREADS))
        self.depth = threads + min(threads, 8) + 2
        self._work = work
        self._then = then
        self._aside = aside
        self._retire = retire
        self._check = check
        self._workers = ThreadPoolExecutor(threads, "archive-work", step_back)
        self._follower = ThreadPoolExecutor(1, "archive-then")
        self._bystander = ThreadPoolExecutor(1, "archive-aside")
        self._flying: deque[tuple[Item, Future[None], Future[None]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Nobody waits for work that was never begun: cancelling the workers' queue wakes the follower.
        for pool in (self._bystander, self._follower, self._workers):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self._workers, self._follower, self._bystander):
            pool.shutdown(wait=True)

    def push(self, item: Item) -> None:
        """Hand over the next item; waits while too many are in flight. Raises what went wrong with earlier
        ones.
        """
        while len(self._flying) >= self.depth:
            self._settle_oldest()
        result = self._workers.submit(self._work, item)
        followed = self._follower.submit(lambda: self._then(result.result()))
        seen = self._bystander.submit(self._aside, item)
        self._flying.append((item, followed, seen))
        while self._flying and self._flying[0][1].done() and self._flying[0][2].done():
            self._settle_oldest()

    def finish(self) -> None:
        """Wait until everything that was pushed has gone through."""
        while self._flying:
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        item, followed, seen = self._flying[0]
        self._check()
        while wait((followed, seen), LOOK_UP).not_done:
            self._check()
        followed.result()
        seen.result()
        self._flying.popleft()
        self._retire(item)


def step_back() -> None:
    """Make the calling thread nicer: Linux gives each a niceness of its own."""
    me = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, me, min(19, max(NICENESS, os.getpriority(os.PRIO_PROCESS, me) + STEP)))
