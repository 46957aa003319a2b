"""What Ctrl-C leaves behind, in one line: a person who pressed it should know what goes on and what is undone."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from refgenied import output


@contextmanager
def told(what: Callable[[], str]) -> Generator[None]:
    """Say `what` holds when Ctrl-C is pressed meanwhile, and pass it on."""
    try:
        yield
    except KeyboardInterrupt:
        output.note("refgeniectl", what(), below=True)
        raise
