"""Asset folder → proved `.tgz`, and back. This library takes plain paths, its calls block, and it knows no daemon.

    from refgenied.archive import pack, read, restore, verify

    manifest = pack("genomes/hg38/fasta/default", "fasta.tgz")   # and fasta.json, its manifest, beside it
    verify("fasta.tgz")                                          # raises DamagedArchiveError, which names the member
    read("fasta.tgz", "hg38.fa.fai", 0, 100)                     # only the blocks that are needed
    restore("fasta.tgz", "elsewhere", ["hg38.fa.fai"])           # elsewhere/default/hg38.fa.fai

Every error is a `refgenied.model.RefgeniedError` with one line for a person. The daemon does not call these four
functions but their parts: `place.Place` (the paths in an archive folder), `creator.pack_asset` (makes a proved draft
that nobody sees yet), `presence.settle`, `prover.prove`.
"""

from refgenied.archive.creator import pack
from refgenied.archive.reader import read
from refgenied.archive.restorer import restore
from refgenied.archive.verifier import verify
from refgenied.model import prepare_structs

__all__ = ["pack", "read", "restore", "verify"]

prepare_structs()  # a program may call these in several threads
