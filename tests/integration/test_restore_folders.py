"""A restore that was killed leaves a hidden folder; the next one to the same place takes it away, and no other."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from packing import FOLDER, below, make_tree, noise

from refgenied.archive import pack, restore, restore_folders
from refgenied.genomes.enclosure import FOLDER_FLAGS as AS_FOLDER

MEMBERS = {b"a/genome.fa": noise(300_000), b"b/c": b"x", b"empty": FOLDER, b"link": "b/c"}


@pytest.fixture
def archive(tmp_path) -> Path:
    pack(make_tree(tmp_path / "default", MEMBERS), tmp_path / "fasta.tgz")
    shutil.rmtree(tmp_path / "default")
    return tmp_path / "fasta.tgz"


@pytest.fixture
def to(tmp_path) -> Path:
    folder = tmp_path / "to"
    folder.mkdir()
    return folder


def child(work: Callable[[], object]) -> int:
    """Do it in a process of its own; its id."""
    number = os.fork()
    if number:
        return number
    try:
        work()
    finally:
        os._exit(0)


def killed_before_change(at: int, archive: Path, to: Path) -> bool:
    """Whether the restore was killed before its nth change of a file; else it is done."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if writes or event in ("os.rename", "os.symlink", "os.mkdir", "os.chmod", "os.utime"):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        nonlocal seen
        sys.addaudithook(hook)
        restore(archive, to, threads=1)
        seen = at  # what the process writes at its end (a coverage, say) is no change of the restore

    _, status = os.waitpid(child(work), 0)
    return os.WIFSIGNALED(status)


def test_a_kill_anywhere_leaves_nothing_after_the_next_restore(archive, to):
    cleared = number = 0
    while killed_before_change(number + 1, archive, to):
        number += 1
        done = restore(archive, to)
        cleared += done.cleared
        assert [path.name for path in to.iterdir()] == ["default"], f"killed before change {number}"
        shutil.rmtree(to / "default")
    assert number > 8
    assert cleared > 300_000


def test_what_a_living_process_restores_stays(archive, to):
    begun, beginning = os.pipe()
    released, releasing = os.pipe()

    def held() -> None:
        def wait(*_: object) -> None:
            os.write(beginning, b".")
            os.read(released, 1)

        restore(archive, to, on_progress=wait)

    number = child(held)
    os.read(begun, 1)
    (folder,) = to.iterdir()
    assert restore_folders.clear(to / "default") == 0
    assert folder.exists()
    done = restore(archive, to)
    assert done.cleared == 0
    assert folder.exists()
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    os.close(releasing)
    assert restore_folders.clear(to / "default") > 0
    assert [path.name for path in to.iterdir()] == ["default"]


def test_others_and_other_names_stay(to, monkeypatch):
    target = to / "default"
    ours, fd = restore_folders.make(target)
    os.close(fd)
    another, fd = restore_folders.make(to / "another")
    os.close(fd)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="elsewhere"))
    elsewhere, fd = restore_folders.make(target)
    os.close(fd)
    monkeypatch.undo()
    earlier = to / ".default.restoring-abcdefgh"  # as refgenied 0.1 called them
    plain = to / ".default.restoring"
    link = to / f"{ours.name}-link"
    for folder in (earlier, plain):
        folder.mkdir()
    link.symlink_to(elsewhere)
    file = to / f"{ours.name}-file"
    file.touch()
    restore_folders.clear(target)
    assert not ours.exists()
    for path in (another, elsewhere, earlier, plain, link, file):
        assert path.exists()
    long_ago = time.time() - 8 * 86_400
    for folder in (elsewhere, earlier):
        os.utime(folder, (long_ago, long_ago))
    if os.geteuid() == 0:
        os.chown(earlier, 12345, -1)
    restore_folders.clear(target)
    assert not elsewhere.exists()
    assert earlier.exists() == (os.geteuid() == 0)


def test_a_disk_without_locks_hinders_no_restore_and_has_nothing_cleared(archive, to, monkeypatch):
    left, fd = restore_folders.make(to / "default")
    os.close(fd)

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    done = restore(archive, to)
    assert done.cleared == 0
    assert left.exists()


def test_a_folder_that_is_cleared_before_it_is_locked_is_made_anew(to, monkeypatch):
    target = to / "default"
    real, stolen = os.open, []

    def open_late(path: Path, flags: int, *arguments: object, **named: object) -> int:
        if flags == AS_FOLDER and len(stolen) < 2:
            stolen.append(path)
            if len(stolen) == 1:
                os.rmdir(path)
            else:
                fd = real(path, flags)
                os.rmdir(path)
                return fd
        return real(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", open_late)
    folder, fd = restore_folders.make(target)
    os.close(fd)
    assert folder not in stolen
    assert folder.is_dir()


def test_modes_that_let_nobody_in_do_not_keep_it(archive, to):
    folder, fd = restore_folders.make(to / "default")
    os.close(fd)
    (folder / "closed").mkdir()
    (folder / "closed" / "file").write_bytes(b"x" * 10_000)
    (folder / "closed").chmod(0)
    folder.chmod(0o500)
    seen = 10_000 if os.geteuid() == 0 else 1  # others cannot look into it before they open it
    assert restore(archive, to).cleared >= seen
    assert not folder.exists()


def test_ctrl_c_leaves_nothing(tmp_path):
    source = make_tree(tmp_path / "default", {b"a": noise(8 << 20)})
    pack(source, tmp_path / "x.tgz")
    code = (
        "import os, signal, sys; from refgenied.client import main; import refgenied.archive.extract as extract\n"
        "write = extract.append\n"
        "def stop(fd, piece): write(fd, piece); os.kill(os.getpid(), getattr(signal, sys.argv[1]))\n"
        "extract.append = stop\n"
        f"sys.exit(main(['archive', 'restore', '{tmp_path}/x.tgz', '--to', '{tmp_path}/out']))\n"
    )
    for name in ("SIGINT", "SIGTERM"):
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=False)
        assert done.returncode == 130, done
        assert below(tmp_path) == ["default", "default/a", "x.json", "x.tgz"]
