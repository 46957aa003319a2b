"""The inputs: assets as refgenie keeps them, made from real sequences, the same bytes on every machine.

The sequences come from Debian packages: Dictyostelium (`spaln-data`, 34 Mb, rich in A and T) and two dozen
bacteria (`ragout-examples`, 48 Mb). Where more is needed than there is, mutated copies follow: they are tens of
megabases from what they copy, far outside the window of any deflate. What exists nowhere in Debian is made after
the real thing: soft-masking with its runs of many lengths, a GTF as GENCODE writes it, 20,000 small files.
"""

from __future__ import annotations

import gzip
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

DICTYOSTELIUM = Path("/usr/share/spaln/seqdb/dictdisc_g.gf.gz")
BACTERIA = Path("/usr/share/doc/ragout/examples")

WIDTH = 60
"""Bases in a line, as in GENCODE's and Ensembl's files."""

MB = 1_000_000
COMPLEMENT = bytes.maketrans(b"ACGTacgt", b"TGCAtgca")


class Missing(Exception):
    """Something must be installed first: one line for people."""


PACKAGES = {
    DICTYOSTELIUM: "spaln-data",
    BACTERIA: "ragout-examples",
    "bowtie2-build": "bowtie2",
    "bwa": "bwa",
    "pigz": "pigz",
    "tar": "tar",
}


def require(*things: str | Path) -> None:
    """Missing names the Debian packages to install."""
    lost = [
        PACKAGES[thing] for thing in things if not (shutil.which(thing) if isinstance(thing, str) else thing.exists())
    ]
    if lost:
        raise Missing(f"the benchmarks need more: apt-get install {' '.join(dict.fromkeys(lost))}")


# ------------------------------------------------------------------ sequences


def records(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, sequence in upper case) of a gzipped FASTA."""
    name, lines = "", []
    with gzip.open(path) as file:
        for line in file:
            if line.startswith(b">"):
                if lines:
                    yield name, b"".join(lines).upper()
                name, lines = line[1:].split()[0].decode(), []
            else:
                lines.append(line.rstrip())
    yield name, b"".join(lines).upper()


def real_sequences() -> Iterator[tuple[str, bytes]]:
    require(DICTYOSTELIUM, BACTERIA)
    yield from records(DICTYOSTELIUM)
    for path in sorted(BACTERIA.glob("*/references/*.fasta.gz")):
        yield from records(path)


def sequences(size: int) -> Iterator[tuple[str, bytes]]:
    """Real sequences and then mutated copies of them, `size` bases in all."""
    rng = random.Random(1)
    left, again = size, 0
    real = list(real_sequences())
    while left:
        for name, sequence in real:
            chosen = (mutated(sequence, rng) if again else sequence)[:left]
            left -= len(chosen)
            if chosen:
                yield f"{name}.{again}", chosen
        again += 1


def mutated(sequence: bytes, rng: random.Random) -> bytes:
    """A copy with one substitution in fifty bases on average, and its parts in another order."""
    copy = bytearray(sequence)
    at = 0
    while (at := at + rng.randrange(1, 100)) < len(copy):
        copy[at] = rng.choice(b"ACGT")
    cut = rng.randrange(len(copy))
    return bytes(copy[cut:] + copy[:cut])


def soft_masked(sequence: bytes, rng: random.Random) -> bytes:
    """Half of it in lower case, in runs as RepeatMasker's: a few bases to many thousands, median 200."""
    masked = bytearray(sequence)
    at = 0
    while at < len(masked):
        at += 1 + int(rng.lognormvariate(5.3, 1.3))
        end = at + 1 + int(rng.lognormvariate(5.3, 1.2))
        masked[at:end] = masked[at:end].lower()
        at = end
    return bytes(masked)


