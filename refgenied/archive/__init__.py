"""Asset folder → proved `.tgz`, and back. This library takes plain paths, its calls block, and it knows no daemon.

    from refgenied.archive import pack, read, restore, verify

    manifest = pack("genomes/hg38/fasta/default", "fasta.tgz")   # and fasta.json, its manifest, beside it
    verify("fasta.tgz")                                          # raises DamagedArchiveError, which names the member
    read("fasta.tgz", "hg38.fa.fai", 0, 100)                     # only the blocks that are needed
    restore("fasta.tgz", "elsewhere", ["hg38.fa.fai"])           # elsewhere/default/hg38.fa.fai

Every error is a `refgenied.model.RefgeniedError` with one line for a person. The daemon does not call these four
functions but their parts: `Place` (the paths in an archive folder), `pack_asset` (makes a proved draft that nobody sees
yet), `reconcile`, `prove`.
"""

from refgenied.archive.adopt import REPLACED, make_way, take_foreign, take_ours
from refgenied.archive.compare import same_content
from refgenied.archive.creator import pack, pack_asset
from refgenied.archive.discover import Found, Maker, find_archive, find_archives, found_at
from refgenied.archive.format.codec import Codec, CodecRecord, Compression, ContentAware, Libdeflate
from refgenied.archive.format.entries import Entry, Totals
from refgenied.archive.format.manifest import About, Manifest, Removed, iter_files, read_manifest
from refgenied.archive.format.members import check_size
from refgenied.archive.place import Place, manifest_at
from refgenied.archive.presence import Presence, Reconciled, places, reconcile
from refgenied.archive.prover import prove
from refgenied.archive.publisher import Draft, bring_back, remove
from refgenied.archive.reader import MemberReader, read
from refgenied.archive.restorer import Restored, restore
from refgenied.archive.run import Check, OnProgress, Phase, Run, no_check, no_progress
from refgenied.archive.verifier import Verified, verify

__all__ = [
    "REPLACED",
    "About",
    "Check",
    "Codec",
    "CodecRecord",
    "Compression",
    "ContentAware",
    "Draft",
    "Entry",
    "Found",
    "Libdeflate",
    "Maker",
    "Manifest",
    "MemberReader",
    "OnProgress",
    "Phase",
    "Place",
    "Presence",
    "Reconciled",
    "Removed",
    "Restored",
    "Run",
    "Totals",
    "Verified",
    "bring_back",
    "check_size",
    "find_archive",
    "find_archives",
    "found_at",
    "iter_files",
    "make_way",
    "manifest_at",
    "no_check",
    "no_progress",
    "pack",
    "pack_asset",
    "places",
    "prove",
    "read",
    "read_manifest",
    "reconcile",
    "remove",
    "restore",
    "same_content",
    "take_foreign",
    "take_ours",
    "verify",
]
