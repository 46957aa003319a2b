"""Archives that stay open between two ranges of one file.

Without that a stream that has no block table would be read from its beginning for every range.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from refgenied.archive import MemberReader
from refgenied.archive.place import Place

KEPT = 4
"""Readers that are kept open. A removed archive's room comes free when its reader goes."""
IDLE_SECONDS = 30.0

Key = tuple[str, int, int, str]


class Readers:
    """Blocking; any number of threads."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Key, MemberReader] = OrderedDict()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def read(self, place: Place, member: str, start: int, length: int) -> tuple[MemberReader, bytes]:
        """Bytes of one file of the archive, and what is known of the file. Errors as `MemberReader`."""
        key = _key(place, member)
        with self._lock:
            reader = self._idle.pop(key, None)
        reader = reader or MemberReader(place.archive, member)
        try:
            data = reader.read(start, length)
        except BaseException:
            reader.close()
            raise
        if start + length < reader.size:
            self._keep(key, reader)
        else:
            reader.close()
        return reader, data

    def _keep(self, key: Key, reader: MemberReader) -> None:
        with self._lock:
            other = self._idle.pop(key, None)
            self._idle[key] = reader
            oldest = self._idle.popitem(last=False)[1] if len(self._idle) > KEPT else None
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(IDLE_SECONDS, self.close)
            self._timer.daemon = True
            self._timer.start()
        for gone in (other, oldest):
            if gone is not None:
                gone.close()

    def close(self) -> None:
        """Close what is open and not in use."""
        with self._lock:
            idle, self._idle = self._idle, OrderedDict[Key, MemberReader]()
        for reader in idle.values():
            reader.close()


def _key(place: Place, member: str) -> Key:
    try:
        info = place.archive.stat()
    except OSError:
        return (str(place.archive), 0, 0, member)
    return (str(place.archive), info.st_ino, info.st_mtime_ns, member)
