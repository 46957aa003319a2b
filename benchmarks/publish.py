"""A whole publish on the Dictyostelium genome: the daemon against the real `refgenieserver archive`.

The genome is built by refgenie itself (fasta and bwa_index). Both take the two assets from the genome folder to what
a server can serve. Ours runs as a daemon; the clock runs from the first request until the second archive's job has
succeeded: hashes, read-back, fsync, rename, record. The peer's clock is the command's.
"""

from __future__ import annotations

import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import house
import inputs

from refgenied.client import Client

ASSETS = ("dicty/fasta", "dicty/bwa_index")


def run(data: Path, pairs: int) -> None:
    inputs.require(inputs.DICTYOSTELIUM, "bwa")
    for tool in ("refgenie", "refgenieserver", "samtools"):
        if not shutil.which(tool):
            raise inputs.Missing(f"{tool} is not on the PATH (refgenie and refgenieserver: PyPI; samtools: apt-get)")
    genomes = built(data / "publish")
    peers, times, disks = [], [], []
    for _ in range(pairs):
        seconds, disk = peer(genomes, data)
        mine, mine_disk = ours(genomes, data)
        peers.append(seconds)
        times.append(mine)
        disks.append(mine_disk / disk)
    ratio = statistics.median(peer / mine for peer, mine in zip(peers, times, strict=True))
    print(
        f"publish fasta and bwa_index of Dictyostelium: refgenieserver archive {statistics.median(peers):.1f} s, "
        f"refgenied {statistics.median(times):.2f} s: {ratio:.1f} times as fast (target 6), "
        f"{statistics.median(disks):.3f} of its disk (target 0.35); medians of {pairs}"
    )


def built(folder: Path) -> Path:
    """The genome folder, built once. refgenie writes absolute paths, so it stays where it was built."""
    genomes = folder / "genomes"
    done = folder / "built"
    if done.exists():
        return genomes
    shutil.rmtree(folder, ignore_errors=True)
    genomes.mkdir(parents=True)
    fasta = folder / "dicty.fa.gz"
    with gzip.open(inputs.DICTYOSTELIUM) as source, gzip.open(fasta, "wb", 1) as out:
        shutil.copyfileobj(source, out)
    environment = os.environ | {"REFGENIE": str(genomes / "genome_config.yaml")}
    for command in (
        ["init", "-c", environment["REFGENIE"], "-s", "http://127.0.0.1:9"],
        ["build", ASSETS[0], "--files", f"fasta={fasta}"],
        ["build", ASSETS[1]],
    ):
        print(f"refgenie {command[0]} {command[1]} …", file=sys.stderr, flush=True)
        ran = subprocess.run(
            ["refgenie", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise inputs.Missing(f"refgenie {command[0]} failed: {(ran.stdout + ran.stderr).strip().splitlines()[-1]}")
    done.touch()
    return genomes


def peer(genomes: Path, data: Path) -> tuple[float, int]:
    """`refgenieserver archive` into an empty folder: (seconds, bytes on disk). It writes into the genome folder."""
    with tempfile.TemporaryDirectory(dir=data) as out:
        config = Path(out, "genome_config.yaml")
        Path(out, "archives").mkdir()
        text = (genomes / "genome_config.yaml").read_text()
        config.write_text(f"{text.rstrip()}\ngenome_archive_folder: {out}/archives\n")
        seconds, last = archive_by_peer(config)
        if len({path.name for path in Path(out, "archives").glob("*/*.tgz")}) != len(ASSETS):
            raise inputs.Missing(f"refgenieserver archive failed: {last}")
        return seconds, on_disk(Path(out, "archives"))


def archive_by_peer(config: Path) -> tuple[float, str]:
    """`refgenieserver archive`: how many seconds it took, and the last line that it said. Missing: it failed."""
    began = time.monotonic()
    ran = subprocess.run(
        ["refgenieserver", "archive", "-c", str(config)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    last = ((ran.stdout + ran.stderr).strip().splitlines() or [""])[-1]
    if ran.returncode:
        raise inputs.Missing(f"refgenieserver archive failed: {last}")
    return seconds, last


def ours(genomes: Path, data: Path) -> tuple[float, int]:
    with house.lab(data, genomes) as lab:
        lab.start()
        with Client.connect(str(lab.socket)) as client:
            began = time.monotonic()
            client.call("archive.create", paths=list(ASSETS))
            for path in ASSETS:
                waited = client.call("archive.wait", path=path)
                if waited["state"] != "archived":
                    raise inputs.Missing(f"{path} was not archived: {waited['reason']}")
            seconds = time.monotonic() - began
        return seconds, on_disk(lab.archives)


def on_disk(folder: Path) -> int:
    """Bytes of the files' blocks, hard links once."""
    seen = {(info.st_dev, info.st_ino): info.st_blocks * 512 for path in folder.rglob("*") if (info := path.lstat())}
    return sum(seen.values())
