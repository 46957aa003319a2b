"""Commands as a person at a terminal sees them: one process runs many of them, each on a pseudo-terminal of its own.

`Terminal` is the test's side; run as a script this file is the other side.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
"""What a program may send to a terminal to colour text and to move the cursor."""
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7]|4[0-8])[0-9;]*m")


class Seen(NamedTuple):
    code: int
    raw: str
    """What the program sent."""

    @property
    def text(self) -> str:
        """Without what colours it and moves the cursor."""
        return CONTROL.sub("", self.raw).replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        """Each that was shown, also those that were drawn over."""
        return re.split(r"[\r\n]+", self.text)


class Terminal:
    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        *argv: str,
        columns: int = 80,
        encoding: str = "utf-8",
        interrupt_at: str = "",
        by: str = "SIGINT",
        readings: list[list[Any]] | None = None,
        **environment: str,
    ) -> Seen:
        """Run `refgeniectl` (or `refgenied`, when that is the first word) on a terminal so wide.

        `interrupt_at`: Ctrl-C is pressed (or the signal `by` is sent) when this was shown. `readings`: draw these as
        progress instead.
        """
        assert self._process.stdin
        assert self._process.stdout
        job = {"argv": argv, "columns": columns, "encoding": encoding, "interrupt_at": interrupt_at, "by": by}
        job |= {"readings": readings, "environment": {"TERM": "xterm-256color"} | environment}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Seen(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


# --------------------------------------------------------------------------- the other side


class _Screen:
    """A pseudo-terminal as the standard streams, and what is shown on it."""

    def __init__(self, columns: int, encoding: str, interrupt_at: str, by: str) -> None:
        self._leader, follower = pty.openpty()
        ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._kept = [os.dup(number) for number in range(3)]
        for number in range(3):
            os.dup2(follower, number)
        os.close(follower)
        self._streams = sys.stdin, sys.stdout, sys.stderr, sys.__stdout__
        sys.stdout = sys.__stdout__ = TextIOWrapper(FileIO(1, "w", closefd=False), encoding, line_buffering=True)
        sys.stderr = TextIOWrapper(FileIO(2, "w", closefd=False), encoding, "backslashreplace", line_buffering=True)
        self._shown = b""
        self._interrupt_at = interrupt_at.encode()
        self._signal = signal.Signals[by]
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # EIO is the end of a terminal
            while chunk := os.read(self._leader, 65536):
                self._shown += chunk
                if self._interrupt_at and self._interrupt_at in self._shown:
                    self._interrupt_at = b""
                    os.kill(os.getpid(), self._signal)

    def close(self) -> str:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr, sys.__stdout__ = self._streams
        for number, kept in enumerate(self._kept):
            os.dup2(kept, number)
            os.close(kept)
        self._reader.join()
        os.close(self._leader)
        return self._shown.decode("utf-8")


def _command(job: dict[str, Any]) -> Callable[[], int]:
    from refgenied.__main__ import main as refgenied  # noqa: PLC0415
    from refgenied.client import main as refgeniectl  # noqa: PLC0415

    if job["readings"] is not None:
        return lambda: _draw(*job["argv"], job["readings"])
    if job["argv"][0] == "refgenied":
        return lambda: refgenied(job["argv"][1:])
    return lambda: refgeniectl(job["argv"])


def _draw(label: str, readings: list[list[Any]]) -> int:
    from refgenied.client import draw  # noqa: PLC0415
    from refgenied.shared import output  # noqa: PLC0415
    from refgenied.shared.progress import Progress  # noqa: PLC0415

    output.set_up()
    with draw.progress(label) as show:
        for reading in readings:
            show(Progress(*reading).message())
    return 0


def _run(job: dict[str, Any]) -> tuple[int, str]:
    command = _command(job)
    environment = dict(os.environ)
    os.environ.update(job["environment"])
    screen = _Screen(job["columns"], job["encoding"], job["interrupt_at"], job["by"])
    try:
        code = command()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = 1
    finally:
        shown = screen.close()
        os.environ.clear()
        os.environ.update(environment)
    return code, shown


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        answers.write(json.dumps(_run(json.loads(line))) + "\n")
        answers.flush()
