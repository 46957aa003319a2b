"""Genome folders with many small assets in the layouts of refgenie 0.13 and refgenie 1, for `scale`.

An asset has four small files, seek keys, a parent, and what a build leaves: flags, a log, commands and a recipe. Each
file's content is its own, and the digests in refgenie's config are right. The config is written as text: 100,000
assets take a few minutes. A folder is made once and kept; `restore` removes the builds that a benchmark has added.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import NamedTuple

GROUPS = ("fasta", "bowtie2_index", "bwa_index", "hisat2_index", "star_index", "salmon_index", "kallisto_index")
GROUPS += ("bismark_bt2_index", "dbnsfp", "ensembl_gtf")
A_GENOME = len(GROUPS)
LAYOUTS = ("0", "1")
SHAPES = ("many", "one")
TAG = "default"
AN_HOUR_AGO = 3600.0


class Names(NamedTuple):
    """What the asset of a number is called."""

    digest: str
    alias: str
    group: str
    parent: str
    """The asset group of its parent; empty for a fasta."""


class GenomeFolder:
    """`n` assets: `many` has ten to a genome, `one` has all in one genome."""

    def __init__(self, data: Path, layout: str, shape: str, n: int) -> None:
        self.layout, self.shape, self.n = layout, shape, n
        self.home = data / f"{layout}-{shape}-{n}"
        self.root = self.home / "genomes"
        self.config = self.root / "genome_config.yaml"
        self._extra = self.home / "extra.txt"  # the numbers of the builds that were added, for a run that was killed
        self._text = ""

    def made(self) -> GenomeFolder:
        """Make it unless it is there, and remove what a run that was killed has left in it."""
        done = self.home / "made"
        if not done.exists():
            shutil.rmtree(self.home, ignore_errors=True)
            self.root.mkdir(parents=True)
            with multiprocessing.Pool(2) as pool:
                texts = list(pool.imap(self._write_chunk, range(0, self.n, 1000)))
            if self.layout == "0":
                self.config.write_text(self._head() + "".join(texts))
                then = time.time() - AN_HOUR_AGO
                os.utime(self.config, (then, then))
            done.touch()
        self._text = self.config.read_text() if self.layout == "0" else ""
        self.restore()
        return self

    @property
    def served(self) -> bool:
        """Whether refgenieserver can serve it: it takes no digests of 32 characters."""
        return self.layout == "0"

    def names(self, number: int) -> Names:
        genome = number // A_GENOME if self.shape == "many" else 0
        alias = f"g{genome:05d}"
        sum_ = hashlib.sha256(alias.encode()).digest()
        digest = sum_.hex()[:48] if self.layout == "0" else urlsafe_b64encode(sum_[:24]).decode()
        group = GROUPS[number % A_GENOME]
        start = "" if self.shape == "many" else f"s{number // A_GENOME:05d}_"
        return Names(digest, alias, f"{start}{group}", "" if group == "fasta" else f"{start}fasta")

    def path(self, number: int) -> str:
        """The registry path."""
        names = self.names(number)
        return f"{names.alias}/{names.group}:{TAG}"

    # ----------------------------------------------------------------- one asset's files

    def folder(self, number: int) -> Path:
        names = self.names(number)
        last = TAG if self.layout == "0" else hashlib.sha256(f"{names.alias}/{names.group}".encode()).hexdigest()
        return self.root / "data" / names.digest / names.group / last

    def build_folder(self, number: int) -> Path:
        if self.layout == "0":
            return self.folder(number) / "_refgenie_build"
        names = self.names(number)
        return self.root / "builds" / names.alias / names.group / TAG

    def _contents(self, number: int) -> dict[str, bytes]:
        alias = self.names(number).alias
        line = hashlib.sha256(str(number).encode()).hexdigest().encode()
        return {
            f"{alias}.chrom.sizes": b"chr1\t%d\n" % (number + 1),
            f"{alias}.fa": b">chr1 %d\n" % number + line.translate(_BASES, b"") * 4 + b"\n",
            f"{alias}.fa.fai": b"chr1\t256\t%d\t256\t257\n" % (len(str(number)) + 7),
            "index/part.1": line * 3 + b"\n",
        }

    def flag(self, number: int, word: str) -> Path:
        names = self.names(number)
        sample = "DEFAULT_SAMPLE_NAME" if self.layout == "0" else f"{names.alias}_{names.group}_{TAG}"
        return self.build_folder(number) / f"refgenie_{sample}_{word}.flag"

    def log(self, number: int) -> Path:
        names = self.names(number)
        name = "refgenie_log.md" if self.layout == "0" else f"refgenie_{names.alias}_{names.group}_{TAG}_log.md"
        return self.build_folder(number) / name

    def start(self, number: int) -> None:
        """A build begins: its log, statistics and running flag."""
        with self._extra.open("a") as extra:
            extra.write(f"{number}\n")
        self._begin(number)
        os.makedirs(self.folder(number), exist_ok=True)
        if self.layout == "0":  # refgenie locks its config to read it
            lock = self.config.with_name(f"lock-{self.config.name}")
            lock.touch()
            lock.unlink()

    def work(self, number: int) -> None:
        """A second of a build that has begun: its log and a data file grow."""
        for path in (self.log(number), self.folder(number) / "part"):
            with path.open("ab") as file:
                file.write(b"still at work\n" * 10)

    def _begin(self, number: int) -> None:
        os.makedirs(self.build_folder(number), exist_ok=True)
        _write(self.log(number), b"### Pipeline run code and environment:\n* Command: refgenie build\n" * 4)
        _write(self.build_folder(number) / "stats.yaml", b"refgenie:\n  time: 0:00:01\n")
        _write(self.flag(number, "running"), b"running")

    def _fill(self, number: int) -> str:
        """The data files and what is beside them; the text of its entry in refgenie's config."""
        names, folder, build = self.names(number), self.folder(number), self.build_folder(number)
        os.makedirs(folder / "index", exist_ok=True)
        files = self._contents(number)
        for name, content in files.items():
            _write(folder / name, content)
        target = names.digest if self.layout == "0" else names.alias
        _write(build / f"{target}_{names.group}__{TAG}.flag", b"")
        _write(build / f"build_recipe_{names.group}__{TAG}.json", _recipe(names.group))
        _write(build / "refgenie_commands.sh", f"# Pipeline started\n\nindex {names.alias}.fa\n".encode())
        return self._entry(names, files) if self.layout == "0" else ""

    def _end(self, number: int) -> None:
        os.unlink(self.flag(number, "running"))
        _write(self.flag(number, "completed"), b"completed")

    def _link(self, number: int) -> None:
        """refgenie 1's links, which it makes last. (refgenie 0.13 makes links too, and the daemon never reads them.)"""
        names, folder = self.names(number), self.folder(number)
        links = self.root / "alias" / names.alias / names.group / TAG
        os.makedirs(links / "index", exist_ok=True)
        for name in self._contents(number):
            up = "../" * (4 + name.count("/"))
            os.symlink(f"{up}{folder.relative_to(self.root)}/{name}", links / name)

    # ----------------------------------------------------------------- builds while a daemon looks on

    def build(self, number: int) -> float:
        """A whole build of a new asset, in refgenie's order; the time of its last change."""
        self.start(number)
        text = self._fill(number)
        if self.layout == "0":
            if self.shape == "many" and f"\n  {self.names(number).digest}:\n" not in self._text:
                text = self._genome(number) + text
            self._text += text
            self.config.write_text(self._text)
        self._end(number)
        if self.layout == "1":
            self._link(number)
        return time.time()

    def remove(self, *numbers: int) -> None:
        """Their files go. (Their entries go when `restore` writes the config.)"""
        for number in numbers:
            names = self.names(number)
            for folder in (self.folder(number), *(self.root / top / names.alias / names.group for top in _TOPS)):
                shutil.rmtree(folder, ignore_errors=True)
            for emptied in (self.folder(number).parent, *(self.root / top / names.alias for top in _TOPS)):
                for folder in (emptied, emptied.parent):
                    if folder.parent != self.root and folder.exists() and not os.listdir(folder):
                        folder.rmdir()

    def restore(self) -> None:
        """As it was made."""
        if self._extra.exists():
            self.remove(*{int(line) for line in self._extra.read_text().split()})
            if self.layout == "0":
                whole = (self.home / "config.yaml").read_text()
                if self.config.read_text() != whole:
                    self.config.write_text(whole)
                self._text = whole
            self._extra.unlink()
        elif self.layout == "0" and not (self.home / "config.yaml").exists():
            shutil.copy2(self.config, self.home / "config.yaml")

    # ----------------------------------------------------------------- making all

    def _write_chunk(self, first: int) -> str:
        texts: list[str] = []
        for number in range(first, min(first + 1000, self.n)):
            self._begin(number)
            if number % A_GENOME == 0 and (self.shape == "many" or number == 0):
                texts.append(self._genome(number))
            texts.append(self._fill(number))
            self._end(number)
            if self.layout == "1":
                self._link(number)
        return "".join(texts) if self.layout == "0" else ""

    def _head(self) -> str:
        return (
            f"config_version: 0.4\ngenome_folder: {self.root}\n"
            "genome_servers:\n- http://refgenomes.databio.org\ngenomes:\n"
        )

    def _genome(self, number: int) -> str:
        names = self.names(number)
        return f"  {names.digest}:\n    aliases:\n    - {names.alias}\n    assets:\n"

    def _entry(self, names: Names, files: dict[str, bytes]) -> str:
        sums = "".join(f"{hashlib.md5(content).hexdigest()}\n" for _, content in sorted(files.items()))  # noqa: S324 - refgenie's
        digest = hashlib.md5(sums.encode()).hexdigest()  # noqa: S324
        parents = f"\n            - {names.digest}/{names.parent}:{TAG}" if names.parent else " []"
        return (
            f"      {names.group}:\n        asset_description: the {names.group} of it\n        default_tag: {TAG}\n"
            f"        tags:\n          {TAG}:\n            asset_digest: {digest}\n"
            f"            asset_parents:{parents}\n            asset_path: {names.group}\n            seek_keys:\n"
            f"              {names.group}: {names.alias}.fa\n              fai: {names.alias}.fa.fai\n"
            f"              dir: .\n"
        )


_TOPS = ("alias", "builds")
_BASES = bytes.maketrans(b"0123456789abcdef", b"ACGTACGTACGTACGT")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def _write(path: Path, content: bytes) -> None:
    file = os.open(path, _FLAGS, 0o644)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def _recipe(group: str) -> bytes:
    recipe = {
        "name": group,
        "description": f"a {group}",
        "assets": {group: "{genome}.fa", "fai": "{genome}.fa.fai"},
        "required_files": [],
        "required_parameters": [],
        "required_assets": [{"key": "fasta", "default": "fasta", "description": "it"}],
        "container": "databio/refgenie",
        "command_list": ["index {asset_outfolder}/{genome}.fa"],
        "version": "0.0.1",
    }
    return json.dumps(recipe).encode()
