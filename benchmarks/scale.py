"""How the daemon grows with the number of assets: one table for each layout and shape, with the exponent of each row.

make bench ARGS=scale                                                all: N = 100, 1,000 and 10,000, about an hour
make bench ARGS="scale --n 1000 --rows backlog"                      one row, quickly
make bench ARGS="scale --layout 0 --shape many --rows backlog,scan"  one folder; names of rows: --help
make bench ARGS="scale --large"                                      100,000 too
make bench ARGS="scale --python /old/.venv/bin/python"               another version, installed there

`backlog`, `new`, … are groups of rows that are measured together. `backlog`, `import` and `engine` begin with an empty
archive folder. The others share one daemon over archives that the engine has made before (see `prepared`).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import inputs
import scale_rows
from genome_folders import LAYOUTS, SHAPES, GenomeFolder

MB_IDLE, KB_AN_ASSET = 60, 4

Limit = Callable[[int], float]

AT_MOST: dict[str, Limit] = {
    "backlog: CPU ms an archive": lambda _: 20,
    "new build → archive, s": lambda n: 0.3 if n <= 10_000 else 1.0,
    "new archive → served, s": lambda n: 1.0 if n <= 10_000 else math.inf,
    "asset list: first row, s": lambda _: 0.15,
    "asset list: whole, s": lambda n: 2.0 if n <= 30_000 else math.inf,
    "archive list: first row, s": lambda _: 0.15,
    "archive list: whole, s": lambda n: 2.0 if n <= 30_000 else math.inf,
    "archive show, s": lambda _: 0.08,
    "asset list P, s": lambda _: 0.08,
    "archive wait, s": lambda _: 0.08,
    "scan, nothing changed, s": lambda n: 1.2 * max(n, 10_000) / 10_000,
    "20 builds: CPU s a minute": lambda n: 2.0 if n <= 10_000 else math.inf,
    "memory after a restart, MB": lambda n: MB_IDLE + KB_AN_ASSET * n / 1000,
    "restart: READY, s": lambda n: 5.0 if n <= 30_000 else math.inf,
    "rebuilt database: served, s": lambda n: 15.0 if n <= 10_000 else math.inf,
    "serve: start, s": lambda n: 3.0 if n <= 10_000 else math.inf,
    "serve: reload, s": lambda n: 0.5 if n <= 10_000 else math.inf,
    "serve: memory, MB": lambda n: 150.0 if n <= 10_000 else math.inf,
    "serve: worst /health in a reload, s": lambda n: 0.1 if n <= 10_000 else math.inf,
}
AT_LEAST: dict[str, Limit] = {"backlog: archives a second": lambda n: 10_000 / 240 if n >= 10_000 else 0}
LINEAR = ("verify --all, s", "import, s", "scan, nothing changed, s")
LINEAR_EXPONENT = 1.1
FLAT = {"backlog: CPU ms an archive": 1.2}
"""The largest may be this many times the value at the smallest N."""


def arguments(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--n", default="", help="how many assets: 100,1000,10000")
    parser.add_argument("--large", action="store_true", help="100,000 too")
    parser.add_argument("--layout", choices=LAYOUTS, help="0: refgenie 0.13, 1: refgenie 1; both")
    parser.add_argument("--shape", choices=SHAPES, help="ten assets to a genome, or all in one; both")
    parser.add_argument("--rows", default="", help=f"only these: {','.join(scale_rows.ROWS)}")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="the interpreter of another version")
    parser.add_argument("--seconds", type=float, default=900.0, help="a backlog is cut off after this long (900)")
    parser.add_argument("--json", type=Path, help="write all numbers into this file too")


def run(data: Path, options: argparse.Namespace) -> None:
    sizes = sorted({int(n.replace("_", "")) for n in options.n.split(",") if n} or {100, 1000, 10_000})
    if options.large:
        sizes = sorted({*sizes, 100_000})
    names = [name for name in options.rows.split(",") if name] or [name for name in scale_rows.ROWS if name != "peer"]
    if unknown := set(names) - set(scale_rows.ROWS):
        raise inputs.Missing(f"no such rows: {', '.join(unknown)}; there are {', '.join(scale_rows.ROWS)}")
    home = data / "scale"
    home.mkdir(exist_ok=True)
    kept: dict[str, dict[str, dict[int, float]]] = {}
    for layout in [options.layout] if options.layout else LAYOUTS:
        for shape in [options.shape] if options.shape else SHAPES:
            found: dict[str, dict[int, float]] = {}
            for n in sizes:
                folder = GenomeFolder(home, layout, shape, n).made()
                try:
                    for name, value in scale_rows.measured(folder, names, options.python, options.seconds):
                        print(f"{layout} {shape} {n}: {name} {told(value)}", file=sys.stderr, flush=True)
                        found.setdefault(name, {})[n] = value
                finally:
                    folder.restore()
            kept[f"{layout} {shape}"] = found
            print(table(layout, shape, sizes, found), flush=True)
            if options.json:
                options.json.write_text(json.dumps(kept, indent=1))


def table(layout: str, shape: str, sizes: list[int], found: dict[str, dict[int, float]]) -> str:
    title = "refgenie 0.13" if layout == "0" else "refgenie 1"
    title += ", 10 assets to a genome" if shape == "many" else ", all in one genome"
    lines = [f"\n| {title} | {' | '.join(f'{n:,}' for n in sizes)} | grows as N^ | target |"]
    lines.append(f"|---{'|---' * len(sizes)}|---|---|")
    order = {name: number for number, name in enumerate((*scale_rows.ORDER, *found))}
    for name in sorted(found, key=lambda name: order[name]):
        values = found[name]
        cells = [f"{told(values[n])}{'' if holds(name, n, values[n]) else ' ✗'}" if n in values else "" for n in sizes]
        power = exponent(values)
        mark = " ✗" if power is not None and name in LINEAR and power > LINEAR_EXPONENT else ""
        if name in FLAT and len(values) > 1 and values[max(values)] > FLAT[name] * values[min(values)]:
            mark = f" ✗ {values[max(values)] / values[min(values)]:.2f} times"
        shown = "" if power is None else f"{power:.2f}{mark}"
        lines.append(f"| {name} | {' | '.join(cells)} | {shown} | {target(name, max(sizes))} |")
    return "\n".join(lines)


def told(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def holds(name: str, n: int, value: float) -> bool:
    if name in AT_LEAST:
        return value >= AT_LEAST[name](n)
    return name not in AT_MOST or value <= AT_MOST[name](n)


def target(name: str, n: int) -> str:
    words: list[str] = []
    if name in AT_MOST and AT_MOST[name](n) < math.inf:
        words.append(f"≤ {told(AT_MOST[name](n))}")
    if name in AT_LEAST and AT_LEAST[name](n):
        words.append(f"≥ {told(AT_LEAST[name](n))}")
    if name in LINEAR:
        words.append("linear")
    if name in FLAT:
        words.append(f"at most {FLAT[name]} times")
    return ", ".join(words)


def exponent(values: dict[int, float]) -> float | None:
    """By how many powers of N it grows between the last two N."""
    sizes = sorted(n for n, value in values.items() if value > 0)
    if len(sizes) < 2:
        return None
    small, big = sizes[-2:]
    return math.log(values[big] / values[small]) / math.log(big / small)