def write_fasta(path: Path, size: int, *, masked: bool) -> None:
    rng = random.Random(2)
    with path.open("wb") as file, path.with_name(path.name + ".fai").open("w") as fai:
        for name, sequence in sequences(size):
            head = b">%b\n" % name.encode()
            fai.write(f"{name}\t{len(sequence)}\t{file.tell() + len(head)}\t{WIDTH}\t{WIDTH + 1}\n")
            file.write(head)
            lines(file.write, soft_masked(sequence, rng) if masked else sequence)


def lines(write: Callable[[bytes], object], sequence: bytes) -> None:
    for begin in range(0, len(sequence), WIDTH * 10_000):
        part = sequence[begin : begin + WIDTH * 10_000]
        write(b"\n".join(part[at : at + WIDTH] for at in range(0, len(part), WIDTH)) + b"\n")


# ------------------------------------------------------------------ assets


def fasta_upper(folder: Path, scale: float) -> None:
    write_fasta(folder / "genome.fa", int(197 * MB * scale), masked=False)


def fasta_masked(folder: Path, scale: float) -> None:
    write_fasta(folder / "genome.fa", int(197 * MB * scale), masked=True)


def bowtie2_index(folder: Path, scale: float) -> None:
    require("bowtie2-build")
    index(folder, int(82 * MB * scale), ["bowtie2-build", "--quiet", "--threads", "2", "genome.fa", "genome"])


def bwa_index(folder: Path, scale: float) -> None:
    require("bwa")
    index(folder, int(72 * MB * scale), ["bwa", "index", "genome.fa"])


def index(folder: Path, size: int, command: list[str]) -> None:
    """As refgenie's recipes: the index alone, without the FASTA it was made from."""
    fasta = folder / "genome.fa"
    write_fasta(fasta, size, masked=False)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    fasta.unlink()
    fasta.with_name("genome.fa.fai").unlink()


BIOTYPES = ("protein_coding",) * 12 + ("lncRNA",) * 9 + ("processed_pseudogene",) * 5 + ("miRNA", "snRNA", "misc_RNA")


def gtf(folder: Path, scale: float) -> None:
    """Genes, transcripts, exons and coding parts with GENCODE's attributes."""
    rng = random.Random(3)
    left = int(100 * MB * scale)
    with (folder / "annotation.gtf").open("w") as file:
        file.write("##description: evidence-based annotation\n##provider: GENCODE\n##format: gtf\n")
        gene = transcript = exon = 0
        chromosome, at = 1, 11_000
        while left > 0:
            gene += rng.randrange(1, 40)
            at += int(rng.lognormvariate(9.5, 1.2))
            if at > 150_000_000:
                chromosome, at = chromosome + 1, 11_000
            strand, biotype = rng.choice("+-"), rng.choice(BIOTYPES)
            name = f"{rng.choice('ABCDFGHKLMNPRSTZ')}{rng.choice('ABCDEFILNPRT')}{rng.choice('ACDGKLMNPRSTX')}{rng.randrange(1, 300)}"
            about = f'gene_id "ENSG{gene:011}.{rng.randrange(1, 20)}"; '
            kind = f'gene_type "{biotype}"; gene_name "{name}"; '
            ended = f'hgnc_id "HGNC:{rng.randrange(1, 60_000)}"; havana_gene "OTTHUMG{gene:011}.{rng.randrange(1, 9)}";'
            exons, place = [], at
            for _ in range(1 + min(40, int(rng.lognormvariate(1.6, 0.8)))):
                size = 30 + int(rng.lognormvariate(4.8, 0.6))
                exons.append((place, place + size))
                place += size + 80 + int(rng.lognormvariate(7.3, 1.4))
            rows = [row(chromosome, "gene", at, exons[-1][1], strand, ".", f"{about}{kind}level 2; {ended}")]
            for number in range(1 + min(12, int(rng.expovariate(0.4)))):
                transcript += rng.randrange(1, 20)
                source = f'{about}transcript_id "ENST{transcript:011}.{rng.randrange(1, 12)}"; {kind}'
                source += f'transcript_type "{biotype}"; transcript_name "{name}-{201 + number}"; '
                chosen = [part for part in exons if rng.random() < 0.75] or exons
                tail = (
                    f'level 2; protein_id "ENSP{transcript:011}.2"; transcript_support_level "{rng.randrange(1, 6)}"; '
                )
                tail += f'tag "basic"; havana_transcript "OTTHUMT{transcript:011}.1";'
                rows.append(row(chromosome, "transcript", chosen[0][0], chosen[-1][1], strand, ".", source + tail))
                for order, (begin, end) in enumerate(chosen if strand == "+" else chosen[::-1], 1):
                    exon += 1
                    more = f'exon_number {order}; exon_id "ENSE{exon:011}.1"; '
                    rows.append(row(chromosome, "exon", begin, end, strand, ".", source + more + tail))
                    if biotype == "protein_coding" and order > 1:
                        frame = str(rng.randrange(3))
                        rows.append(row(chromosome, "CDS", begin, end, strand, frame, source + more + tail))
            text = "".join(rows)
            left -= len(text)
            file.write(text)
            at = place


