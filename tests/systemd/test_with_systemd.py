"""The machine of the tests is never this one: whatever goes wrong, systemd is not started on the real root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from fence import Fence
from machine import WITH_SYSTEMD

REAL = ("/", "/etc", "/srv", "/opt", "/mnt", "/etc/passwd", "/etc/group")
"""What a boot changes."""


def seen() -> dict[str, tuple[int, ...]]:
    found = {name: os.lstat(name) for name in REAL}
    return {name: (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns) for name, info in found.items()}


def tried(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    """Run it, and see that this machine is as it was."""
    sentinel = Path(tempfile.gettempdir(), "sentinel")
    sentinel.write_text("a boot empties /tmp")
    before, mounts = seen(), Path("/proc/self/mountinfo").read_text()
    done = subprocess.run(
        [WITH_SYSTEMD, *arguments],
        cwd="/",
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (seen(), Path("/proc/self/mountinfo").read_text()) == (before, mounts)
    assert sentinel.exists()
    return done


@pytest.fixture(autouse=True)
def _safe(fence: Fence) -> None:
    if fence.missing:
        pytest.skip(f"this would be dangerous without a fence: {fence.missing}")


def test_the_path_of_a_plain_su_is_enough() -> None:
    done = tried("sh", "-c", "findmnt -no FSTYPE / && systemctl is-system-running", path="/usr/local/bin:/usr/bin:/bin")
    assert done.stdout.splitlines()[0] == "overlay", done


@pytest.mark.parametrize("does", ["exit 1", "exit 0", "mount --bind / .host"])
def test_a_pivot_that_does_not_happen_is_refused(tmp_path: Path, does: str) -> None:
    fake = tmp_path / "pivot_root"
    fake.write_text(f"#!/bin/sh\n{does}\n")
    fake.chmod(0o755)
    done = tried("true", path=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 125, done
    assert done.stderr.startswith("with-systemd: systemd did not come up"), done.stderr


def test_the_inner_half_alone_is_refused() -> None:
    done = tried("--inside", path="/usr/bin:/bin")
    assert (done.returncode, done.stdout) == (125, "")
    assert "mounts over this machine's folders" in done.stderr
