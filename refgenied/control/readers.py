"""Keeps archives open between two reads of one file.

Without this, a stream without a block table would be read from its beginning for every range.
"""

import threading
from collections import OrderedDict

from refgenied.archive.place import Place
from refgenied.archive.reader import MemberReader
from refgenied.files.regular import identity

MOST_KEPT = 4
"""The most readers that stay open. The disk space of a removed archive becomes free when its reader is closed."""
IDLE_SECONDS = 30.0
"""After this long without a read, all readers are closed."""

Key = tuple[str, str, tuple[int, ...]]
"""The archive's path, the file in it, and the identity of the archive's file."""


class Readers:
    """All methods block, and any number of threads may call them."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Key, MemberReader] = OrderedDict()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def read(self, place: Place, member: str, start: int, length: int) -> tuple[MemberReader, bytes]:
        """The file's reader, and the wanted bytes of the file. Errors as `MemberReader`."""
        key = (str(place.archive), member, identity(place.archive))
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
            oldest = self._idle.popitem(last=False)[1] if len(self._idle) > MOST_KEPT else None
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(IDLE_SECONDS, self.close)
            self._timer.daemon = True
            self._timer.start()
        for gone in (other, oldest):
            if gone is not None:
                gone.close()

    def close(self) -> None:
        """Close the readers that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, OrderedDict[Key, MemberReader]()
        for reader in idle.values():
            reader.close()
