"""Keeps a process that runs for months about as large as what it holds. Only the standard library."""

import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE_BYTES = 1 << 20


def give_back_early() -> None:
    """Tell glibc to give free memory back: one heap for all threads, and large blocks apart from it.

    Without this, each thread keeps a heap of its own, and after the first large block is freed, such blocks lie among
    the small ones: at 10,000 assets 5 MB stay free and unused. Another libc is left as it is.
    """
    import ctypes  # noqa: PLC0415 - the client needs none of this

    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _LARGE_BYTES)


@contextmanager
def without(module: str) -> Generator[None]:
    """In this context the module seems not to be installed, for those who use it only if it is there."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
