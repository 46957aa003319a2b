"""One machine with the installed service for all tests: built, installed and booted once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import Service
from lab import REPOSITORY
from machine import INSTALLED, Machine, NotBootedError

from refgenied import __version__

SYSTEM_PYTHON = "/usr/bin/python3"
NEWER = "99.0"


def pytest_itemcollected(item: pytest.Item) -> None:
    if Path(__file__).parent in item.path.parents:
        item.add_marker(pytest.mark.needs("root", "unshare", "nsenter", "pgrep", "setpriv", "systemd-analyze"))


@pytest.fixture(scope="session")
def wheel_installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, for the system's Python, that works in INSTALLED: a sandbox can see that.

    It is made in a mount namespace in which that folder leads here: nothing comes into the real one.
    """
    folder = tmp_path_factory.mktemp("opt")
    script = f"""
        set -e
        mount --make-rprivate /
        mount --bind "$1" {INSTALLED.parent}
        {SYSTEM_PYTHON} -m venv {INSTALLED}
        {INSTALLED}/bin/python -m pip install -q "$2[server]"
    """
    subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", folder, REPOSITORY], check=True)
    return folder / INSTALLED.name


@pytest.fixture(scope="session")
def newer_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program as a later version."""
    source, wheels = tmp_path_factory.mktemp("newer") / "refgenied", tmp_path_factory.mktemp("wheels")
    kept = shutil.ignore_patterns(".*", "tests", "benchmarks", "__pycache__")
    shutil.copytree(REPOSITORY, source, ignore=kept)
    version = source / "refgenied/__init__.py"
    version.write_text(version.read_text().replace(__version__, NEWER))
    subprocess.run([SYSTEM_PYTHON, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", wheels, source], check=True)
    return next(wheels.glob(f"refgenied-{NEWER}-*.whl"))


@pytest.fixture(scope="session")
def machine(wheel_installed: Path) -> Iterator[Machine]:
    wanted = [REPOSITORY, Path(sys.prefix), wheel_installed]  # wherever they are: /tmp is empty in there
    seen = [path for path in wanted if not any(other != path and path.is_relative_to(other) for other in wanted)]
    try:
        with Machine(wheel_installed, seen) as machine:
            yield machine
    except NotBootedError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def installed(machine: Machine) -> Service:
    """The service, installed with the three commands of the README."""
    service = Service(machine)
    service.install()
    return service


@pytest.fixture
def service(installed: Service) -> Iterator[Service]:
    """The service, running, as it was installed; a test's changes to it are undone."""
    installed.reset()
    yield installed
    sys.stdout.write(installed.machine.log())  # pytest shows it for a test that failed
