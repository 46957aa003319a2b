"""`make release` refuses what is no release, in one line; and this version's number is one that can be released."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import zipfile
from datetime import date
from pathlib import Path

import pytest

from refgenied import __version__

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("release", ROOT / ".ci/release.py")
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)

TODAY = date(2026, 11, 27)


@pytest.mark.parametrize("heading", ["0.2.0 - 2026-11-27", "0.2.0 (2026-11-26)", "0.2.0, 2026-11-27"])
def test_a_dated_heading_is_taken(heading: str) -> None:
    release.require_dated(f"# Changelog\n\n## {heading}\n\n## 0.1.0 - 2026-01-01\n", "0.2.0", TODAY)


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        ("Unreleased", "write '## 0.2.0 - 2026-11-27'"),
        ("0.2.0", "write '## 0.2.0 - 2026-11-27'"),
        ("0.2.0.1 - 2026-11-27", "newest heading"),
        ("0.1.0 - 2026-01-01", "newest heading"),
        ("0.2.0 - 2026-13-01", "is no day"),
        ("0.2.0 - 2026-11-28", "in the future"),
    ],
)
def test_another_heading_is_refused(heading: str, said: str) -> None:
    with pytest.raises(release.NotReadyError, match=re.escape(said)) as raised:
        release.require_dated(f"# Changelog\n\n## {heading}\n", "0.2.0", TODAY)
    assert "\n" not in str(raised.value)


def test_the_version_is_read_without_importing_it() -> None:
    assert release.version_of(ROOT) == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_a_change_that_is_not_committed_is_refused(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    release.require_clean(tmp_path)
    (tmp_path / "new.py").touch()
    with pytest.raises(release.NotReadyError, match=r"new\.py"):
        release.require_clean(tmp_path)


def test_a_version_without_its_sample_is_refused(tmp_path: Path) -> None:
    release.require_sample(ROOT, "0.1.0")
    with pytest.raises(release.NotReadyError, match="make sample"):
        release.require_sample(tmp_path, "0.1.0")


def wheel(folder: Path, *, but: str = "", more: str = "refgenied/py.typed") -> Path:
    """A wheel by hand, with all that it must hold but one thing."""
    path = folder / "refgenied-0.2.0-py3-none-any.whl"
    names = {str(found.relative_to(ROOT)) for found in (ROOT / "refgenied").rglob("*.py")}
    names |= {f"refgenied/systemd/templates/{found.name}" for found in (ROOT / "systemd").iterdir()} | {
        more,
        "refgenied/py.typed",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(names - {but}):
            archive.writestr(name, "")
    return path


def test_a_wheel_without_a_units_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(release.NotReadyError, match=r"lacks refgenied/systemd/templates/refgenied\.socket"):
        release.require_files(wheel(tmp_path, but="refgenied/systemd/templates/refgenied.socket"), tmp_path, "0.2.0")


def test_a_wheel_with_more_than_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(release.NotReadyError, match=r"also holds tests/lab\.py"):
        release.require_files(wheel(tmp_path, more="tests/lab.py"), tmp_path, "0.2.0")


def test_a_step_that_fails_is_one_line() -> None:
    with pytest.raises(release.NotReadyError, match="failed: second") as raised:
        release.run("sh", "-c", "echo first >&2; echo second >&2; exit 3")
    assert "\n" not in str(raised.value).partition("failed: ")[2]
