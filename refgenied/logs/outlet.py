"""A separate thread writes the log lines, so code that logs never waits for a reader.

stderr may be a pipe that nobody reads, a stopped terminal, or a busy journal: a write may never end. Code that logs
only puts a line into a queue with a limit. Lines that do not fit are counted, and the number is logged when there is
room again.
"""

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

Write = Callable[[], object]
"""A function that writes one entry; it may block."""

MAX_QUEUE_BYTES = 8 << 20
"""The most bytes of waiting entries: about ten thousand lines."""
ENTRY_OVERHEAD_BYTES = 200
"""An entry takes about this much memory in addition to its text."""
FLUSH_SECONDS = 2.0
"""At its end the process waits at most this long for a reader of the log."""


class Outlet:
    """One thread writes the entries, each whole and in the order of the `put` calls. Any thread may call `put`."""

    def __init__(self, most_bytes: int = MAX_QUEUE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._changed = threading.Condition()  # the thread that holds its lock may take it again
        self._waiting: deque[tuple[Write, int]] = deque()
        self._size = 0
        self._lost = 0
        self._tell: Callable[[int], Write] | None = None
        self._thread: threading.Thread | None = None

    def put(self, write: Write, size: int, lost: Callable[[int], Write] | None = None) -> None:
        """Queue an entry of `size` bytes. Never blocks.

        `lost` makes an entry that says how many earlier entries did not fit.
        """
        size += ENTRY_OVERHEAD_BYTES
        with self._changed:
            if self._waiting and self._size + size > self._most_bytes:
                self._lost += 1
                self._tell = lost or self._tell
                return
            self._tell_lost()
            self._append(write, size)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until everything is written, but at most this long. Returns whether everything is written."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _append(self, write: Write, size: int) -> None:
        self._waiting.append((write, size))
        self._size += size

    def _tell_lost(self) -> None:
        if self._lost and self._tell is not None:
            number, self._lost = self._lost, 0
            self._append(self._tell(number), ENTRY_OVERHEAD_BYTES)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                write, size = self._waiting[0]  # an entry counts as waiting until it is written
            with suppress(Exception):  # a full disk or a closed pipe: the error cannot be reported anywhere
                write()
            with self._changed:
                self._waiting.popleft()
                self._size -= size
                if not self._waiting:
                    self._tell_lost()
                self._changed.notify_all()


def to_stderr(line: str) -> None:
    """Write a line; may block. OSError.

    It does not use `sys.stderr`, because a blocked write would hold the lock of `sys.stderr` until the process ends.
    """
    try:
        fd, encoding = sys.stderr.fileno(), sys.stderr.encoding
    except (OSError, ValueError):  # not a real stream, as in tests
        print(line, file=sys.stderr, flush=True)  # noqa: T201
    else:
        write_patiently(fd, f"{line}\n".encode(encoding or "utf-8", "backslashreplace"))


def write_patiently(fd: int, data: bytes) -> None:
    """Write to a descriptor, and wait until it takes everything, even if it is non-blocking. OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # another process shares the descriptor and has made it non-blocking
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