def row(chromosome: int, feature: str, begin: int, end: int, strand: str, frame: str, attributes: str) -> str:
    return f"chr{chromosome}\tHAVANA\t{feature}\t{begin}\t{end}\t.\t{strand}\t{frame}\t{attributes}\n"


def small_files(folder: Path, scale: float) -> None:
    """20,000 files of 4 kB on average in 200 folders: contigs, their lists, alignments as text, packed bases."""
    rng = random.Random(4)
    count = int(20_000 * scale)
    source = b"".join(sequence for _, sequence in sequences(34 * MB))
    for number in range(count):
        size = min(60_000, 200 + int(rng.lognormvariate(7.6, 1.1)))
        begin = rng.randrange(len(source) - size)
        part = source[begin : begin + size]
        below = folder / f"part{number % 200:03}"
        below.mkdir(exist_ok=True)
        match number % 4:
            case 0:
                text = [b">contig%d length=%d\n" % (number, size)]
                lines(text.append, part)
                (below / f"contig{number}.fa").write_bytes(b"".join(text))
            case 1:
                rows = [
                    f"contig{number}\t{at}\t{at + rng.randrange(20, 900)}\tfeature{at % 97}\t{rng.randrange(1000)}\t+\n"
                    for at in range(0, size, 40)
                ]
                (below / f"contig{number}.bed").write_text("".join(rows))
            case 2:
                codes = part.translate(bytes.maketrans(b"ACGTN", bytes((0, 1, 2, 3, 0))))
                packed = bytes(a << 6 | b << 4 | c << 2 | d for a, b, c, d in zip(*[iter(codes)] * 4, strict=False))
                (below / f"contig{number}.pac").write_bytes(packed * 2)
            case _:
                reads = [
                    f"read{number}.{at}\t{rng.choice((0, 16))}\tcontig{number}\t{at}\t42\t100M\t*\t0\t0\t"
                    f"{part[at : at + 100].decode()}\t*\tAS:i:{-rng.randrange(20)}\n"
                    for at in range(0, size - 100, 150)
                ]
                (below / f"contig{number}.sam").write_text("".join(reads))


INPUTS: dict[str, Callable[[Path, float], None]] = {
    "fasta-upper": fasta_upper,
    "fasta-masked": fasta_masked,
    "bowtie2-index": bowtie2_index,
    "bwa-index": bwa_index,
    "gtf": gtf,
    "small-files": small_files,
}


def made(name: str, data: Path, scale: float) -> Path:
    """The asset's folder below `data`, made now if it is not there."""
    folder = data / f"{scale:g}" / name
    if not folder.is_dir():
        partial = folder.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        INPUTS[name](partial, scale)
        partial.rename(folder)
    return folder
