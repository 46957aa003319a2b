"""Reads `genome_config.yaml`, and never believes a half-written file.

refgenie rewrites the file in place: it is empty for 8 to 11 ms each time, and a file that is cut off can be valid YAML.
So a read counts only if the file's stat is the same before and after it. If the new content lacks an entry of the last
good read, it counts only if the next read finds the same file.

A file that nobody has written since the last read is not read again. Its stat tells this only after the clock of its
disk has gone on since the last write, because two writes within one tick of that clock look the same.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from refgenied.files.regular import open_regular
from refgenied.genomes.genome_config import ConfigEntry, GenomeConfig
from refgenied.genomes.parsed_config import ParsedConfig
from refgenied.genomes.yaml_limits import MAX_BYTES
from refgenied.genomes.yaml_reader import GarbledError
from refgenied.model import Problem

LONGEST_READ_SECONDS = 1.0
"""A read waits at most this long until a writer has ended and two reads agree."""
BETWEEN_READS_SECONDS = 0.05
"""Seconds between two reads that must agree."""
LOCK_POLL_SECONDS = 0.005
"""Seconds between two looks at a writer's lock."""
STALE_LOCK_SECONDS = 10.0
"""refgenie itself ignores a lock that is older than this."""
UNTOUCHED_SECONDS = 2.0
"""If a file has not changed for this long, nobody is writing it, and its mtime will show the next write."""
FINE_TICK_SECONDS = 0.1
"""The same for the mtime alone, on a disk whose times have fractions of a hundredth of a second."""

Identity = tuple[int, int, int, int, int]


class KnownConfig(NamedTuple):
    """The config as far as it is known now."""

    config: GenomeConfig | None
    """The content; None: the file could never be read."""
    fresh: bool
    """True: the file has this content now. False: it had this content at `read_at`."""
    read_at: float
    """The time of the good read, in Unix seconds."""
    identity: Identity | None
    """The file's identity at the good read."""
    problems: tuple[Problem, ...]


class _Read(NamedTuple):
    identity: Identity
    parsed: ParsedConfig | None
    """None: the text ends within a line, as that of a file that is being written, so it was not parsed."""


class _Good(NamedTuple):
    identity: Identity
    parsed: ParsedConfig


class _TornError(Exception):
    """The file is being written."""


