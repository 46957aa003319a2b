"""The manifest beside every archive. It suffices to rebuild the archive's record, and to prove, seek in and restore it.

It is JSON for people and programs: one key in each line, and one line for each member of the list.
"""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self, TypeGuard, cast

import msgspec
from msgspec import Meta

from refgenied import __version__
from refgenied.archive.format import seal
from refgenied.archive.format.arguments import path_of
from refgenied.archive.format.codec import CodecRecord
from refgenied.archive.format.entries import Entry, Sidecar, Totals, Whole, access_to_all, sidecar_entries
from refgenied.files.regular import WRONG_FILE_ERRNOS, read_regular, unreadable
from refgenied.model import (
    Access,
    ArchiveNotFoundError,
    ArchiveRecord,
    Asset,
    AssetKey,
    BuildRecord,
    DamagedArchiveError,
    UnreadableError,
)

FORMAT = 1
"""This number rises when an older refgenied could not understand a new manifest. New fields alone do not raise it."""

MAX_MANIFEST_BYTES = 64 << 20
"""Bytes that a manifest may have. The manifest of an archive of a terabyte has about 8 MB."""
_MAX_BLOCK_BYTES = 1 << 26
"""Many times more than our blocks have. The limit protects the memory, which holds a whole block."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about an asset besides its files. Everything except the time may be unknown."""

    created_at: float
    """Unix seconds."""
    aliases: tuple[str, ...] = ()
    description: str = ""
    seek_keys: dict[str, str] = {}
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    asset_digest: str | None = None
    """The asset digest in refgenie's config. The files must have it."""
    build: BuildRecord = BuildRecord()
    requested_by: str = "refgenied"
    stamp: str = ""
    files_stamp: str = ""
    access: Access | None = None
    """Who may read the archive; None: the permission bits of all the files decide."""

    @classmethod
    def of(
        cls, asset: Asset, build: BuildRecord, *, requested_by: str, created_at: float, access: Access | None = None
    ) -> Self:
        """The facts that one look at the genome folder has found."""
        said = {"build": build, "requested_by": requested_by, "created_at": created_at, "access": access}
        return msgspec.convert(msgspec.structs.asdict(asset) | said, cls)


class BlockTable(msgspec.Struct, frozen=True):
    """The table of blocks. Each block is a separate gzip member, so it can be read without the others.

    The table is empty for an archive that another program made: such an archive can only be read from its beginning.
    """

    size: Annotated[int, Meta(ge=0, le=_MAX_BLOCK_BYTES)]
    """Bytes of the tar stream in each block but the last."""
    compressed: tuple[Annotated[int, Meta(gt=0, le=2 * _MAX_BLOCK_BYTES)], ...]
    """Bytes of each block in the archive, in order."""


class Packed(msgspec.Struct, frozen=True):
    """The result of packing. The files are synced and still have their partial names."""

    size: int
    digest: str
    content_digest: str
    asset_digest: str
    """The asset digest in the order of bytes; "" when it cannot be computed before all names are known."""
    totals: Totals
    blocks: BlockTable
    entries: tuple[Entry, ...] | None
    entries_file: Sidecar | None


class Removed(msgspec.Struct, frozen=True):
    """A user removed the archive: the daemon does not make it again by itself while the asset's stamp is the same."""

    at: float
    by: str
    stamp: str


class Versions(msgspec.Struct, frozen=True):
    refgenied: str = __version__
    python: str = platform.python_version()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One archive. Fields that a later refgenied adds are ignored."""

    format: int = FORMAT
    genome_digest: str
    asset_group: str
    asset: str
    aliases: tuple[str, ...]
    description: str
    seek_keys: dict[str, str]
    parents: tuple[str, ...]
    children: tuple[str, ...]
    size: Whole
    """Bytes of the archive."""
    digest: str
    """md5 of the archive."""
    content_digest: str
    """It identifies the content, see `digests.ContentDigest`."""
    asset_digest: str
    """refgenie's digest of the files, recomputed; equal to the recorded one when there is one."""
    asset_digest_order: str
    """The locale whose order of names was used for `asset_digest`: "C", or the builder's."""
    recorded_asset_digest: str | None
    """The digest in refgenie's config when the archive was made."""
    totals: Totals
    build: BuildRecord
    created_at: float
    requested_by: str
    stamp: str
    files_stamp: str
    versions: Versions
    codec: CodecRecord
    removed: Removed | None
    entries_file: Sidecar | None
    """The file with the list of members, when they are many."""
    blocks: BlockTable
    entries: tuple[Entry, ...] | None
    """The list of members, when they are few."""
    seal: str = ""
    """The seal as it was read, see `seal.seal_of`; `encode` makes a new one. Empty: made before 0.2.0."""

    @property
    def key(self) -> AssetKey:
        return AssetKey(self.genome_digest, self.asset_group, self.asset)

    def record(self, path: str, proved_at: float | None = None) -> ArchiveRecord:
        """The archive's record for the database; `path` is relative to the archive folder (`Place.relative`)."""
        said = {
            "key": self.key,
            "path": path,
            "files": self.totals.files,
            "source_size": self.totals.source_size,
            "proved_at": proved_at,
            "access": access_to_all(self.entries) if self.entries else None,
            "seal": self.seal or None,
        }
        return msgspec.convert(msgspec.structs.asdict(self) | said, ArchiveRecord)


