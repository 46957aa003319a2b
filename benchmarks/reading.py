"""Reading back, with the installed commands: one small file out of a big archive, the proof of it, a restore.

The peers: `tar -xOzf` for one file, `pigz -t` for the proof, `tar -xf` through `pigz -dc` for the restore.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import house
import inputs
from lab import Lab
from synthetic import ALIAS

PATH = f"{ALIAS}/big"


def run(data: Path, megabytes: int, pairs: int) -> None:
    inputs.require("pigz", "tar")
    with house.lab(data) as made:
        house.fill(made, data, megabytes)
        made.start()
        made.ctl("archive", "create", PATH)
        said = made.wait(PATH)
        if said.code:
            raise inputs.Missing(f"{PATH} was not archived: {said.err.strip()}")
        archive = next(made.archives.rglob("big__default.tgz"))
        fai = next(made.genomes.rglob("genome.fa.fai"))
        print(
            f"an archive of {megabytes / 1000:g} GB of FASTA and its .fai of {fai.stat().st_size} bytes; medians of {pairs}"
        )
        out = made.root / "out"
        commands: dict[str, tuple[list[str], list[str]]] = {
            "one .fai": (
                ["tar", "-xOzf", str(archive), "default/genome.fa.fai"],
                ["refgeniectl", "archive", "cat", PATH, "genome.fa.fai"],
            ),
            "verify": (["pigz", "-t", str(archive)], ["refgeniectl", "archive", "verify", PATH]),
            "restore": (
                ["tar", "-I", "pigz", "-C", str(out), "-xf", str(archive)],
                ["refgeniectl", "archive", "restore", PATH, "--to", str(out)],
            ),
        }
        for name, (theirs, mine) in commands.items():
            show(name, *pair(made, theirs, mine, pairs, out))


def pair(made: Lab, theirs: list[str], mine: list[str], pairs: int, out: Path) -> tuple[float, float, float]:
    """(the peer's seconds, ours, the ratio): medians of runs turn by turn, each into an empty folder."""

    def timed(command: list[str]) -> float:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        began = time.monotonic()
        done = subprocess.run(command, env=made.environment, capture_output=True, check=False)
        seconds = time.monotonic() - began
        if done.returncode:
            raise inputs.Missing(f"{' '.join(command[:3])} failed: {done.stderr.decode().strip()}")
        return seconds

    runs = [(timed(theirs), timed(mine)) for _ in range(pairs)]
    median: Callable[[list[float]], float] = statistics.median
    return median([a for a, _ in runs]), median([b for _, b in runs]), median([a / b for a, b in runs])


def show(name: str, theirs: float, mine: float, ratio: float) -> None:
    print(f"{name:10} peer {theirs:7.3f} s   ours {mine:7.3f} s   {ratio:5.1f} times as fast", flush=True)
