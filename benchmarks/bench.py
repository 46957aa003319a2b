"""Ours against `tar | pigz`, turn by turn on the same machine: the table of benchmarks/README.md.

make bench                                           everything: about ten minutes, after inputs of five
make bench ARGS="--quick"                            small inputs, one pair: a look at whether it all works
make bench ARGS="--only fasta-upper --preset fast"   one cell of the table
make bench ARGS="publish"                            a whole publish against `refgenieserver archive`
make bench ARGS="reading"                            1 GB: one small file out of it, verify, restore
make bench ARGS="soak"                               3 GB: memory, cancel, and how quick the control API stays
make bench ARGS="scale"                              growth with the number of assets: see scale.py
make bench ARGS="soak-scale"                         10,000 assets, 20 builds a minute, 50 followers of events
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import inputs
import publish
import reading
import scale
import scale_soak
import soak

HERE = Path(__file__).parent
DATA = HERE / ".data"
PRESETS = ("fast", "balanced", "small")

# Issue 3: (times as fast as tar | pigz at least, its size at most)
TARGETS = {
    "balanced": {
        "fasta-upper": (12, 0.98),
        "fasta-masked": (4.5, 1.01),
        "bowtie2-index": (1.9, 1.01),
        "bwa-index": (2.8, 1.01),
        "gtf": (1.4, 0.98),
        "small-files": (1.9, 0.96),
    },
    "fast": {
        "fasta-upper": (18, 1.09),
        "fasta-masked": (18, 1.10),
        "bowtie2-index": (4.5, 1.07),
        "bwa-index": (6, 1.02),
        "gtf": (2, 1.25),
        "small-files": (3.5, 1.05),
    },
    "small": {
        "fasta-upper": (2, 0.92),
        "fasta-masked": (1, 0.98),
        "bowtie2-index": (1, 1.00),
        "bwa-index": (1, 1.00),
        "gtf": (1, 0.93),
        "small-files": (1, 0.95),
    },
}


class Run(NamedTuple):
    seconds: float
    cpu: float
    size: int
    memory: int


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one run's output, on the disk where the inputs are."""
    folder = Path(tempfile.mkdtemp(prefix="out-", dir=DATA))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def peer(folder: Path, threads: int) -> Run:
    """`tar | pigz` at its default level. Both step back as our packing threads do, so that other load meets all alike."""
    with scratch() as out:
        archive = out / "peer.tgz"
        command = f'nice -n 10 tar -C "$1" -cf - "$2" | nice -n 10 pigz -p {threads} > "$3"'
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(["sh", "-c", command, "sh", folder.parent, folder.name, archive], check=True)
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(seconds, cpu, archive.stat().st_size, 0)


def ours(folder: Path, preset: str, threads: int, *, proved: bool = False) -> Run:
    """A process of its own packs with all digests and tells what it took."""
    command = [sys.executable, str(HERE / "ours.py"), str(folder), "", preset, str(threads)] + ["proved"] * proved
    with scratch() as out:
        command[3] = str(out)
        environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise inputs.Missing(f"packing {folder.name} failed: {done.stderr.strip()}")
    return Run(**json.loads(done.stdout))


def median(runs: list[Run]) -> Run:
    return Run(*(statistics.median(column) for column in zip(*runs, strict=True)))


def warm(folder: Path) -> int:
    """Into the page cache; bytes of all files."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    total += len(chunk)
    return total


def machine() -> str:
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    cores = len(os.sched_getaffinity(0))
    codecs = ", ".join(f"{name} {version(name)}" for name in ("deflate", "isal", "zlib-ng"))
    return (
        f"{cores} cores ({models[0] if models else platform.machine()}), Python {platform.python_version()}, {codecs}"
    )


HEAD = (
    "| input | | MB/s | wall s | times as fast | target | size | target | CPU s | peak MB |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row(name: str, what: str, mb: float, run: Run, base: Run, target: tuple[float, float] | None, ratio: float) -> str:
    fast, small = target or ("", "")
    kept = ["", ""]
    if target:
        kept = ["" if ratio >= fast else " ✗", "" if run.size / base.size <= small else " ✗"]
    memory = f"{run.memory / 1e6:.0f}" if run.memory else ""
    return (
        f"| {name} | {what} | {mb / run.seconds:.0f} | {run.seconds:.2f} | {ratio:.1f}{kept[0]} | {f'≥ {fast}' if target else ''} "
        f"| {run.size / base.size:.3f}{kept[1]} | {f'≤ {small}' if target else ''} | {run.cpu:.2f} | {memory} |"
    )


def table(names: list[str], presets: list[str], pairs: int, scale: float, threads: int) -> None:
    inputs.require("pigz", "tar")
    for name in names:
        if not (DATA / f"{scale:g}" / name).is_dir():
            print(f"making {name} …", file=sys.stderr, flush=True)
            inputs.made(name, DATA, scale)
    print(
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}; load {os.getloadavg()[0]:.1f}; medians of {pairs}\n\n{HEAD}"
    )
    for name in names:
        folder = inputs.made(name, DATA, scale)
        mb = warm(folder) / 1e6
        base: list[Run] = []
        found: dict[str, list[Run]] = {preset: [] for preset in presets}
        ratios: dict[str, list[float]] = {preset: [] for preset in presets}
        for _ in range(pairs):
            base.append(peer(folder, threads))
            for preset in presets:
                found[preset].append(ours(folder, preset, threads))
                ratios[preset].append(base[-1].seconds / found[preset][-1].seconds)
        reference = median(base)
        print(row(name, "tar \\| pigz", mb, reference, reference, None, 1.0))
        for preset in presets:
            ratio = statistics.median(ratios[preset])
            print(row("", preset, mb, median(found[preset]), reference, TARGETS[preset][name], ratio), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="?", choices=("table", "publish", "reading", "soak", "scale", "soak-scale"), default="table"
    )
    parser.add_argument(
        "--only", action="append", choices=list(inputs.INPUTS), help="this input alone; may be repeated"
    )
    parser.add_argument("--preset", action="append", choices=PRESETS, help="this preset alone; may be repeated")
    parser.add_argument("--pairs", type=int, default=5, help="turns of peer and ours (5)")
    parser.add_argument("--quick", action="store_true", help="inputs of a tenth, one pair")
    group = parser.add_argument_group("scale")
    scale.arguments(group)
    scale_soak.arguments(group)
    options = parser.parse_args()
    size, pairs = (0.1, 1) if options.quick else (1.0, options.pairs)
    threads = len(os.sched_getaffinity(0))
    DATA.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that daemons end and folders go
    try:
        if options.what == "publish":
            publish.run(DATA, pairs)
        elif options.what == "reading":
            reading.run(DATA, 100 if options.quick else 1000, pairs)
        elif options.what == "soak":
            soak.run(DATA, 300 if options.quick else 3000)
        elif options.what == "scale":
            scale.run(DATA, options)
        elif options.what == "soak-scale":
            scale_soak.run(DATA, options)
        else:
            table(options.only or list(inputs.INPUTS), options.preset or list(PRESETS), pairs, size, threads)
    except inputs.Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
