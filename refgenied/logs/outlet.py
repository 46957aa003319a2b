"""Log lines on their way out: written by a thread of their own, so that nobody waits for who reads them.

Behind stderr there may be a pipe that nobody reads, a terminal that was stopped, or a journal that is busy: a write to
it may take for ever. Whoever has something to say only puts it into a queue, which is bounded; what finds no room is
counted, and the number is told when there is room again.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

Write = Callable[[], object]
"""Writes one entry; may block."""

MOST_BYTES = 8 << 20
"""That wait to be written: some ten thousand lines."""
MARGIN = 200
"""Bytes that an entry takes in memory beside its text, roughly."""
FLUSH_SECONDS = 2.0
"""How long the end of the process waits for who reads the log."""


class Outlet:
    """Entries come out in the order in which they were put in, each whole, by one thread. From any thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._changed = threading.Condition()  # its lock may be taken again by the thread that has it
        self._waiting: deque[tuple[Write, int]] = deque()
        self._size = 0
        self._lost = 0
        self._tell: Callable[[int], Write] | None = None
        self._thread: threading.Thread | None = None

    def put(self, write: Write, size: int, lost: Callable[[int], Write] | None = None) -> None:
        """Have an entry of `size` bytes written, soon. Never blocks.

        `lost` makes an entry that tells how many before it had no room.
        """
        size += MARGIN
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
        """Wait until all is written, but not longer; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _append(self, write: Write, size: int) -> None:
        self._waiting.append((write, size))
        self._size += size

    def _tell_lost(self) -> None:
        if self._lost and self._tell is not None:
            number, self._lost = self._lost, 0
            self._append(self._tell(number), MARGIN)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                write, size = self._waiting[0]  # it counts as waiting until it is written
            with suppress(Exception):  # a full disk, a closed pipe: there is nowhere to tell it
                write()
            with self._changed:
                self._waiting.popleft()
                self._size -= size
                if not self._waiting:
                    self._tell_lost()
                self._changed.notify_all()


def to_stderr(line: str) -> None:
    """Write a line; may block. Past `sys.stderr`, whose lock a write that blocks would hold even while the process
    ends. OSError.
    """
    try:
        fd, encoding = sys.stderr.fileno(), sys.stderr.encoding
    except (OSError, ValueError):  # a stand-in
        print(line, file=sys.stderr, flush=True)  # noqa: T201
    else:
        write_patiently(fd, f"{line}\n".encode(encoding or "utf-8", "backslashreplace"))


def write_patiently(fd: int, data: bytes) -> None:
    """Write to a descriptor that may be non-blocking, and wait for it where it is. OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody else, who shares it with us, made it so
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
