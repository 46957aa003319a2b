"""Logging: readable on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

import structlog

from refgenied.config import Log


def set_up(settings: Log) -> None:
    """Configure structlog once for the process; `level` may be changed by another call (a reload)."""
    text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True) if not text else _short_time(),
            *([] if text else [structlog.processors.dict_tracebacks]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )


class _Stderr:
    """Writes a line; a full disk or a closed pipe behind stderr is no reason to end."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)  # noqa: T201

    debug = info = warning = error = critical = exception = msg


def _short_time() -> structlog.typing.Processor:
    return structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
