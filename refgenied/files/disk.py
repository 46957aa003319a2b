"""Makes blocking calls on a disk that may never answer. The caller can still be cancelled, and the process can end."""

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from refgenied.model import ShortageError

T = TypeVar("T")


class DiskThread:
    """One thread makes the calls on one disk, one at a time. So a dead disk blocks only this thread.

    In contrast to `anyio.to_thread`, a cancelled caller returns at once, and the thread does not keep the process
    alive. The call itself goes on until the disk answers; later calls wait for it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._lock = threading.Lock()
        self._working = False
        self.busy_since: float | None = None
        """When the running call began (monotonic seconds); None when none is running."""

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call the function in the thread; its result and its errors come back. ShortageError: no thread is left."""
        answer = Future[T]()
        call = partial(contextvars.copy_context().run, function, *args)
        with self._lock:
            if not self._working:
                self._start()
            self._calls.append((answer, call))
        return await asyncio.wrap_future(answer)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError as error:
            raise ShortageError(f"the system has no thread for the {self._name}: {error}") from None
        self._working = True  # the new thread cannot run before we release the lock

    def _work(self) -> None:
        while (waiting := self._next()) is not None:
            answer, call = waiting
            if not answer.set_running_or_notify_cancel():  # the caller was cancelled
                continue
            self.busy_since = time.monotonic()
            try:
                tell = partial(answer.set_result, call())
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                tell = partial(answer.set_exception, error)
            self.busy_since = None
            tell()
            del answer, call, tell, waiting

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """The next call; None: there is none, and the thread ends."""
        with self._lock:
            if self._calls:
                return self._calls.popleft()
            self._working = False
            return None
