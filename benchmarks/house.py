"""A daemon with a big asset and one of many files: what `soak` and `reading` measure on."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import inputs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/helpers"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from lab import Lab
from proof import files_in, refgenie_digest
from synthetic import Genomes

from refgenied.model import AssetKey


@contextmanager
def lab(data: Path, genomes: Path | None = None) -> Iterator[Lab]:
    """A laboratory whose folders lie beside the inputs; its daemon's log is not shown.

    A socket's path must be short, so that the rest of it is in /tmp.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as root, tempfile.TemporaryDirectory(dir=data) as out:
        made = Lab(Path(root))
        made.genomes, made.archives = genomes or Path(out, "genomes"), Path(out, "archives")
        made.archives.mkdir()
        made.configure(archive={"automatic": False}, watch={"enabled": False})
        try:
            yield made
        finally:
            with redirect_stdout(io.StringIO()):
                made.close()


def fill(made: Lab, data: Path, megabytes: int) -> None:
    """Two built assets: `big`, one FASTA of that size and its index, and `many`, 20,000 small files."""
    fasta = inputs.made("fasta-masked", data, 1.0 if megabytes >= 1000 else 0.1)
    small = inputs.made("small-files", data, 1.0)
    genomes = Genomes(made.genomes)
    big, many = genomes.build("big"), genomes.build("many")
    with (genomes.folder(big) / "genome.fa").open("wb") as file:
        while file.tell() < megabytes * inputs.MB:
            with (fasta / "genome.fa").open("rb") as part:
                shutil.copyfileobj(part, file, 1 << 20)
    shutil.copy(fasta / "genome.fa.fai", genomes.folder(big) / "genome.fa.fai")
    shutil.copytree(small, genomes.folder(many), dirs_exist_ok=True)
    for key in (big, many):
        _register(genomes, key)
    genomes.write_config()


def _register(genomes: Genomes, key: AssetKey) -> None:
    """refgenie's config must know the files that came after the build."""
    entry = genomes._groups[key.asset_group][key.asset]
    entry["asset_digest"] = refgenie_digest(files_in(genomes.folder(key)))  # type: ignore[index]
