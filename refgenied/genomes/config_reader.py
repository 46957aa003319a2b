"""Reads `genome_config.yaml` so that a torn one is never believed.

refgenie rewrites it in place: it is empty for 8 to 11 ms each time, and a cut file can be valid YAML. So a
read counts when the file's stat is the same before and after, and when it lacks what the last good read had
only if nothing has written to it until the next read.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

from refgenied.files.regular import open_regular
from refgenied.genomes.genome_config import Entry, GenomeConfig, parse_config
from refgenied.genomes.yaml_reader import MAX_BYTES, GarbledError
from refgenied.model import Problem

LONGEST_WAIT = 1.0  # seconds for a writer to end, and for two reads to agree
PAUSE = 0.05  # seconds between two reads that must agree
STALE_LOCK = 10.0  # seconds after which refgenie itself gives up on a lock
SETTLED = 2.0  # seconds: a file untouched for so long isn't being written, and its mtime will tell the next write

Identity = tuple[int, int, int, int, int]


class Reading(NamedTuple):
    """What is known of the config now."""

    config: GenomeConfig | None
    """None: it could not be read, now or before."""
    fresh: bool
    """Whether this is what the file says now; else it is what it said at `read_at`."""
    read_at: float
    """Unix seconds of the good read."""
    identity: Identity | None
    """Of the file as it was read."""
    problems: tuple[Problem, ...]


class _Raw(NamedTuple):
    identity: Identity
    config: GenomeConfig


class _TornError(Exception):
    pass


class ConfigReader:
    """Keeps the last good read of one config. Threads that read at once read one after the other."""

    def __init__(self, path: str) -> None:
        self.path = path
        folder, name = os.path.split(path)
        # ubiquerg's write lock, and the one of refgenie before 0.13; readers' locks don't matter to a reader.
        self._locks = [Path(folder, f"lock-write-{name}"), Path(folder, f"lock.{name}")]
        self._good: _Raw | None = None
        self._good_at = 0.0
        self._cached = False
        self._bad: tuple[Identity, Exception] | None = None
        """A file at rest that could not be read, and why: reading it again would take as long and tell the same."""
        self._lock = threading.Lock()

    def identity(self) -> Identity | None:
        """Of the file as it is now."""
        try:
            return _identity(os.stat(self.path))
        except OSError:
            return None

    def read(self, now: float) -> Reading:
        """Never raises for anything the file holds; waits up to about 1 s while it is being written."""
        with self._lock:
            return self._read(now)

    def _read(self, now: float) -> Reading:
        if self._good and self._cached and self.identity() == self._good.identity:
            self._good_at = now
            return self._reading(self._good, fresh=True)
        if self._bad and self.identity() == self._bad[0]:
            return self._reading(self._good, fresh=False, why=self._bad[1])
        until = time.monotonic() + LONGEST_WAIT
        before: Identity | None = None
        while True:
            self._await_writer(now, until)
            seen = self.identity()
            try:
                raw = self._attempt()
            except (_TornError, GarbledError, OSError) as error:
                why = error
                before = None
                settled = self._is_settled(self.identity(), now)
            else:
                settled = self._is_settled(raw.identity, now)
                if settled or raw.identity == before or (self._good and not _is_poorer(raw, self._good)):
                    self._good, self._good_at, self._cached = raw, now, settled
                    return self._reading(raw, fresh=True)
                why = _TornError("is being rewritten")
                before = raw.identity
            if settled or time.monotonic() + PAUSE > until:
                steady = seen if settled and seen == self.identity() else None
                self._bad = (steady, why) if steady and isinstance(why, GarbledError) else None
                return self._reading(self._good, fresh=False, why=why)
            time.sleep(PAUSE)

    def _reading(self, raw: _Raw | None, *, fresh: bool, why: Exception | None = None) -> Reading:
        problems = list(raw.config.problems) if raw and fresh else []
        if why is not None:
            problems.append(Problem(self.path, _told(why)))
        return Reading(
            raw.config if raw else None, fresh, self._good_at, raw.identity if raw else None, tuple(problems)
        )

    def _attempt(self) -> _Raw:
        with open(open_regular(self.path), "rb") as file:
            before = _identity(os.fstat(file.fileno()))
            if before[2] > MAX_BYTES:
                raise GarbledError(f"it is too large ({before[2]} bytes, at most {MAX_BYTES})", 0)
            text = file.read(before[2])
            after = _identity(os.fstat(file.fileno()))
        if before != after or self.identity() != after or len(text) != after[2]:
            raise _TornError("changed while it was read")
        if not text.strip():
            raise _TornError("is empty: refgenie may have been stopped while it wrote it")
        return _Raw(after, parse_config(text, self.path))

    def _await_writer(self, now: float, until: float) -> None:
        while time.monotonic() < until and any(self._is_held(lock, now) for lock in self._locks):
            time.sleep(0.005)

    def _is_held(self, lock: Path, now: float) -> bool:
        try:
            return abs(now - lock.stat().st_mtime) < STALE_LOCK
        except OSError:
            return False

    def _is_settled(self, identity: Identity | None, now: float) -> bool:
        return identity is None or abs(now - identity[3] / 1e9) > SETTLED


def _identity(info: os.stat_result) -> Identity:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _is_poorer(new: _Raw, old: _Raw) -> bool:
    """Whether something that was known is gone, as when a file is cut off."""
    if new.config.cut:
        return True
    entries = new.config.entries
    return old.config.genomes.keys() - new.config.genomes.keys() != set() or any(
        key not in entries or _lacks(entries[key], entry) for key, entry in old.config.entries.items()
    )


def _lacks(new: Entry, old: Entry) -> bool:
    return bool(old.asset_digest and not new.asset_digest) or not old.seek_keys.keys() <= new.seek_keys.keys()


def _told(why: Exception) -> str:
    if isinstance(why, GarbledError):
        return f"{why.told}; the last good read is used until it is mended"
    if isinstance(why, FileNotFoundError):
        return "refgenie's config is not there"
    if isinstance(why, OSError):
        return f"refgenie's config cannot be read: {why.strerror}"
    return str(why)
