"""`refgeniectl` as a process, for a daemon's parts that are served in the test's own."""

from __future__ import annotations

import json
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from typing import NamedTuple

import anyio.to_thread
from lab import MEASURED, REPOSITORY
from parts import Parts


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


def environment(parts: Parts) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "REFGENIED_SOCKET": str(parts.root / "control.sock"),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    } | MEASURED


COMMAND = [sys.executable, "-m", "refgenied.client"]


async def ctl(parts: Parts, *arguments: str, **env: str) -> Said:
    run = partial(
        subprocess.run,
        [*COMMAND, *arguments],
        env=environment(parts) | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    done = await anyio.to_thread.run_sync(run)
    return Said(done.returncode, done.stdout, done.stderr)


async def on_terminal(parts: Parts, columns: int, *arguments: str) -> str:
    """What a terminal of this width shows."""

    def run() -> str:
        leader, follower = pty.openpty()
        ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        with subprocess.Popen([*COMMAND, *arguments], env=environment(parts), stdout=follower, stdin=follower):
            os.close(follower)
            shown = b""
            with suppress(OSError):  # EIO is the end of a terminal
                while chunk := os.read(leader, 65536):
                    shown += chunk
        os.close(leader)
        return shown.decode().replace("\r\n", "\n")

    return await anyio.to_thread.run_sync(run)