class ConfigReader:
    """Keeps the last good read of one config. Several threads may call it; they read one after the other."""

    def __init__(self, path: str, part: Callable[[bytes], bytes] = bytes) -> None:
        """`part`: the part of the text that is read; all of it."""
        self.path = path
        self._part = part
        folder, name = os.path.split(path)
        # The write lock of ubiquerg, and the write lock of refgenie before 0.13. Locks of readers do not matter.
        self._locks = [Path(folder, f"lock-write-{name}"), Path(folder, f"lock.{name}")]
        self._good: _Good | None = None
        self._good_at = 0.0
        self._cached = False
        """Whether a write after the good read would show in the file's identity."""
        self._seen: tuple[Identity | None, float] = None, 0.0
        """An identity of the file, and the monotonic time when it was first seen."""
        self._bad: tuple[Identity, Exception] | None = None
        """A file at rest that could not be read, and why. It is not read again: the result would be the same."""
        self._lock = threading.Lock()

    def identity(self) -> Identity | None:
        """The file's identity now."""
        try:
            return _identity(os.stat(self.path))
        except OSError:
            return None

    def read(self, now: float) -> KnownConfig:
        """Read the config. No content of the file raises an error. While it is being written, wait up to about 1 s."""
        with self._lock:
            return self._read(now)

    def _read(self, now: float) -> KnownConfig:
        if self._good and self._cached and self.identity() == self._good.identity:
            self._good_at = now
            return self._known()
        if self._bad and self.identity() == self._bad[0]:
            return self._known(self._bad[1])
        until = time.monotonic() + LONGEST_READ_SECONDS
        before: _Read | None = None
        first = True
        while True:
            while time.monotonic() < until and any(self._is_held(lock, now) for lock in self._locks):
                time.sleep(LOCK_POLL_SECONDS)
            seen, rested = self.identity(), self._rested()
            try:
                read = self._attempt(before, now)
                if first:  # however long the parser took, a second read may still agree
                    first, until = False, max(until, time.monotonic() + 2 * BETWEEN_READS_SECONDS)
            except (_TornError, GarbledError, OSError) as error:
                why = error
                before = None
                settled = self._is_settled(self.identity(), now)
            else:
                settled = self._is_settled(read.identity, now)
                agree = before is not None and read.identity == before.identity
                if read.parsed and (settled or agree or not self._is_poorer(read.parsed)):
                    self._good, self._good_at = _Good(read.identity, read.parsed), now
                    self._cached = settled or rested == read.identity
                    return self._known()
                why = _TornError("is being rewritten")
                before = read
            if settled or time.monotonic() + BETWEEN_READS_SECONDS > until:
                steady = seen if settled and seen == self.identity() else None
                self._bad = (steady, why) if steady and isinstance(why, GarbledError) else None
                return self._known(why)
            time.sleep(BETWEEN_READS_SECONDS)

    def _rested(self) -> Identity | None:
        """The file's identity, if it has been the same for so long that each further write will change it."""
        identity, now = self.identity(), time.monotonic()
        if identity != self._seen[0]:
            self._seen = identity, now
        is_fine = identity is not None and identity[4] % 10_000_000 != 0
        return identity if now - self._seen[1] > (FINE_TICK_SECONDS if is_fine else UNTOUCHED_SECONDS) else None

    def _known(self, why: Exception | None = None) -> KnownConfig:
        """The last good read, and why it may differ from the file now."""
        config, identity = (self._good.parsed.config, self._good.identity) if self._good else (None, None)
        if why is not None:
            return KnownConfig(config, False, self._good_at, identity, (Problem(self.path, _told(why)),))
        return KnownConfig(config, True, self._good_at, identity, config.problems if config else ())

    def _attempt(self, before: _Read | None, now: float) -> _Read:
        with open(open_regular(self.path), "rb") as file:
            identity = _identity(os.fstat(file.fileno()))
            if identity[2] > MAX_BYTES:
                raise GarbledError(f"it is too large ({identity[2]} bytes, at most {MAX_BYTES})")
            text = file.read(identity[2])
            after = _identity(os.fstat(file.fileno()))
        if identity != after or self.identity() != after or len(text) != after[2]:
            raise _TornError("changed while it was read")
        if not text or text.isspace():
            raise _TornError("is empty: refgenie may have been stopped while it wrote it")
        agrees = before is not None and after == before.identity
        if self._good and not (text.endswith(b"\n") or agrees or self._is_settled(after, now)):
            return _Read(after, None)
        known = (before and before.parsed) or (self._good.parsed if self._good else None)
        return _Read(after, ParsedConfig.read(self._part(text), self.path, known))

    def _is_poorer(self, new: ParsedConfig) -> bool:
        """Whether a new read lacks an entry of the good one, as in a file that is cut off. Without one, it may."""
        good = self._good.parsed if self._good else None
        return good is None or (new is not good and _lacks_some(new.config, good.config))

    def _is_held(self, lock: Path, now: float) -> bool:
        try:
            return abs(now - lock.stat().st_mtime) < STALE_LOCK_SECONDS
        except OSError:
            return False

    def _is_settled(self, identity: Identity | None, now: float) -> bool:
        return identity is None or abs(now - identity[3] / 1e9) > UNTOUCHED_SECONDS


def _identity(info: os.stat_result) -> Identity:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _lacks_some(new: GenomeConfig, old: GenomeConfig) -> bool:
    if new.cut or not old.genomes.keys() <= new.genomes.keys():
        return True
    entries = new.entries
    for key, entry in old.entries.items():
        now = entries.get(key)
        if now is not entry and (now is None or _lacks(now, entry)):
            return True
    return False


def _lacks(new: ConfigEntry, old: ConfigEntry) -> bool:
    return bool(old.asset_digest and not new.asset_digest) or not old.seek_keys.keys() <= new.seek_keys.keys()


def _told(why: Exception) -> str:
    if isinstance(why, GarbledError):
        return f"{why}; the last good read is used until the file is repaired"
    if isinstance(why, FileNotFoundError):
        return "refgenie's config is not there"
    if isinstance(why, OSError):
        return f"refgenie's config cannot be read: {why.strerror}"
    return str(why)
