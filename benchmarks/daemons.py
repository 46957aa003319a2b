"""A daemon (and a server) of any interpreter over a genome folder, for `scale`: as processes, seen from outside.

What they take is read from /proc and from the database file, so that the question costs the daemon nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import inputs

sys.path.insert(0, str(Path(__file__).parents[1]))
from refgenied.client import Client

A_TICK = 1 / os.sysconf("SC_CLK_TCK")
SETTLE_SECONDS = 1.0
"""The default of `watch.settle_seconds`."""
READY_SECONDS = 900.0


class Took(NamedTuple):
    """A command of the client."""

    first: float
    """Seconds to its first row."""
    whole: float
    rows: int


class Daemon(NamedTuple):
    process: subprocess.Popen[bytes]
    ready: float
    """Seconds from its start to READY=1."""

    @property
    def cpu(self) -> float:
        """CPU seconds so far, with those of its children that have ended."""
        return cpu(self.process.pid)

    @property
    def memory(self) -> float:
        return memory(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(READY_SECONDS)


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * A_TICK


def memory(pid: int) -> float:
    """Resident megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


class House:
    """Folders, a configuration with its defaults, and the commands of one interpreter."""

    def __init__(self, root: Path, out: Path, genomes: Path, python: Path) -> None:
        self.root, self.genomes = root, genomes
        self.archives, self.state = out / "archives", out / "state"
        self.archives.mkdir(exist_ok=True)
        self.config, self.socket = root / "config.toml", root / "control.sock"
        self.log = root / "refgenied.log"
        self._commands = python.parent
        self._running: list[subprocess.Popen[bytes]] = []
        self._words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._words.bind(str(root / "notify"))
        self._number = 0

    @property
    def served_config(self) -> Path:
        return self.archives / "genome_config.yaml"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self._commands}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(self.root),
            "LANG": "C.UTF-8",
            "REFGENIED_SOCKET": str(self.socket),
            "COLUMNS": "200",
        }

    def start(self, **sections: dict[str, Any]) -> Daemon:
        """Start the daemon; it is ready when this returns."""
        settings: dict[str, dict[str, Any]] = {
            "refgenie": {"genome_folder": str(self.genomes), "genome_archive_folder": str(self.archives)},
            "state": {"folder": str(self.state)},
            "control": {"socket": str(self.socket), "max_connections": 200, "max_connections_per_user": 200},
            "log": {"format": "json"},
            "archive": {"scrub_days": 0},  # it would prove the archives beside what is measured
        }
        for name, section in sections.items():
            settings[name] = settings.get(name, {}) | section
        text = (
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
            for name, section in settings.items()
        )
        self.config.write_text("".join(text))
        began = time.monotonic()
        process = self._launch("run", {"NOTIFY_SOCKET": str(self.root / "notify")})
        self._words.settimeout(0.2)
        while time.monotonic() - began < READY_SECONDS:
            with suppress(TimeoutError):
                if b"READY=1" in self._words.recv(4096):
                    self._words.setblocking(False)
                    with suppress(BlockingIOError):
                        while self._words.recv(4096):
                            pass
                    return Daemon(process, time.monotonic() - began)
            if process.poll() is not None:
                break
        raise inputs.Missing(f"the daemon did not get ready: {self.log.read_text()[-2000:]}")

    def serve(self, port: int) -> subprocess.Popen[bytes]:
        """`refgenied serve`, not ready yet."""
        return self._launch("serve", {"STATE_DIRECTORY": str(self.root / "serving")}, "--port", str(port))

    def _launch(self, what: str, environment: dict[str, str], *more: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [self._commands / "refgenied", what, "--config", self.config, *more],
                env=self.environment | environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process

    def close(self) -> None:
        self._words.close()
        for process in self._running:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    # ----------------------------------------------------------------- questions

    def client(self) -> Client:
        return Client.connect(str(self.socket))

    def run(self, *arguments: str) -> Took:
        """`refgeniectl`: how long it took, with its own start. Its first row is its second line: the first is a head."""
        began = time.monotonic()
        with subprocess.Popen(
            [self._commands / "refgeniectl", *arguments],
            env=self.environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as process:
            first, rows = 0.0, 0
            while got := process.stdout.read1(1 << 16):  # type: ignore[union-attr]
                rows += got.count(b"\n")
                if rows >= 2 and not first:
                    first = time.monotonic() - began
        if process.returncode:
            raise inputs.Missing(f"refgeniectl {' '.join(arguments)} ended with {process.returncode}")
        whole = time.monotonic() - began
        return Took(first or whole, whole, rows)

    def archived(self, group: str = "") -> int:
        """How many archives the database has (of this asset group)."""
        where = ("WHERE asset_group = ?", (group,)) if group else ("", ())
        database = self.state / "refgenied.sqlite3"
        with suppress(sqlite3.OperationalError):  # it is not there yet
            connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
            try:
                return int(connection.execute(f"SELECT COUNT(*) FROM archive {where[0]}", where[1]).fetchone()[0])  # noqa: S608
            finally:
                connection.close()
        return 0

    def served(self) -> int:
        """How many archives the served config has."""
        try:
            return self.served_config.read_bytes().count(b"archive_digest:")
        except FileNotFoundError:
            return 0

    def wait_served(self, n: int, seconds: float) -> float:
        """Until the served config has as many archives; the moment (monotonic) when it was seen."""
        last: tuple[int, int] | None = None

        def complete() -> bool:
            nonlocal last
            with suppress(FileNotFoundError):
                info = self.served_config.stat()
                if (info.st_ino, info.st_mtime_ns) != last:
                    last = info.st_ino, info.st_mtime_ns
                    return self.served() >= n
            return False

        return until(complete, seconds, f"the served config has {n} archives")


def until(condition: Callable[[], object], seconds: float, what: str, every: float = 0.01) -> float:
    """Wait for it; the moment (monotonic)."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise inputs.Missing(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)
    return time.monotonic()


def at_rest(pid: int, seconds: float = 600.0) -> None:
    """Wait until a process has taken next to no CPU time for two seconds."""
    deadline = time.monotonic() + seconds
    quiet, before = 0, cpu(pid)
    while quiet < 4 and time.monotonic() < deadline:
        time.sleep(0.5)
        now = cpu(pid)
        quiet = quiet + 1 if now - before <= 0.03 else 0
        before = now


@contextmanager
def house(out: Path, genomes: Path, python: Path) -> Iterator[House]:
    """A socket's path must be short: the small files are in /tmp, the archives on the disk where `out` is."""
    with TemporaryDirectory(prefix="bench-") as root, TemporaryDirectory(prefix="out-", dir=out) as place:
        made = House(Path(root), Path(place), genomes, python)
        try:
            yield made
        finally:
            made.close()
