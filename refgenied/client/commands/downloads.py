"""`downloads import`: counts the downloads that another web server has in its access log."""

import gzip
import os
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import BinaryIO

from refgenied.client import ClientError, Json, interrupt, words
from refgenied.client.session import DONE, Session
from refgenied.client.weblogs.reader import Reader, batches, beginning, lines_of, numbered
from refgenied.client.weblogs.targets import Targets
from refgenied.shared import output

LOOK_LINES = 20_000
"""This many first lines of a log are read before the import, to learn the meaning of its numbers."""


def import_log(session: Session, *, log: str) -> int:
    """Count the downloads in an access log of nginx, Apache or Caddy; to do it twice does no harm."""
    targets = Targets(row for page in session.pages("download.editions", "assets") for row in page.rows)
    reader = Reader(targets, with_headers=_with_headers(log, targets))
    totals: Counter[str] = Counter(recorded=0, known=0, unknown=0)
    stopped = "nothing more is counted; what was counted stays, and the same command counts the rest"
    try:
        with interrupt.told(stopped), _opened(log) as (file, identity):

            def begin(first: list[tuple[bytes, Json]], following: bytes | None) -> dict[str, int]:
                start = beginning(reader.first_line, identity, first, following)
                return session.ask("download.log", **start)["before"]

            for batch in batches(numbered(reader.requests(lines_of(file)), begin)):
                totals.update(session.ask("download.requests", requests=batch))
    except (OSError, EOFError, zlib.error) as error:
        raise ClientError(f"{log} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if reader.lines and reader.strange == reader.lines:
        message = f"{log} is neither in combined log format nor Caddy's JSON"
        raise ClientError(message, "nginx: access_log FILE combined;")
    known = f", {totals['known']} were counted before" if totals["known"] else ""
    session.tell(
        {"lines": reader.lines, "other_lines": reader.strange, **totals, "notes": reader.notes},
        f"{words.several(reader.lines, 'line')}: counted {words.several(totals['recorded'], 'download')}{known}",
    )
    for note in [] if session.json else reader.notes:
        output.note("refgeniectl", note)
    return DONE


def _with_headers(name: str, targets: Targets) -> bool | None:
    """Whether the log's numbers count headers; None: its beginning does not show it."""
    reader = Reader(targets)
    # a fault is reported when the whole log is read; a pipe can be read only once
    with suppress(OSError, EOFError, zlib.error), _opened(name if os.path.isfile(name) else os.devnull) as (log, _):
        for _ in reader.requests(islice(lines_of(log), LOOK_LINES)):
            if reader.with_headers is not None:
                break
    return reader.with_headers


@contextmanager
def _opened(name: str) -> Generator[tuple[BinaryIO, str]]:
    """The log, and an identity of the file; the identity is empty when it is not a file."""
    if name == "-":
        yield sys.stdin.buffer, ""
        return
    with open(name, "rb") as file:
        found = os.fstat(file.fileno())
        identity = f"{found.st_dev}:{found.st_ino}" if stat.S_ISREG(found.st_mode) else ""
        if file.peek(2)[:2] != b"\x1f\x8b":
            yield file, identity
            return
        with gzip.open(file) as log:
            yield log, identity  # type: ignore[misc]
