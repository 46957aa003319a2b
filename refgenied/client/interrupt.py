"""After Ctrl-C one line says what continues and what is undone."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from refgenied.shared import output


@contextmanager
def told(what: str | Callable[[], str]) -> Generator[None]:
    """A context: if Ctrl-C is pressed in it, say `what`, and pass Ctrl-C on.

    SIGTERM and a closed terminal count as Ctrl-C. So a bar leaves the terminal as it was.
    """
    before = _caught(signal.SIGTERM, signal.SIGHUP)
    try:
        yield
    except KeyboardInterrupt:
        output.note("refgeniectl", what if isinstance(what, str) else what(), below=True)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _caught(*numbers: signal.Signals) -> dict[signal.Signals, signal.Handlers]:
    """The signals that would have ended the process at once. A signal that `nohup` ignores stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    mine = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, signal.default_int_handler)  # it raises KeyboardInterrupt
    return dict.fromkeys(mine, signal.SIG_DFL)
