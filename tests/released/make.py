"""Make the sample of the installed version: `python tests/released/make.py` writes tests/released/VERSION.tar.xz.

Once for each release, with the real refgenie, refgenieserver and daemon: a genome folder, an archive folder and a
database that hold a little of everything that a later version must understand. `test_released.py` runs every later
version on a copy. A sample that was released is never made again.

What is in it is told by `expected.json` in the sample: what the clients of that version were told of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from lab import REPOSITORY, SCRIPTS, Lab  # noqa: E402
from refgenie_cli import Refgenie  # noqa: E402

from refgenied import __version__  # noqa: E402

LARGEST = 300_000
"""Bytes that a sample may have: it stays in the repository for ever."""
MANY = 1100
"""Files of an asset whose list of members gets a file of its own."""
GENOME_1 = "vRAbJ6zXvRGc2EMhmDgFlsyj_hTDj-cX"
"""A genome digest as refgenie 1 has them."""
OWN = {
    "remotes": {"mirror": {"prefix": "https://mirror.example.org/genomes/", "description": "a copy elsewhere"}},
    "our_contact": "genomes@example.org",
}
"""What a person wrote into the served genome_config.yaml."""
PULLS = 3
PARTS = ("genomes", "genomes1", "archives", "state")


class SampleLab(Lab):
    @property
    def environment(self) -> dict[str, str]:
        """Without $REFGENIE where there is no such file: refgenie 1 has none."""
        here = super().environment
        return here if Path(here["REFGENIE"]).exists() else {k: v for k, v in here.items() if k != "REFGENIE"}


def recipe(folder: Path, name: str, *commands: str, parent: str = "") -> str:
    """A recipe whose commands name no folder of this machine."""
    path = folder / f"{name}-{hashlib.md5(repr(commands).encode()).hexdigest()[:8]}.json"
    path.write_text(
        json.dumps(
            {
                "name": name,
                "description": f"made-up files of {name}",
                "assets": {name: "part0.txt", "second": "part1.txt"},
                "required_files": [],
                "required_parameters": [],
                "required_assets": [{"key": parent, "default": parent, "description": "it"}] if parent else [],
                "container": "",
                "command_list": list(commands),
            }
        )
    )
    return str(path)


def build(refgenie: Refgenie, path: str, *more: str, content: str = "", parent: str = "") -> None:
    group = path.partition("/")[2].partition(":")[0]
    text = content or path
    commands = [
        f"echo 'part 0 of {text}' > {{asset_outfolder}}/part0.txt",
        f"seq 1 400 | sed 's/$/ of {group}/' > {{asset_outfolder}}/part1.txt",
        "mkdir -p {asset_outfolder}/deeper && ln -sf ../part0.txt {asset_outfolder}/deeper/link",
    ]
    if parent:
        commands.append("cp {fasta} {asset_outfolder}/copied.fa")
    refgenie("build", path, "--recipe", recipe(refgenie.lab.root, group, *commands, parent=parent), *more)


def build_all(refgenie: Refgenie) -> None:
    """The real builds: parents and children, tags, many files, what fails."""
    refgenie.init()
    refgenie.genome("demo")
    refgenie("alias", "set", "--aliases", "second_name", "--digest", refgenie.digest("demo"))
    build(refgenie, "demo/index:v2", parent="fasta")
    build(refgenie, "demo/index:v1")
    for group in ("removed", "deleted", "gone", "foreign", "waiting", "broken", "cancelled", "private"):
        build(refgenie, f"demo/{group}")
    many = recipe(
        refgenie.lab.root,
        "many",
        "echo part > {asset_outfolder}/part0.txt",
        "echo part > {asset_outfolder}/part1.txt",
        f"seq -f {{asset_outfolder}}/%g.txt 1 {MANY} | xargs touch",
    )
    refgenie("build", "demo/many", "--recipe", many)
    (refgenie.folder("demo/broken") / "planted").symlink_to("/etc/hostname")
    refgenie.folder("demo/private").chmod(0o700)  # only its owner may read it: it is archived, and not served
    neutral(refgenie.lab)


def neutral(lab: Lab) -> None:
    """A sample names no machine: refgenie's logs do."""
    for log in lab.genomes.rglob("_refgenie_build/refgenie_log.md"):
        text = log.read_text()
        for here, there in (
            (str(SCRIPTS.parent), "/opt/refgenied"),
            (str(REPOSITORY), "/usr/src/refgenied"),
            (sys.base_prefix, "/usr"),
            (socket.gethostname(), "sample"),
        ):
            text = text.replace(here, there)
        log.write_text(text)


def build_refgenie_1(folder: Path) -> None:
    """A genome folder of refgenie 1, by hand: that program cannot be installed."""
    place = folder / "data" / GENOME_1 / "fasta" / "default"
    side = place / "_refgenie_build"
    side.mkdir(parents=True)
    (place / "one.fa").write_text(">one\nACGTACGT\n")
    (side / "refgenie_one_fasta_default_log.md").write_text("log\n")
    (side / "refgenie_commands.sh").write_text("# Pipeline started\n\ncp a b\n")
    (side / "one_fasta__default.flag").touch()
    (side / "refgenie_one_fasta_default_completed.flag").touch()
    links = folder / "alias/one/fasta/default"
    links.mkdir(parents=True)
    (links / "one.fa").symlink_to(os.path.relpath(place / "one.fa", links))


