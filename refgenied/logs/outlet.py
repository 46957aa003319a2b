"""A thread of its own writes the log lines, so that code that logs never waits for a reader.

stderr may be a pipe that nobody reads, a stopped terminal, or a busy journal: a write may take for ever. Code that logs
only puts a line into a queue with a limit. Lines without room are counted, and the number is logged when there is room
again.
"""

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

Write = Callable[[], object]
"""Writes one entry; may block."""

MAX_QUEUE_BYTES = 8 << 20
"""Entries that wait to be written: about ten thousand lines."""
ENTRY_OVERHEAD_BYTES = 200
"""About what an entry takes in memory beside its text."""
FLUSH_SECONDS = 2.0
"""How long the process, when it ends, waits for a reader of the log."""


class Outlet:
    """One thread writes the entries, each whole and in the order in which they were put in. Any thread may put."""

    def __init__(self, most_bytes: int = MAX_QUEUE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._changed = threading.Condition()  # the thread that holds its lock may take it again
        self._waiting: deque[tuple[Write, int]] = deque()
        self._size = 0
        self._lost = 0
        self._tell: Callable[[int], Write] | None = None
        self._thread: threading.Thread | None = None

    def put(self, write: Write, size: int, lost: Callable[[int], Write] | None = None) -> None:
        """Let an entry of `size` bytes be written soon. Never blocks.

        `lost` makes an entry that says how many entries before it had no room.
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
        """Wait until everything is written, but not longer than this; returns whether it is."""
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
            with suppress(Exception):  # a full disk or a closed pipe: nowhere is left to report it
                write()
            with self._changed:
                self._waiting.popleft()
                self._size -= size
                if not self._waiting:
                    self._tell_lost()
                self._changed.notify_all()


def to_stderr(line: str) -> None:
    """Write a line; may block. OSError.

    It does not use `sys.stderr`: a blocked write would hold the lock of that even while the process ends.
    """
    try:
        fd, encoding = sys.stderr.fileno(), sys.stderr.encoding
    except (OSError, ValueError):  # not a real stream, as in tests
        print(line, file=sys.stderr, flush=True)  # noqa: T201
    else:
        write_patiently(fd, f"{line}\n".encode(encoding or "utf-8", "backslashreplace"))


def write_patiently(fd: int, data: bytes) -> None:
    """Write to a descriptor, and wait until it takes everything, also when it is non-blocking. OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # a process that shares it with us made it non-blocking
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
