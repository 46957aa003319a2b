"""A whole server in a temporary folder: genome folder, archive folder, the daemon as a process of its own, its client.

Everything is seen from outside: through the installed commands, their exit status and their `--json`.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[2]
HELPERS = Path(__file__).parent
SCRIPTS = Path(sys.executable).parent
PATIENCE = 60.0
"""Seconds after which something that never came counts as a failure. Nothing is expected to take so long."""
MEASURED = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
"""What makes a process count the lines that it runs, under `make coverage`."""

Row = dict[str, Any]


def command_of(name: str, module: str) -> list[str]:
    """The installed console script, or the module when the package is not installed."""
    script = SCRIPTS / name
    return [str(script)] if script.exists() else [sys.executable, "-m", module]


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


class Lab:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.genomes = root / "genomes"
        self.archives = root / "archives"
        self.state = root / "state"
        self.socket = root / "control.sock"
        self.config = root / "config.toml"
        self.genomes.mkdir(exist_ok=True)
        self.daemons: list[Daemon] = []
        self.configure()

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's but the PATH, with this interpreter's commands first (and that lines are counted)."""
        return {
            "PATH": f"{SCRIPTS}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(self.root),
            "LANG": "C.UTF-8",
            "REFGENIE": str(self.genomes / "genome_config.yaml"),
            "REFGENIED_SOCKET": str(self.socket),
            "COLUMNS": "200",
        } | MEASURED

    def configure(self, **sections: dict[str, Any]) -> None:
        """Write the daemon's configuration: our folders, hints settle at once, sweeps are too rare to matter."""
        settings: dict[str, dict[str, Any]] = {
            "refgenie": {"genome_folder": str(self.genomes), "genome_archive_folder": str(self.archives)},
            "state": {"folder": str(self.state)},
            "control": {"socket": str(self.socket)},
            "watch": {"settle_seconds": 0.1},
            "archive": {"retry_seconds": 0.2},
            "log": {"format": "json"},
        }
        for name, section in sections.items():
            settings.setdefault(name, {}).update(section)
        self.config.write_text(
            "".join(
                f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
                for name, section in settings.items()
            ),
            encoding="utf-8",
        )

    def start(self) -> Daemon:
        """Start the daemon; it is ready when this returns."""
        daemon = self.launch()
        daemon.wait_ready()
        return daemon

    def launch(self, *command: str, output: int | None = None) -> Daemon:
        """Start the daemon (or another command in its place) without waiting for it. `output`: a descriptor for what
        it says, instead of a file.
        """
        self.daemons.append(Daemon(self, len(self.daemons), command or command_of("refgenied", "refgenied"), output))
        return self.daemons[-1]

    def close(self) -> None:
        """Stop what runs; print the logs (pytest shows them for a test that failed); fail on an unclean end."""
        problems = [problem for daemon in self.daemons if (problem := daemon.close())]
        assert not problems, "\n".join(problems)

    # ----------------------------------------------------------------- the client

    def ctl(self, *arguments: str) -> Said:
        """Run `refgeniectl`."""
        done = subprocess.run(
            [*command_of("refgeniectl", "refgenied.client"), *arguments],
            env=self.environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def rows(self, *arguments: str) -> list[Row]:
        """Run `refgeniectl … --json` and read its answer, one object a line."""
        said = self.ctl(*arguments, "--json")
        assert said.code == 0, said
        return [json.loads(line) for line in said.out.splitlines()]

    def wait(self, path: str, seconds: float = PATIENCE) -> Said:
        """`archive wait --served`: what is pulled next is there."""
        return self.ctl("archive", "wait", path, "--served", "--timeout", str(seconds))

    def archived(self, path: str) -> Row:
        """Wait for the archive of the asset as it is now, and return its row."""
        said = self.wait(path)
        assert said.code == 0, said
        return self.archive(path)

    def archive(self, path: str) -> Row:
        """The row of `archive list`; the path is `alias/group:asset`."""
        return the_one(path, self.rows("archive", "list"))

    def asset(self, path: str) -> Row:
        """The row of `asset list`, after a look."""
        assert self.ctl("scan").code == 0
        return the_one(path, self.rows("asset", "list"))

    def events(self, *kinds: str) -> list[Row]:
        """All events so far, of these kinds."""
        return [event for event in self.rows("events", "--since", "0") if not kinds or event["kind"] in kinds]

    @contextmanager
    def following(self) -> Iterator[Follower]:
        """`refgeniectl events --follow`, from the first event of the log."""
        follower = Follower(self)
        try:
            yield follower
        finally:
            follower.close()

    def partials(self) -> list[Path]:
        return [path for path in self.archives.rglob(".*.partial*") if path.exists()]


def the_one(path: str, rows: list[Row]) -> Row:
    alias, _, name = path.partition("/")
    group, _, asset = name.partition(":")
    found = [
        row
        for row in rows
        if alias in (*row["aliases"], row["genome_digest"])
        and (row["asset_group"], row["asset"]) == (group, asset or "default")
    ]
    assert len(found) == 1, f"{path} is there {len(found)} times: {rows}"
    return found[0]


class Daemon:
    """`refgenied run` as a process. Readiness comes over $NOTIFY_SOCKET, as for systemd."""

    def __init__(self, lab: Lab, number: int, command: Sequence[str], output: int | None = None) -> None:
        self.log = lab.root / f"refgenied-{number}.log"
        self.expected = 0
        """The exit status that is right; None for any."""
        words = lab.root / f"notify-{number}"
        self._words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._words.bind(str(words))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "run", "--config", str(lab.config)],
                env=lab.environment | {"NOTIFY_SOCKET": str(words)},
                cwd=lab.root,
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=log if output is None else output,
            )

    def wait_ready(self) -> None:
        self._words.settimeout(0.2)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if b"READY=1" in self._words.recv(4096):
                    return
            except TimeoutError:
                assert self.process.poll() is None, f"the daemon ended: {self.said}"
        raise AssertionError(f"the daemon did not get ready: {self.said}")

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """SIGKILL: what a power cut would do to it."""
        self.expected = -signal.SIGKILL
        self.signal(signal.SIGKILL)
        self.ended()

    def close(self) -> str:
        """Stop it when it still runs; what was wrong with its end or its log."""
        self._words.close()
        try:
            code = self.process.returncode if self.process.poll() is not None else self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "none: it did not stop on SIGTERM"
        sys.stdout.write(f"--- {self.log.name}, exit status {code}\n{self.said}\n")
        if code != self.expected:
            return f"{self.log.name}: exit status {code} instead of {self.expected}"
        return f"{self.log.name}: a traceback in the log" if "Traceback" in self.said else ""


class Follower:
    """Reads `refgeniectl events --follow --json` line by line."""

    def __init__(self, lab: Lab) -> None:
        self.seen: list[Row] = []
        self._process = subprocess.Popen(
            [*command_of("refgeniectl", "refgenied.client"), "events", "--follow", "--since", "0", "--json"],
            env=lab.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        self._out = self._process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._next = 0

    def until(self, kind: str, group: str = "", seconds: float = PATIENCE) -> Row:
        """The next event of this kind (of this asset group), after those that were waited for before."""
        deadline = time.monotonic() + seconds
        while True:
            while self._next < len(self.seen):
                event = self.seen[self._next]
                self._next += 1
                if event["kind"] == kind and f"/{group}" in (event["registry_path"] or "/"):
                    return event
            left = deadline - time.monotonic()
            assert left > 0, f"no {kind} within {seconds} s: {self.seen}"
            if self._selector.select(left):
                self._read()

    def _read(self) -> None:
        got = os.read(self._out.fileno(), 1 << 16)
        assert got, f"the events ended: {self.seen}"
        *lines, self._rest = (self._rest + got).split(b"\n")
        self.seen += [json.loads(line) for line in lines]

    def close(self) -> None:
        self._selector.close()
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._out.close()
