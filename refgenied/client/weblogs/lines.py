"""Lines of access logs: the combined format of nginx and Apache, and Caddy's JSON.

The meaning of the numbers was measured with the servers of Debian 12: nginx 1.22, Apache 2.4, Caddy 2.6.

* nginx writes a line at the end of an answer, with the time of the end. `$body_bytes_sent` counts the bytes that nginx
  gave to the kernel. So after an interrupted transfer the number is smaller.
* Apache writes the line at the end too, but with the time of the beginning. `%O`, which is in Debian's own formats,
  counts the bytes that Apache gave to the kernel, with the headers. `%b` counts the bytes that Apache wanted to send:
  with it an interrupted transfer looks like a whole one.
* Caddy's `ts` is the time of the end, `duration` the length, `size` the bytes of the body that it gave to the kernel.
"""

import json
import re
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

LONGEST_NAME = 200
"""The most characters of a client's address, and of its user agent, that are kept."""

LAST_MOMENT = 2.0**33
"""A time in the year 2242, in Unix seconds. A later time is an error in the log."""
MOST_SENT_BYTES = 10**18

LINE = re.compile(
    rb"(?P<names>[^\[\"]*)\[(?P<at>[^\]]+)\] "
    rb'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d{1,18}|-)(?!\d)'
    rb'(?: "(?:[^"\\]|\\.)*" "(?P<agent>(?:[^"\\]|\\.)*)"(?P<more>.*))?'
)
"""The combined log format, also with the server's name in front and more fields at the end; and the common format."""
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
CONTENT_RANGE = re.compile(rb"\bbytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
RANGE = re.compile(rb"\bbytes=(\d{0,18})-(\d{0,18})(?![\d,])")
CONNECTION = re.compile(rb'" ([X+-])\s*$')
"""Apache's %X as the last field: X means that the transfer was interrupted."""


class StrangeLineError(ValueError):
    """The line is in another format."""


class Span(NamedTuple):
    """A range of bytes of an archive."""

    first: int | None
    """The first byte; None: the range is the last `end` bytes."""
    end: int | None
    """The byte after the last one; None: the archive's end."""
    total: int | None
    """The size of the archive in bytes, if the line has it."""


class Hit(NamedTuple):
    """A GET that was answered with 200 or 206."""

    client: str
    agent: str
    """Empty when the format has no user agents. `-` means a client without a user agent."""
    target: str
    ranged: bool
    sent: int | None
    """The number of bytes; None: Apache's `-`, which means 0."""
    at: float
    span: Span | None
    begun: float | None = None
    broken: bool | None = None
    """Whether the transfer was interrupted. None: only the number of bytes can show it."""
    with_headers: bool | None = None
    """Whether `sent` counts headers too; None when that is not known."""


def hit_of(line: bytes) -> Hit | None:
    """The GET in a line; None: the line is not a GET with an answer. StrangeLineError."""
    return _of_json(line) if line.startswith(b"{") else _of_combined(line)


def is_complete(line: bytes) -> bool:
    """Whether a last line without a newline seems to be whole."""
    if line.startswith(b"{"):
        return line.endswith(b"}")
    found = LINE.match(line)
    return bool(found and found["agent"] is not None and (line.endswith(b'"') or CONNECTION.search(line)))


class Clues(NamedTuple):
    """Facts about the format of a log that any line may show, even a line that is not a GET."""

    headers: bool = False
    """Whether numbers of bytes count headers: then an answer without a body has bytes."""
    apache_b: bool = False
    """Whether 0 bytes are written as `-`, like Apache's `%b`."""


def clues_of(line: bytes) -> Clues:
    found = None if line.startswith(b"{") else LINE.match(line)
    if found is None:
        return Clues()
    no_body = found["status"] == b"304" or found["request"].startswith(b"HEAD ")
    return Clues(headers=no_body and found["bytes"] not in (b"-", b"0"), apache_b=found["bytes"] == b"-")


def _of_combined(line: bytes) -> Hit | None:
    found = LINE.match(line)
    names = found["names"].split(b" ") if found else []
    if found is None or len(names) < 3:
        raise StrangeLineError
    if found["status"] not in (b"200", b"206") or not found["request"].startswith(b"GET "):
        return None
    at = _time(found["at"])
    # Debian's vhost_combined begins with the server's name and port; after the client there is nearly always `-`
    has_server = names[1] != b"-" and re.fullmatch(rb"\S+:\d+", names[0])
    more = found["more"] or b""
    connection = CONNECTION.search(more)
    return Hit(
        client=names[1 if has_server else 0].decode("utf-8", "replace")[:LONGEST_NAME],
        agent=_text(found["agent"] or b"")[:LONGEST_NAME],
        target=_text(found["request"]).removeprefix("GET ").partition(" ")[0],
        ranged=found["status"] == b"206",
        sent=None if found["bytes"] == b"-" else int(found["bytes"]),
        at=at,
        span=_span(more, more),
        broken=connection[1] == b"X" if connection else None,
    )


@lru_cache(maxsize=100)  # a log has many lines of the same second in a row
def _time(text: bytes) -> float:
    try:
        return _possible(datetime.strptime(text.decode(), "%d/%b/%Y:%H:%M:%S %z").timestamp())
    except ValueError:
        raise StrangeLineError from None


def _possible(at: float) -> float:
    """The same time. ValueError: it cannot be right."""
    if not 0 <= at < LAST_MOMENT:
        raise ValueError
    return at


def _text(raw: bytes) -> str:
    r"""The text without escapes: nginx writes `"` as \x22, Apache writes it as \"."""

    def plain(found: re.Match[bytes]) -> bytes:
        escaped = found[1]
        return bytes([int(escaped[1:], 16)]) if len(escaped) == 3 else escaped

    return ESCAPE.sub(plain, raw).decode("utf-8", "replace")


def _span(answered: bytes, asked: bytes) -> Span | None:
    if found := CONTENT_RANGE.search(answered):
        return Span(int(found[1]), int(found[2]) + 1, int(found[3]))
    if (found := RANGE.search(asked)) and (found[1] or found[2]):
        last = int(found[2]) if found[2] else None
        return Span(int(found[1]), None if last is None else last + 1, None) if found[1] else Span(None, last, None)
    return None


def _of_json(line: bytes) -> Hit | None:
    try:
        row: Any = json.loads(line)
        request = row["request"]
        status, method, uri = row["status"], request["method"], request["uri"]
        if status not in (200, 206) or method != "GET":
            return None
        at, seconds = _possible(_moment(row["ts"])), row.get("duration")
        asked: Any = request.get("headers")
        answered: Any = row.get("resp_headers")
        client = request.get("client_ip") or request.get("remote_ip") or request["remote_addr"].rpartition(":")[0]
        return Hit(
            client=_sendable(str(client))[:LONGEST_NAME],
            agent=_sendable(_header(asked, "User-Agent") or "-")[:LONGEST_NAME],
            target=str(uri),
            ranged=status == 206,
            sent=max(0, min(int(row["size"]), MOST_SENT_BYTES)),
            at=at,
            begun=at - seconds if isinstance(seconds, int | float) and 0 <= seconds <= at else None,
            span=_span(_header(answered, "Content-Range").encode(), _header(asked, "Range").encode()),
            with_headers=False,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise StrangeLineError from None


def _sendable(text: str) -> str:
    """The text without half surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _moment(ts: object) -> float:
    """Unix seconds. Caddy writes a number, or a text in one of two formats."""
    if isinstance(ts, str):
        return datetime.fromisoformat(ts.replace("/", "-")).timestamp()
    return float(ts)  # type: ignore[arg-type]


def _header(headers: Any, name: str) -> str:
    values = headers.get(name) if headers else None
    return str(values[0]) if values else ""
