"""Logging: entries with fields when stderr is the journal, readable on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress

import structlog

from refgenied import journal, output
from refgenied.config import Log


def set_up(settings: Log, names: journal.Names | None = None) -> None:
    """Configure structlog once for the process; `level` may be changed by another call (a reload).

    `names` tells what else an asset is called, so that the journal finds it by any of its names.
    """
    text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    rendering, factory = _journal(names) if in_journal(settings) else _text() if text else _json()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )


def in_journal(settings: Log) -> bool:
    """Whether events go to the journal as entries."""
    return settings.format == "auto" and journal.is_stderr()


_Rendering = tuple[list[structlog.typing.Processor], Callable[..., structlog.typing.WrappedLogger]]


def _journal(names: journal.Names | None) -> _Rendering:
    fields = journal.Fields(names or (lambda path: [path]))
    written = journal.Journal()

    def factory(*_: object) -> journal.Journal:
        return written

    return [structlog.processors.format_exc_info, fields], factory


def _text() -> _Rendering:
    renderer = structlog.dev.ConsoleRenderer(
        colors=output.coloured(sys.stderr), exception_formatter=structlog.dev.plain_traceback
    )
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    return [stamp, structlog.processors.format_exc_info, _spelled, renderer], _stderr


def _spelled(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Values may be other people's names. What is no text is shown as Python spells it."""

    def line(value: object) -> object:
        return output.spelled(value) if isinstance(value, str) else value

    exception = event.pop("exception", None)
    spelled: structlog.typing.EventDict = {key: line(value) for key, value in event.items()}
    if exception is not None:
        spelled["exception"] = "\n".join(map(output.spelled, str(exception).split("\n")))
    return spelled


_TRACEBACKS = structlog.processors.ExceptionRenderer(
    # without the local variables of each frame: these are whole configs and requests, hundreds of KB a line
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def _json() -> _Rendering:
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return [stamp, _TRACEBACKS, structlog.processors.JSONRenderer()], _stderr


class _Stderr:
    """Writes a line; a full disk or a closed pipe behind stderr is no reason to end."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)  # noqa: T201

    debug = info = warning = error = critical = exception = msg


def _stderr(*_: object) -> _Stderr:
    return _Stderr()


def complain(message: str, hint: str) -> None:
    """One line for a person about why the process ends, and what to do; as an error where the journal listens."""
    if journal.is_stderr():
        line = f"{message} (hint: {hint})" if hint else message
        journal.Journal().write(
            [
                ("MESSAGE", line),
                ("PRIORITY", "3"),
                ("SYSLOG_IDENTIFIER", journal.IDENTIFIER),
                ("REFGENIED_EVENT", "daemon.refused"),
            ]
        )
        return
    output.complain("refgenied", message, hint)
