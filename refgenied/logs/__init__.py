"""Logging: entries with fields if stderr is the journal, text on a terminal, else one JSON object in each line.

Code that logs never waits for a reader of the log: see `outlet`.
"""

import atexit
import faulthandler
import itertools
import logging
import os
import stat
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from refgenied.config.settings import Log
from refgenied.logs import journal
from refgenied.logs.outlet import FLUSH_SECONDS, Outlet, Write, to_stderr
from refgenied.shared import output

_outlet = Outlet()
"""The process has only one, so lines keep their order."""


def set_up(settings: Log, names: journal.AssetNames = lambda path: [path]) -> None:
    """Configure structlog for the process. A reload calls it again, with another `level`.

    `names` gives all names of an asset. The journal then finds the asset's entries by each of them.
    """
    if settings.format == "auto" and journal.is_stderr():
        rendering, write = _journal(names), journal.write
    elif settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty()):
        rendering, write = _text(), to_stderr
    else:
        rendering, write = _json(), to_stderr
    queued = _Queued(write, rendering)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=lambda *_: queued,
        cache_logger_on_first_use=False,
    )


@atexit.register
def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Wait until everything is written, but at most this long, because perhaps nobody reads the log."""
    _outlet.flush(seconds)


def take_over(logger: structlog.typing.FilteringBoundLogger) -> None:
    """Write the warnings and errors that libraries log with Python's own logging into our log."""
    root = logging.getLogger()
    root.handlers[:] = [_ToStructlog(logger)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def show_crashes() -> None:
    """After a crash or the watchdog's SIGABRT, print where every thread was. A full pipe does not block this."""
    number = 2
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISFIFO(mode) or os.isatty(number):  # open it again, with a flag of our own
            number = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        pass
    faulthandler.enable(number)


_Rendering = Sequence[structlog.typing.Processor]
"""The steps from an event to the written text."""


def _journal(names: journal.AssetNames) -> _Rendering:
    def fields(_logger: object, _method: str, event: structlog.typing.EventDict) -> tuple[Any, dict[str, Any]]:
        return (journal.fields_of(names, event),), {}

    return [structlog.processors.format_exc_info, fields]


def _text() -> _Rendering:
    renderer = structlog.dev.ConsoleRenderer(
        colors=output.coloured(sys.stderr), exception_formatter=structlog.dev.plain_traceback
    )
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    return [stamp, structlog.processors.format_exc_info, _spelled, renderer]


class _Spelled:
    """A text that is printable already. Without this class structlog would change it a second time."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"'{output.spelled(self._text)}'"


def _spelled(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Make texts harmless, because they may be names from other people. structlog itself prints other values."""
    exception = event.pop("exception", None)
    spelled: structlog.typing.EventDict = {
        key: _Spelled(value) if isinstance(value, str) and not value.isprintable() else value
        for key, value in event.items()
    }
    spelled["event"] = output.spelled(str(event["event"]))
    if exception is not None:
        spelled["exception"] = "\n".join(map(output.spelled, str(exception).split("\n")))
    return spelled


_TRACEBACKS = structlog.processors.ExceptionRenderer(
    # without the local variables of each frame: they hold whole configs and requests, hundreds of KB in a line
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def _json() -> _Rendering:
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return [stamp, _TRACEBACKS, structlog.processors.JSONRenderer()]


class _Queued:
    """The logger of structlog: each rendered event goes into the one queue of the process."""

    def __init__(self, write: Callable[[Any], None], rendering: _Rendering) -> None:
        self._write = write
        self._rendering = rendering

    def msg(self, event: Any) -> None:
        size = len(event) if isinstance(event, str) else sum(map(len, itertools.chain.from_iterable(event)))
        _outlet.put(partial(self._write, event), size, self._lost)

    def _lost(self, number: int) -> Write:
        event: Any = {"event": "log.lines_lost", "level": "warning", "number": number}
        for processor in self._rendering:
            event = processor(None, "warning", event)
        return partial(self._write, event if isinstance(event, str) else event[0][0])

    debug = info = warning = error = critical = exception = msg


class _ToStructlog(logging.Handler):
    def __init__(self, logger: structlog.typing.FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        say = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        say("library", logger=record.name, message=record.getMessage(), exc_info=record.exc_info)


def complain(message: str, hint: str) -> None:
    """Say in one line why the process ends, and what to do. If stderr is the journal, this is an error entry."""
    if journal.is_stderr():
        line = f"{message} (hint: {hint})" if hint else message
        fields = [
            ("MESSAGE", line),
            ("PRIORITY", "3"),
            ("SYSLOG_IDENTIFIER", journal.IDENTIFIER),
            ("REFGENIED_EVENT", "daemon.refused"),
        ]
        _outlet.put(partial(journal.write, fields), len(line))
    else:
        text = output.complaint("refgenied", message, hint)
        _outlet.put(partial(to_stderr, text), len(text))
