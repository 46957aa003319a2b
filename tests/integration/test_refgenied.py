"""The command `refgenied` as a process: what it refuses, and a disk that takes no output."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab import HELPERS
from roles import of_refgenie, places
from synthetic import Genomes


def test_a_full_disk_under_the_output_is_one_line(tmp_path: Path, genomes: Genomes) -> None:
    order = [sys.executable, "-m", "refgenied", "check-config", "--genome-folder", str(genomes.root)]
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(order, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "refgenied: the output cannot be written: No space left on device\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return places(tmp_path)


@pytest.mark.parametrize(
    "words",
    ["run", "serve", "check-config", "install-units --prefix {root}/image", "init --force {flags}"],
    ids=lambda words: words.split()[0],
)
def test_every_command_refuses_in_one_line_and_touches_nothing(root: Path, words: str) -> None:
    file = of_refgenie(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    flags = f"--genome-config {root}/etc/genome_config.yaml --genome-archive-folder {root}/archives"
    order = [*words.format(root=root, flags=flags).split(), "--config", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "refgenied", *order],
        env={"PATH": os.environ["PATH"], "HOME": str(root), "XDG_RUNTIME_DIR": f"{root}/run"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    (line,) = done.stderr.splitlines()
    for part in ("refgenie.genome_archive_folder", "refgenie.genome_config", f"{root}/archives/genome_config.yaml"):
        assert part in line
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


MOUNT = shutil.which("mount")
IN_A_NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def _may_mount() -> bool:
    order = [*IN_A_NAMESPACE, "true"]
    return shutil.which("unshare") is not None and subprocess.run(order, check=False).returncode == 0


@pytest.mark.skipif(not _may_mount(), reason="no mount namespaces here")
@pytest.mark.parametrize(
    ("source", "archives", "message"),
    [
        ("genomes", "mounted", "must not be the genome folder"),
        ("genomes/data/deep", "mounted", "must not lie in refgenie's own part"),
        ("genomes/data/deep", "mounted/to/be/made", "must not lie in refgenie's own part"),
        ("genomes/more", "mounted", ""),
        ("genomes/data/deep", "elsewhere", ""),
    ],
)
def test_bind_mounts_do_not_hide_it_either(root: Path, source: str, archives: str, message: str) -> None:
    for name in ("genomes/data/deep", "genomes/more", "mounted", "elsewhere"):
        (root / name).mkdir(parents=True, exist_ok=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from roles import clash; "
        "print(clash(Path(sys.argv[2]), refgenie__genome_archive_folder=sys.argv[3]))"
    )
    check = [sys.executable, "-c", code, str(HELPERS), str(root), archives]
    script = f'{MOUNT} --bind "$1" "$2" && shift 2 && exec "$@"'
    done = subprocess.run(
        [*IN_A_NAMESPACE, "sh", "-c", script, "sh", str(root / source), str(root / "mounted"), *check],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert message in done.stdout
    assert bool(done.stdout.strip()) == bool(message)
