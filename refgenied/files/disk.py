"""Blocking calls on a disk that may never answer: the caller can be cancelled, and the process can end."""

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import msgspec

from refgenied.model import ShortageError

T = TypeVar("T")


class _Call(msgspec.Struct):
    run: Callable[[], Any]
    done: Callable[[], object]
    """Wakes the caller; safe from any thread."""
    given_up: bool = False
    result: Any = None
    error: BaseException | None = None


class DiskThread:
    """One thread makes the calls on one disk, one at a time, so that a dead disk blocks one thread and not all.

    In contrast to `anyio.to_thread`, a cancelled caller returns at once, and the thread does not keep the process
    alive. The call itself goes on until the disk answers; later calls wait for it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[_Call] = deque()
        self._lock = threading.Lock()
        self._working = False
        self._began: float | None = None

    @property
    def busy_since(self) -> float | None:
        """When the running call began (monotonic seconds); None when none is running."""
        return self._began

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Returns and raises what the function does; ShortageError when the system has no thread left."""
        loop, event, context = asyncio.get_running_loop(), anyio.Event(), contextvars.copy_context()
        call = _Call(lambda: context.run(function, *args), lambda: loop.call_soon_threadsafe(event.set))
        with self._lock:
            if not self._working:
                self._start()
            self._calls.append(call)
        try:
            await event.wait()
        except BaseException:
            call.given_up = True
            raise
        if call.error is not None:
            raise call.error
        return call.result

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError as error:
            raise ShortageError(f"the system has no thread for the {self._name}: {error}") from None
        self._working = True  # the thread waits for the lock that we hold here

    def _work(self) -> None:
        while (call := self._next()) is not None:
            if call.given_up:
                continue
            self._began = time.monotonic()
            try:
                call.result = call.run()
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                call.error = error
            self._began = None
            with suppress(RuntimeError):  # the event loop has ended: nobody waits any more
                call.done()
            del call

    def _next(self) -> _Call | None:
        """The next call; None when there is none: then the thread ends."""
        with self._lock:
            if self._calls:
                return self._calls.popleft()
            self._working = False
            return None
