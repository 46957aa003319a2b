"""Many threads, one order: blocks come out in the order in which they went in.

For every item `work` runs on one of the worker threads. One separate thread calls `then` with the results, in order.
Another one calls `aside` with the items, in order, at the same time as the work (for hashes, whose order matters). The
caller's thread pushes items, waits, takes items back and asks whether to go on. Every error of the other threads is
raised in the caller's thread, and no thread lives longer than the `with`.

No thread is started for a single item, because the caller would only wait for them: most small assets are one block.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from refgenied.archive.run import Run

MAX_THREADS = 32
"""With more threads, the blocks in flight would need more memory than is promised."""

CHECK_SECONDS = 0.05
"""While the caller's thread waits, it asks at this interval whether to go on."""

NICENESS = 10
"""The least niceness of the worker threads. Other processes and the daemon's own control API go first."""
STEP = 5
"""How much nicer the worker threads are than a daemon that is nice already."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Pipeline(Generic[ItemT, ResultT]):
    """See the module. At most `depth` items are in flight; `retire` gets each item back, in the caller's thread."""

    def __init__(
        self,
        *,
        work: Callable[[ItemT], ResultT],
        then: Callable[[ResultT], None],
        aside: Callable[[ItemT], None],
        retire: Callable[[ItemT], None],
        run: Run,
    ) -> None:
        self._threads = min(run.threads, MAX_THREADS)
        self.depth = self._threads + min(self._threads, 8) + 2
        self._work = work
        self._then = then
        self._aside = aside
        self._retire = retire
        self._check = run.check
        self._pools: _Pools | None = None
        self._held: list[ItemT] = []
        """The first item, until there is a second one."""
        self._flying: deque[tuple[ItemT, Future[None], Future[None]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pools is not None:
            self._pools.end()

    def push(self, item: ItemT) -> None:
        """Hand over the next item; waits while too many are in flight. Raises the errors of earlier items."""
        if self._pools is None:
            self._held.append(item)
            if len(self._held) == 1:
                return
            self._pools = _Pools(self._threads)
            first, item = self._held
            self._held.clear()
            self._submit(first, self._pools)
        while len(self._flying) >= self.depth:
            self._settle_oldest()
        self._submit(item, self._pools)
        while self._flying and self._flying[0][1].done() and self._flying[0][2].done():
            self._settle_oldest()

    def finish(self) -> None:
        """Wait until everything that was pushed has gone through."""
        for only in self._held:
            self._check()
            self._then(self._work(only))
            self._aside(only)
            self._retire(only)
        self._held.clear()
        while self._flying:
            self._settle_oldest()

    def _submit(self, item: ItemT, pools: _Pools) -> None:
        result = pools.workers.submit(self._work, item)
        followed = pools.follower.submit(lambda: self._then(result.result()))
        seen = pools.bystander.submit(self._aside, item)
        self._flying.append((item, followed, seen))

    def _settle_oldest(self) -> None:
        item, followed, seen = self._flying[0]
        self._check()
        while wait((followed, seen), CHECK_SECONDS).not_done:
            self._check()
        followed.result()
        seen.result()
        self._flying.popleft()
        self._retire(item)


class _Pools:
    def __init__(self, threads: int) -> None:
        self.workers = ThreadPoolExecutor(threads, "archive-work", step_back)
        self.follower = ThreadPoolExecutor(1, "archive-then")
        self.bystander = ThreadPoolExecutor(1, "archive-aside")

    def end(self) -> None:
        # The follower thread may wait for work that was never begun. It wakes when the workers' queue is cancelled.
        for pool in (self.bystander, self.follower, self.workers):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self.workers, self.follower, self.bystander):
            pool.shutdown(wait=True)


def step_back() -> None:
    """Make the calling thread nicer: on Linux each thread has its own niceness."""
    me = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, me, min(19, max(NICENESS, os.getpriority(os.PRIO_PROCESS, me) + STEP)))
