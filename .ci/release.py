"""`make release`: build the source distribution and the wheel of this commit into dist/, and prove them.

What is proved: the tree is clean, the changelog's newest heading is this version with its date, the sample for later
versions is kept, the wheel is made from the source distribution and holds the units' templates, and the commands work
from a fresh environment with nothing else in it. Nothing is uploaded, tagged or pushed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]


class NotReadyError(Exception):
    """Why this is no release, in one line, and what to do."""


def version_of(root: Path) -> str:
    found = re.search(r'^__version__ = "(.+)"$', (root / "refgenied/__init__.py").read_text(), re.MULTILINE)
    if not found:
        raise NotReadyError("refgenied/__init__.py has no __version__")
    return found[1]


def require_clean(root: Path) -> None:
    """What is built is what is committed."""
    changed = run("git", "status", "--porcelain", cwd=root).splitlines()
    if changed:
        raise NotReadyError(f"the tree is not clean ({', '.join(line[3:] for line in changed[:5])}): commit it first")


def require_dated(changelog: str, version: str, today: date) -> None:
    """The newest heading is this version's, with the day of the release."""
    newest = re.search(r"^## (.*)$", changelog, re.MULTILINE)
    heading = newest[1] if newest else ""
    found = re.fullmatch(rf"\[?{re.escape(version)}\]?\W+(\d{{4}}-\d\d-\d\d)\W*", heading)
    if not found:
        raise NotReadyError(
            f"the newest heading of CHANGELOG.md is {heading!r}: write '## {version} - {today.isoformat()}'"
        )
    try:
        day = date.fromisoformat(found[1])
    except ValueError:
        raise NotReadyError(f"{found[1]} in CHANGELOG.md is no day") from None
    if day > today:
        raise NotReadyError(f"{found[1]} in CHANGELOG.md is in the future: today is {today.isoformat()}")


def require_sample(root: Path, version: str) -> None:
    if not (root / f"tests/released/{version}.tar.xz").exists():
        raise NotReadyError(f"there is no tests/released/{version}.tar.xz: run `make sample` and commit it")


def require_files(wheel: Path, source: Path, version: str) -> None:
    """Everything that the installed commands need, and everything that a packager needs."""
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "refgenied").rglob("*.py")} | {"refgenied/py.typed"}
    units = {f"refgenied/systemd/templates/{path.name}" for path in (ROOT / "systemd").iterdir()}
    _require(package | units, inside, wheel)
    foreign = {name for name in inside if not name.startswith(("refgenied/", f"refgenied-{version}.dist-info/"))}
    if foreign:
        raise NotReadyError(f"{wheel.name} also holds {min(foreign)}: look at pyproject.toml")
    with tarfile.open(source) as tree:
        kept = {name.partition("/")[2] for name in tree.getnames()}
    _require(set(run("git", "ls-files", cwd=ROOT).splitlines()), kept, source)


def _require(wanted: set[str], inside: set[str], where: Path) -> None:
    missing = sorted(wanted - inside)
    if missing:
        raise NotReadyError(f"{where.name} lacks {missing[0]} (and {len(missing) - 1} more): look at pyproject.toml")


def require_working(wheel: Path, version: str, folder: Path) -> None:
    """Installed alone, the commands say their version and write the units of a configuration."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    commands = environment / "bin"
    run(commands / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    for command in ("refgenied", "refgeniectl"):
        said = run(commands / command, "--version").strip()
        if said != f"{command} {version}":
            raise NotReadyError(f"`{command} --version` says {said!r}, and this is {version}")
    config, system = folder / "config.toml", folder / "system"
    places = ("--genome-folder", "/data/genomes", "--genome-archive-folder", "/data/archives")
    run(commands / "refgenied", "init", "--config", config, *places)
    run(commands / "refgenied", "install-units", "--config", config, "--prefix", system)
    units = sorted(path.name for path in (system / "etc/systemd/system").iterdir() if path.is_file())
    if units != ["refgenied-serve.service", "refgenied.service", "refgenied.socket"]:
        raise NotReadyError(f"`refgenied install-units` wrote {units}")


def run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise NotReadyError(f"`{' '.join(map(str, words))}` failed: {said[-1]}")
    return done.stdout


def release() -> list[Path]:
    """Build and prove; the files in dist/, where nothing comes that was not proved."""
    version = version_of(ROOT)
    require_clean(ROOT)
    require_dated((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version, datetime.now(UTC).date())
    require_sample(ROOT, version)
    with tempfile.TemporaryDirectory(prefix="refgenied-release-") as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
        source, wheel = folder / f"refgenied-{version}.tar.gz", folder / f"refgenied-{version}-py3-none-any.whl"
        require_files(wheel, source, version)
        require_working(wheel, version, folder)
        target = ROOT / "dist"
        target.mkdir(exist_ok=True)
        return [Path(shutil.copy(path, target)) for path in (source, wheel)]


def main() -> None:
    try:
        files = release()
    except NotReadyError as error:
        sys.exit(f"no release: {error}")
    for path in files:
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
