"""Write a made-up genome as gzipped FASTA: three chromosomes, always the same bytes.

usage: python demo/sequences.py demo.fa.gz
"""

import gzip
import random
import sys

CHROMOSOMES = {"chr1": 21_000_000, "chr2": 14_000_000, "chrM": 16_569}
LINE = 60


def main(path: str) -> None:
    """Write the genome to `path`: 35 million bases in lines of 60."""
    dice = random.Random(1)  # noqa: S311 - made-up bases, not a secret
    with gzip.open(path, "wb", compresslevel=1) as out:
        for name, length in CHROMOSOMES.items():
            bases = dice.randbytes(length).translate(b"ACGT" * 64)
            lines = (bases[start : start + LINE] for start in range(0, length, LINE))
            out.write(b">" + name.encode() + b"\n" + b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
