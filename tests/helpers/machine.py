"""A machine with a real systemd, seen from outside: commands run in it, its files are at `root`."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

WITH_SYSTEMD = Path(__file__).with_name("with-systemd")
INSTALLED = Path("/opt/refgenied")
"""Where the commands are in the machine, as the README has it."""
PATIENCE = 30.0

T = TypeVar("T")


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Machine:
    """Boots on entry, is gone on exit. `bin` is the folder of the installed commands.

    `environment` is copied to INSTALLED; folders that are `seen` are there as on this machine, read-only.
    """

    def __init__(self, environment: Path, seen: list[Path]) -> None:
        self.bin = INSTALLED / "bin"
        self._environment = environment
        self._seen = seen

    def __enter__(self) -> Self:
        binds = [word for folder in self._seen for word in ("--bind", str(folder))]
        self._process = subprocess.Popen(
            [str(WITH_SYSTEMD), *binds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self._process.stdout.readline()
        if not line.strip():
            why = self._process.stderr.read().strip()
            self._close()
            raise NotBootedError(why)
        self._init = int(line)
        self.root = Path(f"/proc/{self._init}/root")
        self.run("cp", "-a", self._environment, INSTALLED)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        self._process.stdin.close()  # its end
        self._process.wait(PATIENCE)
        self._process.stdout.close()
        self._process.stderr.close()

    def command(self, *words: str | Path, user: str = "root") -> list[str]:
        """The command line that runs a command in the machine."""
        inside = ["nsenter", "-t", str(self._init), "-m", "-u", "-i", "-p", "-C", "--wdns=/", "--"]
        who = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user != "root" else []
        clean = [
            "env",
            "-i",
            f"PATH={self.bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG=C.UTF-8",
            "HOME=/root",
        ]
        return [*inside, *who, *clean, *map(str, words)]

    def run(self, *words: str | Path, user: str = "root", check: bool = True, seconds: float = PATIENCE) -> Said:
        done = subprocess.run(
            self.command(*words, user=user),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert said.code == 0 or not check, (words, said)
        return said

    @contextmanager
    def running(self, *words: str | Path, user: str = "root") -> Iterator[subprocess.Popen[str]]:
        """A command that runs beside the test."""
        with subprocess.Popen(
            self.command(*words, user=user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def file(self, path: str | Path) -> Path:
        """A file of the machine."""
        return self.root / str(path).lstrip("/")

    def show(self, name: str, unit: str = "refgenied.service") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).out.strip()

    @property
    def pid(self) -> str:
        return self.show("MainPID")

    def until(self, what: str, question: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Ask until the answer is true; the answer. systemd tells of its units' states to those who ask only."""
        deadline = time.monotonic() + seconds
        while True:
            answer = question()
            if answer:
                return answer
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.log()}"
            time.sleep(0.1)

    def log(self) -> str:
        return self.run("journalctl", "-u", "refgenied", "-n", "40", "--no-pager", check=False).out

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Entries of the journal with these fields, oldest first."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "-a", "-o", "json", "--no-pager", *matches).out.splitlines()
        return [json.loads(line) for line in lines]

    def entry(self, *matches: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The first entry of the journal with these fields, there already or still to come."""
        follow = ("journalctl", "-a", "-o", "json", "--no-pager", "--follow", "--lines=all", *matches)
        with self.running("timeout", str(seconds), *follow) as process:
            line = process.stdout.readline()
        assert line, f"no entry {matches} within {seconds} s\n{self.log()}"
        return json.loads(line)

    def drop_in(self, text: str) -> None:
        """Put settings of the test's own into the service, until the next call; `""` for none."""
        path = self.file("/run/systemd/system/refgenied.service.d/test.conf")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[Service]\n{text}\n")
        self.run("systemctl", "daemon-reload")

    def exposure(self, unit: str) -> float:
        said = self.run("systemd-analyze", "security", "--offline=true", "--no-pager", f"/etc/systemd/system/{unit}")
        return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said.out)[1])


class NotBootedError(Exception):
    """systemd did not come up here, and why."""
