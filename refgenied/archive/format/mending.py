"""Finds out which is right, when a manifest and its record differ or the seal of a manifest is broken.

The database keeps the seal of each manifest. So a manifest that was changed on the disk can be repaired from the
record, if the change is in one of the fields that both have: the recorded seal proves the result. In the same way a
manifest with the recorded seal proves which values the record should have.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from refgenied.archive.format.manifest import Manifest, encode, read_manifest
from refgenied.archive.format.seal import holds
from refgenied.model import ArchiveNotFoundError, ArchiveRecord, DamagedArchiveError, UnreadableError

_LASTING = (
    "path",
    "size",
    "digest",
    "asset_digest",
    "content_digest",
    "files",
    "source_size",
    "created_at",
    "requested_by",
)
"""The fields that a record takes from its manifest and that never change."""
_FOLLOWING = ("aliases", "stamp", "files_stamp")
"""The fields that follow the asset."""


def differences(record: ArchiveRecord, manifest: Manifest, path: str) -> tuple[str, ...]:
    """The names of the fields in which a record differs from its manifest. `path`: `Place.relative` of the archive.

    A record from before its manifest was sealed has no seal. This does not count as a difference.
    """
    said = manifest.record(path)
    fields = _LASTING if record.seal is None else (*_LASTING, "seal")
    return tuple(name for name in fields if getattr(record, name) != getattr(said, name))


def mended_record(record: ArchiveRecord, manifest: Manifest, path: str) -> ArchiveRecord:
    """The record with the manifest's values; the fields that only the database has stay."""
    said = manifest.record(path)
    return msgspec.structs.replace(record, **{name: getattr(said, name) for name in (*_LASTING, "seal")})


def mended_manifest(path: Path, record: ArchiveRecord) -> Manifest | None:
    """The manifest with one field taken from the record, when the recorded seal proves that; else None.

    Nothing is written. UnreadableError.
    """
    if record.seal is None:
        return None
    try:
        found = read_manifest(path, believed=False)
    except UnreadableError:
        raise
    except (ArchiveNotFoundError, DamagedArchiveError):
        return None
    for candidate in _candidates(found, record):
        if holds(encode(candidate), record.seal):
            return msgspec.structs.replace(candidate, seal=record.seal)
    return None


def _candidates(found: Manifest, record: ArchiveRecord) -> Iterator[Manifest]:
    yield found  # only the seal itself was changed
    for name in (*_LASTING, *_FOLLOWING):
        if name in Manifest.__struct_fields__:
            yield msgspec.structs.replace(found, **{name: getattr(record, name)})
    for name in ("files", "source_size"):
        totals = msgspec.structs.replace(found.totals, **{name: getattr(record, name)})
        yield msgspec.structs.replace(found, totals=totals)
    for name in ("genome_digest", "asset_group", "asset"):
        yield msgspec.structs.replace(found, **{name: getattr(record.key, name)})
