"""Asset folder → proved `.tgz`, and back: a library of plain paths that blocks, and that knows no daemon.

with Tree(folder, within=genome_folder) as tree:
    draft = pack_asset(tree, Place(archive_folder, key), About(created_at=time.time()))
draft.publish()
"""

from .codec import Codec, CodecRecord, Compression, ContentAware, Libdeflate
from .draft import pack_asset
from .entries import Entry
from .manifest import About, Manifest, Removed, Totals, iter_files, read_manifest
from .place import Place
from .progress import Phase
from .publish import Draft, remove
from .reconcile import Presence, Reconciled, agrees, check_archive, manifests, places, reconcile

__all__ = [
    "About",
    "Codec",
    "CodecRecord",
    "Compression",
    "ContentAware",
    "Draft",
    "Entry",
    "Libdeflate",
    "Manifest",
    "Phase",
    "Place",
    "Presence",
    "Reconciled",
    "Removed",
    "Totals",
    "agrees",
    "check_archive",
    "iter_files",
    "manifests",
    "pack_asset",
    "places",
    "read_manifest",
    "reconcile",
    "remove",
]