_SEALED_FIELDS = tuple(name for name in Manifest.__struct_fields__ if name != "seal")


class BrokenSealError(DamagedArchiveError):
    """The file can be read as a manifest, but somebody or something changed it after it was written."""


def read_manifest(path: str | os.PathLike[str], *, believed: bool = True) -> Manifest:
    """Read a manifest.

    ArchiveNotFoundError: there is no such file. DamagedArchiveError: it is not a manifest. BrokenSealError: it was
    changed since it was written (with `believed=False` it is returned all the same). UnreadableError: it cannot be
    read, or a newer refgenied wrote it.
    """
    path = path_of(path, "path")
    try:
        data = read_regular(path, MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveNotFoundError(f"there is no manifest {path}") from error
    except OSError as error:
        if error.errno in WRONG_FILE_ERRNOS:
            raise DamagedArchiveError(f"{path} is not a manifest ({error.strerror})") from error
        raise unreadable(path, error) from error
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _require_known_format(path, data)
        raise DamagedArchiveError(f"{path} is not a manifest ({error})") from error
    _require_known_format(path, data, manifest.format)
    if believed and manifest.seal and not seal.holds(data, manifest.seal):
        raise BrokenSealError(
            f"{path} was changed since it was written (its seal does not agree)",
            hint="`refgeniectl archive verify` repairs it, or the archive is made again; without a daemon, move this "
            "file away: the archive can be read without it",
        )
    if (manifest.entries is None) == (manifest.entries_file is None):
        raise DamagedArchiveError(f"{path} is not a manifest (it has no list of files, or two)")
    if manifest.blocks.compressed and not manifest.blocks.size:
        raise DamagedArchiveError(f"{path} is not a manifest (it has blocks of no size)")
    return manifest


class _Formatted(msgspec.Struct):
    """The fields that every format of a manifest has."""

    format: int = FORMAT


def _require_known_format(path: Path, data: bytes, number: int | None = None) -> None:
    """UnreadableError: a newer refgenied wrote the manifest. It is not damaged, so the archive is not made again."""
    if number is None:
        try:
            number = msgspec.json.decode(data, type=_Formatted).format
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
    if number > FORMAT:
        raise UnreadableError(
            f"{path} has format {number}, and this refgenied knows up to {FORMAT}: a newer refgenied wrote it",
            hint="install that version again",
        )


def entries_of(manifest: Manifest | Packed, folder: Path, name: str | None = None) -> Iterator[Entry]:
    """The members in order, streaming. `folder` is where the archive is; `name` as for `list_at`."""
    if manifest.entries_file is None:
        return iter(manifest.entries or ())
    return sidecar_entries(list_at(manifest.entries_file, folder, name), manifest.entries_file)


def is_seekable(manifest: Manifest | None) -> TypeGuard[Manifest]:
    """Whether any part of the archive can be read without the parts before it."""
    return manifest is not None and bool(manifest.blocks.compressed)


def list_at(sidecar: Sidecar, folder: Path, name: str | None = None) -> Path:
    """The path of the list of members beside a manifest. `name`: its name, if it differs from the manifest's now."""
    return folder / Path(name or sidecar.name).name


def iter_files(manifest_path: str | os.PathLike[str]) -> Iterator[Entry]:
    """All members that a manifest lists, in the archive's order, streaming.

    Errors as `read_manifest`, and at the end DamagedArchiveError when the list beside it is not the manifest's list.
    """
    return entries_of(read_manifest(manifest_path), Path(manifest_path).parent)


def encode(manifest: Manifest) -> bytes:
    """The manifest as its file has it, sealed."""
    lines: list[bytes] = []
    for name in _SEALED_FIELDS:
        value: object = getattr(manifest, name)
        if name == "entries" and manifest.entries:
            listed = b",\n    ".join(msgspec.json.encode(entry) for entry in manifest.entries)
            text = b"[\n    " + listed + b"\n  ]"
        else:
            text = _json(value)
        lines.append(b'  "%b": %b' % (name.encode(), text))
    return seal.sealed(b"{\n" + b",\n".join(lines))


def _json(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:  # a description or recipe has half a character (a surrogate) in it
        return msgspec.json.encode(_whole(msgspec.to_builtins(value, enc_hook=str)))


def _whole(value: object) -> object:
    """The same value with `?` in place of each half of a character."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case list():
            return [_whole(item) for item in cast("list[object]", value)]
        case dict():
            return {_whole(key): _whole(item) for key, item in cast("dict[object, object]", value).items()}
        case _:
            return value
