"""Runs the tools of systemd and of user accounts."""

import os
import shutil
import subprocess

from refgenied.model import WriteError


def run(*command: str, missing: str) -> None:
    """Run a tool, also one of /usr/sbin. WriteError; `missing` is its message when the tool is not installed."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise WriteError(missing)
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise WriteError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
