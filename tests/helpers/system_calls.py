"""Counts what the genome folder's library asks of the system."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_CALLS = ("open", "stat", "lstat", "fstat", "scandir", "listdir", "readlink", "close")


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """The calls made inside the block, by name."""
    calls: Counter[str] = Counter()

    def counting(name: str) -> object:
        real = getattr(os, name)

        def call(*args: object, **named: object) -> object:
            calls[name] += 1
            return real(*args, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, counting(name))
        yield calls
