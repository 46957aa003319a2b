"""The real refgenie as a person runs it, and recipes that need nothing but Python."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from lab import PATIENCE, Lab

WRITE_ASSET = Path(__file__).with_name("write_asset.py")
LAMBDA = Path("/usr/share/doc/bowtie2/examples/reference/lambda_virus.fa.gz")
DEMO = Path(__file__).parents[2] / "demo"


class Refgenie:
    """refgenie in a lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.config = lab.genomes / "genome_config.yaml"
        self._started: list[subprocess.Popen[str]] = []

    def init(self) -> None:
        """Make the config. Nothing is ever downloaded: the only server that it names answers nothing."""
        self("init", "-c", str(self.config), "-s", "http://127.0.0.1:9")

    def take(self, other: Refgenie) -> None:
        """Begin with a copy of another lab's genome folder: it knows its own place only in its config."""
        but_config = shutil.ignore_patterns(self.config.name)
        shutil.copytree(other.lab.genomes, self.lab.genomes, symlinks=True, dirs_exist_ok=True, ignore=but_config)
        text = other.config.read_text(encoding="utf-8")
        self.config.write_text(text.replace(str(other.lab.genomes), str(self.lab.genomes)), encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `refgenie …` in a process group of its own."""
        process = subprocess.Popen(
            ["refgenie", *arguments],
            env=self.lab.environment,
            cwd=self.lab.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run `refgenie …`, return what it printed."""
        process = self.start(*arguments)
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 or not check, out
        return out

    def close(self) -> None:
        """End what still runs: a test has failed."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def genome(self, alias: str) -> None:
        """Build a small fasta asset, with which a genome begins to exist."""
        sequence = self.lab.root / f"{alias}.fa"
        sequence.write_text(f">chr1\n{'ACGTTGCA' * 200}\n>{alias}\nACGT\n", encoding="ascii")
        subprocess.run(["gzip", "-f", str(sequence)], check=True)
        self("build", f"{alias}/fasta", "--files", f"fasta={sequence}.gz", "--recipe", str(DEMO / "recipe.json"))

    def rounds(self, path: str, number: int, *more: str, recipe: Path, check: bool = True) -> str:
        """Build an asset whose every file bears this round's number."""
        return self("build", path, "--params", f"round={number}", "--recipe", str(recipe), *more, check=check)

    def written(self) -> dict[str, Any]:
        """refgenie's config, as it is."""
        return yaml.safe_load(self.config.read_text(encoding="utf-8"))

    def digest(self, alias: str) -> str:
        found = [digest for digest, genome in self.written()["genomes"].items() if alias in genome["aliases"]]
        assert len(found) == 1, self.written()
        return found[0]

    def registered(self, path: str) -> dict[str, Any] | None:
        """The config's entry of `alias/group:asset`."""
        alias, _, name = path.partition("/")
        group, _, asset = name.partition(":")
        groups = self.written()["genomes"][self.digest(alias)].get("assets", {})
        return groups.get(group, {}).get("tags", {}).get(asset or "default")

    def folder(self, path: str) -> Path:
        """Where refgenie builds `alias/group:asset`."""
        alias, _, name = path.partition("/")
        group, _, asset = name.partition(":")
        return self.lab.genomes / "data" / self.digest(alias) / group / (asset or "default")


def recipe_of(
    folder: Path, name: str, *, files: int = 4, size: int = 100_000, seconds: float = 0.0, fails: bool = False
) -> Path:
    """A recipe for so many files of so many bytes, written within so many seconds; it may fail at the end."""
    command = [sys.executable, str(WRITE_ASSET), "{asset_outfolder}", "{round}"]
    command += [str(files), str(size), str(seconds), *(["fails"] if fails else [])]
    recipe = {
        "name": name,
        "description": f"made-up files of {name}",
        "assets": {name: "part0.bin"},
        "required_files": [],
        "required_parameters": [{"key": "round", "description": "stands in every file"}],
        "required_assets": [],
        "container": "",
        "command_list": [" ".join(command)],
    }
    path = folder / f"{name}-{files}-{size}-{seconds}-{fails}.json"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path
