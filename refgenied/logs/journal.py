"""journald's native protocol: one event is one entry with fields that `journalctl FIELD=value` finds.

JSON lines on stderr would reach the journal too, but as text without fields to filter by, and all with one priority.
The protocol is used when `$JOURNAL_STREAM` is stderr. An entry about an asset has the field `REFGENIED_ASSET` once with
the genome digest and once for each alias.
https://systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refgenied.logs.outlet import to_stderr

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "refgenied"
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}

Field = tuple[str, str]
AssetNames = Callable[[str], Iterable[str]]
"""From one registry path to all registry paths of the asset: with its genome's digest, and with each alias."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_TOO_LONG = frozenset({errno.EMSGSIZE, errno.ENOBUFS})
_NOT_IN_A_NAME = re.compile(r"[^A-Z0-9_]")
_SPOKEN_FIRST = ("message", "error", "reason")
_SPOKEN_LAST = frozenset({"event", "level", "exception"})


def is_stderr(env: Mapping[str, str] | None = None) -> bool:
    """Whether stderr goes to the journal. Then $JOURNAL_STREAM holds the device and inode of stderr."""
    named = (os.environ if env is None else env).get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


def fields_of(names: AssetNames, event: Mapping[str, Any]) -> list[Field]:
    """An event as the fields of one entry."""
    given = {key: str(value) for key, value in event.items() if value is not None}
    called = list(dict.fromkeys(names(given["asset"]))) if given.get("asset") else []
    fields = [
        ("MESSAGE", message(given, called)),
        ("PRIORITY", str(PRIORITIES.get(given.get("level", ""), 6))),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
    ]
    fields += [("REFGENIED_ASSET", name) for name in called]
    for key, value in given.items():
        if key not in ("asset", "level"):
            fields.append((f"REFGENIED_{_NOT_IN_A_NAME.sub('_', key.upper())}", value))
    return fields


def message(event: Mapping[str, str], called: list[str]) -> str:
    """An event for people: its name, its message, and the rest as `key=value`."""
    text = event.get("event", "")
    if called:
        text += f" {called[-1]}"  # an alias, if there is one
    said = [event[key] for key in _SPOKEN_FIRST if event.get(key)]
    rest = [f"{key}={value}" for key, value in event.items() if key not in {*_SPOKEN_FIRST, *_SPOKEN_LAST, "asset"}]
    text += "".join(f": {line}" for line in said)
    if rest:
        text += f" ({', '.join(rest)})"
    return f"{text}\n{event['exception']}" if "exception" in event else text


def write(fields: list[Field], address: str = SOCKET) -> None:
    """Write an entry; this may block. If journald does not accept it, it goes to stderr as a line of text."""
    entry = b"".join(_encoded(name, value) for name, value in fields)
    try:
        _send(entry, address)
    except OSError:
        known = dict(reversed(fields))
        text = known.get("MESSAGE", "").replace("\n", " | ")
        to_stderr(f"<{known.get('PRIORITY', '6')}>{text}")


def _send(entry: bytes, address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(entry, address)
        except OSError as error:
            if error.errno not in _TOO_LONG:
                raise
            _send_large(sender, entry, address)


def _send_large(sender: socket.socket, entry: bytes, address: str) -> None:
    """An entry that does not fit into a datagram is handed over as a sealed file in memory."""
    with open(os.memfd_create("refgenied-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
        file.write(entry)
        file.flush()
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file.fileno()))]
        sender.sendmsg([], rights, 0, address)


def _encoded(name: str, value: str) -> bytes:
    data = value.encode("utf-8", errors="backslashreplace")
    if b"\n" not in data:
        return name.encode("ascii") + b"=" + data + b"\n"
    return name.encode("ascii") + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
