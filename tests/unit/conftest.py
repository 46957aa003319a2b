"""For tests in one process: the verbs asked without a socket, and a guard that no test has a process or a socket."""

import os
import sys
from collections.abc import Iterator

import pytest
from controlled import Asked, Desk, context_of
from parts import Parts

OURS = ("refgenied", "refgenied.client", "refgeniectl")
guarded = False


def _guard(event: str, arguments: tuple[object, ...]) -> None:
    """Tools that an archive is checked with, such as gzip and sort, may run."""
    if not guarded:
        return
    if event in ("socket.bind", "os.fork"):
        raise AssertionError(f"{event} in a test of tests/unit/: it belongs into tests/integration/")
    if event == "subprocess.Popen":
        words = [os.fsdecode(word) for word in arguments[1] or ()]
        if any(
            os.path.basename(word) in OURS or "from refgenied" in word or "import refgenied" in word for word in words
        ):
            raise AssertionError(f"{words} in a test of tests/unit/: it belongs into tests/integration/")


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _one_process() -> Iterator[None]:
    global guarded  # noqa: PLW0603 - a hook stays for ever
    guarded = True
    yield
    guarded = False


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def desk(parts: Parts, asked: Asked) -> Desk:
    return Desk(context_of(parts, asked))
