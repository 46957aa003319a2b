"""No test can write outside of its own temporary folder."""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import pytest
from fence import OWN, Fence, own_folder

PLACES = ["/", "/etc", "/opt", "/run", "/srv", "/tmp", "/usr", "/var/lib", pwd.getpwuid(os.getuid()).pw_dir]  # noqa: S108


@pytest.mark.needs("root")
@pytest.mark.parametrize("place", PLACES)
def test_the_machine_is_read_only(fence: Fence, place: str) -> None:
    if fence.missing:
        pytest.skip(fence.missing)
    probe = Path(place, "refgenied-test-probe")
    with pytest.raises(OSError) as raised:  # noqa: PT011 (the number is what counts)
        probe.touch()
    assert raised.value.errno == errno.EROFS
    done = subprocess.run(["touch", probe], capture_output=True, text=True, check=False)
    assert "Read-only file system" in done.stderr, "and so for every program that a test starts"


def test_what_a_killed_session_left_goes_and_what_one_uses_stays() -> None:
    system = Path(tempfile.gettempdir())
    used, descriptor = own_folder()
    killed = system / f"{OWN}killed"
    (killed / "home").mkdir(parents=True)
    for folder in (used, killed):
        os.utime(folder, (1.0, 1.0))
    young = system / f"{OWN}young"
    young.mkdir()
    other, second = own_folder()
    assert used.exists()
    assert not killed.exists()
    assert young.exists()
    os.close(descriptor)
    os.close(second)
    assert (used.parent, other.parent) == (system, system)


def test_home_and_temporary_folder_are_the_sessions_own(tmp_path: Path) -> None:
    session = Path.home().parent
    assert session.name.startswith(OWN)
    assert Path(tempfile.gettempdir()) == session / "tmp"
    assert not [name for name in os.environ if name.startswith("XDG_") and name.endswith(("_HOME", "_RUNTIME_DIR"))]
    assert "/usr/sbin" in os.environ["PATH"].split(":"), "also after a plain su"
    (tmp_path / "probe").touch()