def archive_as_refgenieserver(lab: Lab, refgenie: Refgenie, path: str) -> None:
    """By the real one, into the same archive folder. It writes that into refgenie's config, and takes it out again."""
    before = refgenie.config.read_bytes()
    config = yaml.safe_load(before) | {"genome_archive_folder": str(lab.archives)}
    refgenie.config.write_text(yaml.safe_dump(config))
    command = ["refgenieserver", "archive", "-c", str(refgenie.config), path]
    subprocess.run(command, env=lab.environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    refgenie.config.write_bytes(before)


def ctl(lab: Lab, *arguments: str) -> str:
    said = lab.ctl(*arguments)
    assert said.code == 0, (arguments, said)
    return said.out


def served_config(lab: Lab) -> dict[str, Any]:
    return yaml.safe_load((lab.archives / "genome_config.yaml").read_text())


def access_log(lab: Lab) -> Path:
    """Of a web server in front of the archive folder."""
    row = lab.archive("demo/fasta")
    when = datetime.now(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    target = f"/{row['genome_digest']}/fasta__default.tgz"
    lines = [
        f'192.0.2.{number} - - [{when}] "GET {target} HTTP/1.1" 200 {row["size"]} "-" "curl/8.0"\n'
        for number in range(PULLS)
    ]
    path = lab.root / "access.log"
    path.write_text("".join(lines))
    return path


def fill(lab: Lab, refgenie: Refgenie) -> None:
    """First refgenie 1's genome, then refgenie 0.13's, into one archive folder and one database."""
    lab.genomes = lab.root / "genomes1"
    lab.configure()
    daemon = lab.start()
    lab.archived("one/fasta")
    assert daemon.stop() == 0

    lab.genomes = lab.root / "genomes"
    archive_as_refgenieserver(lab, refgenie, "demo/foreign:default")
    lab.configure(archive={"automatic": False})
    daemon = lab.start()
    ctl(lab, "archive", "import")
    assert daemon.stop() == 0

    lab.configure(archive={"exclude": ["*/waiting", "*/broken"]})
    daemon = lab.start()
    groups = ("fasta", "index:v1", "index:v2", "removed", "deleted", "gone", "foreign", "cancelled", "many", "private")
    for name in groups:
        lab.archived(f"demo/{name}")
    ctl(lab, "queue", "pause")
    build(refgenie, "demo/index:v1", "-N", content="another edition")  # what is archived is replaced
    neutral(lab)
    ctl(lab, "queue", "resume")
    lab.archived("demo/index:v1")
    ctl(lab, "archive", "remove", "demo/removed")
    ctl(lab, "archive", "remove", "demo/deleted", "--delete-file")
    refgenie("remove", "demo/gone:default", "--force")
    ctl(lab, "downloads", "import", "--log", str(access_log(lab)))
    assert lab.ctl("archive", "create", "demo/broken").code == 5
    ctl(lab, "queue", "pause")
    ctl(lab, "archive", "create", "demo/cancelled", "--force", "--no-wait")
    (job,) = lab.rows("queue", "list")
    ctl(lab, "queue", "cancel", str(job["job"]))
    path = lab.archives / "genome_config.yaml"
    path.write_text(yaml.safe_dump(served_config(lab) | OWN, sort_keys=False))
    ctl(lab, "scan")
    assert daemon.stop() == 0

    lab.configure()  # no patterns: the asset that waits is queued, and stays so, because the queue is paused
    daemon = lab.start()
    ctl(lab, "scan")
    (job,) = lab.rows("queue", "list")
    assert "/waiting:" in job["registry_path"], job
    expected = {
        "version": __version__,
        "root": str(lab.root),
        "archives": lab.rows("archive", "list"),
        "jobs": lab.rows("queue", "list", "--all"),
        "events": lab.events()[-1]["seq"],
        "served": served_config(lab),
        "own": OWN,
        "files": {
            str(path.relative_to(lab.archives)): hashlib.md5(path.read_bytes()).hexdigest()
            for path in sorted(lab.archives.rglob("*.tgz"))
        },
    }
    assert daemon.stop() == 0
    (lab.root / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def write(lab: Lab, target: Path) -> None:
    """The sample itself; owners and sockets are left out."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    partial = target.with_name(f".{target.name}.partial")
    with tarfile.open(partial, "w:xz", preset=9) as tar:
        for name in (*PARTS, "expected.json"):
            tar.add(lab.root / name, name, filter=kept)
    assert partial.stat().st_size <= LARGEST, f"the sample has {partial.stat().st_size} bytes"
    partial.rename(target)


def main() -> None:
    target = HERE / f"{__version__}.tar.xz"
    if target.exists():
        sys.exit(f"{target} is there: the sample of a released version is never made again")
    os.umask(0o022)
    os.environ["PATH"] = f"{SCRIPTS}:{os.environ['PATH']}"  # the tests' own tools are started by name
    root = Path(tempfile.mkdtemp(prefix=f"refgenied-{__version__}-"))
    try:
        lab = SampleLab(root)
        refgenie = Refgenie(lab)
        try:
            build_all(refgenie)
            build_refgenie_1(root / "genomes1")
            fill(lab, refgenie)
        finally:
            refgenie.close()
            with redirect_stdout(sys.stderr):
                lab.close()
        write(lab, target)
    finally:
        shutil.rmtree(root)
    sys.stdout.write(f"{target}: {target.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
