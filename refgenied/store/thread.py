"""The one thread that calls SQLite. Its connection blocks, so the event loop must not call it."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

_Call = tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Callable[[], Any]]


class DatabaseThread:
    """Makes calls in order, one at a time. It does not keep the process alive."""

    def __init__(self) -> None:
        self._calls = SimpleQueue[_Call | None]()
        threading.Thread(target=self._work, name="database", daemon=True).start()

    async def run(self, function: Callable[[], T]) -> T:
        """Call the function in the thread; its result and its errors come back.

        A cancelled caller waits for its end, because a statement cannot be taken back. One visit costs more time than
        most statements.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._calls.put((loop, answer, function))
        with anyio.CancelScope(shield=True):
            await answer
        return answer.result()

    def end(self) -> None:
        """End the thread after the calls that were made so far."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            loop, answer, function = call
            try:
                tell = partial(_tell, answer, function(), None)
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                tell = partial(_tell, answer, None, error)
            with suppress(RuntimeError):  # the loop was closed, so nobody waits
                loop.call_soon_threadsafe(tell)
            del call, answer, function, tell


def _tell(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
