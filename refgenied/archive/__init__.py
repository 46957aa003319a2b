"""Asset folder → proved `.tgz`, and back: a library of plain paths that blocks, and that knows no daemon.

    from refgenied.archive import pack, read, restore, verify

    manifest = pack("genomes/hg38/fasta/default", "fasta.tgz")   # and fasta.json, its manifest, beside it
    verify("fasta.tgz")                                          # raises DamagedArchiveError, which names the member
    read("fasta.tgz", "hg38.fa.fai", 0, 100)                     # only the blocks that are needed
    restore("fasta.tgz", "elsewhere", ["hg38.fa.fai"])           # elsewhere/default/hg38.fa.fai

All errors are `refgenied.model.RefgeniedError`, one line for a person each. What the daemon works with is beneath
that: `Place` (the paths in an archive folder), `pack_asset` (a draft that is proved and not yet seen), `reconcile`.
"""

from .adopting import make_way, take_foreign, take_ours
from .codec import Codec, CodecRecord, Compression, ContentAware, Libdeflate
from .comparing import same_content
from .draft import pack_asset
from .entries import Entry
from .finding import Found, Maker, find_archives
from .manifest import About, Manifest, Removed, Totals, iter_files, read_manifest
from .place import Place
from .plain import pack
from .progress import Phase
from .publish import Draft, remove
from .reading import MemberReader, read
from .reconcile import Presence, Reconciled, agrees, check_archive, manifests, places, reconcile
from .restoring import Restored, restore
from .verifying import Verified, verify

__all__ = [
    "About",
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
    "Phase",
    "Place",
    "Presence",
    "Reconciled",
    "Removed",
    "Restored",
    "Totals",
    "Verified",
    "agrees",
    "check_archive",
    "find_archives",
    "iter_files",
    "make_way",
    "manifests",
    "pack",
    "pack_asset",
    "places",
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
