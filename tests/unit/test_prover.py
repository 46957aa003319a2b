"""The proof finds whatever is wrong, and says where."""

import os
import tarfile
from pathlib import Path

import deflate
import msgspec
import pytest
from packing import KEY, make_tree, md5, noise, publish

from refgenied.archive.adopt import take_foreign
from refgenied.archive.format import entries
from refgenied.archive.format.manifest import About, BlockTable, Manifest, iter_files
from refgenied.archive.format.members import check_size
from refgenied.archive.format.stream import open_source
from refgenied.archive.place import Place
from refgenied.archive.prover import prove
from refgenied.archive.run import Run
from refgenied.model import ArchiveNotFoundError, DamagedArchiveError, UnreadableError

MEMBERS = {b"a.fa": noise(1_500_000, b"1"), b"b.fa": noise(2_000_000, b"2"), b"link": "a.fa", b"z": b"small"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture
def published(tmp_path: Path) -> tuple[Place, Manifest]:
    draft = publish(make_tree(tmp_path / "source", MEMBERS), tmp_path / "archives")
    prove(draft.place.archive, draft.manifest, Run(2))
    return draft.place, draft.manifest


def write_stream(place: Place, manifest: Manifest, stream: bytes) -> Manifest:
    """Another tar stream, well packed, and a manifest that knows the archive's new size, md5 and blocks."""
    size = manifest.blocks.size
    members = [bytes(deflate.gzip_compress(stream[at : at + size], 6)) for at in range(0, len(stream), size)]
    data = b"".join(members)
    place.archive.write_bytes(data)
    table = BlockTable(size, tuple(map(len, members)))
    digest = md5(data)
    return msgspec.structs.replace(manifest, size=len(data), digest=digest, blocks=table)


def stream_of(place: Place, manifest: Manifest) -> bytes:
    data, at, stream = place.archive.read_bytes(), 0, b""
    for size in manifest.blocks.compressed:
        stream += deflate.gzip_decompress(data[at : at + size])
        at += size
    return stream


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.55, 0.9, 0.999999])
def test_one_flipped_bit_anywhere_is_found(share, published):
    place, manifest = published
    data = bytearray(place.archive.read_bytes())
    data[int(share * (len(data) - 1))] ^= 0x10
    place.archive.write_bytes(data)
    with pytest.raises(DamagedArchiveError) as caught:
        prove(place.archive, manifest, Run())
    assert str(place.archive) in caught.value.message
    check_size(place.archive, manifest)  # the size is the same


@pytest.mark.parametrize("size", [0, 1, 1_000_000, -1])
def test_a_cut_archive_is_found_by_its_size_alone(size, published):
    place, manifest = published
    data = place.archive.read_bytes()
    place.archive.write_bytes(data[:size])
    with pytest.raises(DamagedArchiveError, match="bytes"):
        check_size(place.archive, manifest)


def test_an_archive_that_was_replaced_after_its_manifest_was_read_is_not_read_by_the_old_blocks(published):
    place, manifest = published
    place.archive.write_bytes(place.archive.read_bytes() + b"more")
    with pytest.raises(DamagedArchiveError, match=f"bytes, not {manifest.size}"):
        open_source(place.archive, manifest)


def test_the_first_bad_member_is_named(published):
    place, manifest = published
    offset = {entry.path: entry.offset for entry in iter_files(place.manifest)}["b.fa"]
    stream = bytearray(stream_of(place, manifest))
    stream[offset + 1_000_000] ^= 1
    changed = write_stream(place, manifest, bytes(stream))
    with pytest.raises(DamagedArchiveError, match=r"damaged at the member 'b\.fa': its content has another md5"):
        prove(place.archive, changed, Run())


@pytest.mark.parametrize("where", [0, 100, 108, 136, 156, 265, 520])
def test_every_byte_of_a_header_counts(where, published):
    place, manifest = published
    stream = bytearray(stream_of(place, manifest))
    stream[where] ^= 1
    with pytest.raises(DamagedArchiveError, match="header or padding"):
        prove(place.archive, write_stream(place, manifest, bytes(stream)), Run())


def test_nothing_more_and_nothing_less(published):
    place, manifest = published
    stream = stream_of(place, manifest)
    prove(place.archive, write_stream(place, manifest, stream), Run())
    with pytest.raises(DamagedArchiveError, match="more in it"):
        prove(place.archive, write_stream(place, manifest, stream + bytes(512)), Run())
    with pytest.raises(DamagedArchiveError, match="ends too early"):
        prove(place.archive, write_stream(place, manifest, stream[:-512]), Run())


def test_the_right_content_in_other_bytes_is_not_the_archive(published):
    place, manifest = published
    changed = write_stream(place, manifest, stream_of(place, manifest))
    data = place.archive.read_bytes()
    assert md5(data) == changed.digest
    with pytest.raises(DamagedArchiveError, match="has the md5"):
        prove(place.archive, msgspec.structs.replace(changed, digest="0" * 32), Run())


def test_a_block_that_claims_to_be_huge_is_not_unpacked(published):
    place, manifest = published
    bomb = bytes(deflate.gzip_compress(bytes(50_000_000), 6))
    place.archive.write_bytes(bomb)
    changed = msgspec.structs.replace(manifest, size=len(bomb), blocks=BlockTable(manifest.blocks.size, (len(bomb),)))
    with pytest.raises(DamagedArchiveError, match="block 1 of 1 is damaged"):
        prove(place.archive, changed, Run())


@pytest.mark.parametrize("members", [True, False])
def test_an_md5_in_the_list_that_is_not_the_files_is_found(members, published):
    place, manifest = published
    first, *others = manifest.entries
    listed = (first, *others[:-1], msgspec.structs.replace(others[-1], md5="0" * 32))
    changed = msgspec.structs.replace(manifest, entries=listed)
    with pytest.raises(DamagedArchiveError, match="'z': its content has another md5"):
        prove(place.archive, changed, Run(), members=members)


@pytest.mark.parametrize(("lose", "said"), [(Path.unlink, "is missing"), (cut, "bytes")])
def test_a_list_beside_the_manifest_is_found_missing_or_cut(lose, said, tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "MAX_INLINE_ENTRIES", 2)
    draft = publish(make_tree(tmp_path / "source", MEMBERS), tmp_path / "archives")
    place, manifest = draft.place, draft.manifest
    lose(place.entries)
    with pytest.raises(DamagedArchiveError, match=said):
        check_size(place.archive, manifest)
    with pytest.raises(DamagedArchiveError, match=said):
        prove(place.archive, manifest, Run())


def test_a_table_that_is_not_of_the_archive_is_found(published):
    place, manifest = published
    table = msgspec.structs.replace(manifest.blocks, compressed=(1, *manifest.blocks.compressed))
    with pytest.raises(DamagedArchiveError, match="adds up to"):
        check_size(place.archive, msgspec.structs.replace(manifest, blocks=table))


def test_an_archive_of_another_program_is_proved_by_its_members(tmp_path):
    source = make_tree(tmp_path / "default", MEMBERS)
    with tarfile.open(tmp_path / "foreign.tgz", "w:gz") as tar:
        tar.add(source, "default")
    draft = take_foreign(tmp_path / "foreign.tgz", Place(tmp_path / "archives", KEY), About(created_at=0.0), Run())
    draft.publish()
    place, manifest = draft.place, draft.manifest
    prove(place.archive, manifest, Run())
    *first, last = manifest.entries
    for changed, said in (
        (msgspec.structs.replace(last, md5="0" * 32), f"{last.path!r}: its content has another md5"),
        (msgspec.structs.replace(last, mtime=1), f"{last.path!r}: its header is not what was packed"),
    ):
        with pytest.raises(DamagedArchiveError, match=said):
            prove(place.archive, msgspec.structs.replace(manifest, entries=(*first, changed)), Run())
    with pytest.raises(DamagedArchiveError, match="ends too early"):
        prove(place.archive, msgspec.structs.replace(manifest, entries=(*manifest.entries, last)), Run())
    with pytest.raises(DamagedArchiveError, match="has the md5"):
        prove(place.archive, msgspec.structs.replace(manifest, digest="0" * 32), Run())


def test_a_missing_and_an_unreadable_archive_are_told_apart(published):
    place, manifest = published
    place.archive.unlink()
    with pytest.raises(ArchiveNotFoundError):
        check_size(place.archive, manifest)
    with pytest.raises(ArchiveNotFoundError):
        prove(place.archive, manifest, Run())
    place.archive.symlink_to(place.archive.name)
    with pytest.raises(UnreadableError):
        check_size(place.archive, manifest)


def test_a_proof_can_be_cancelled(published):
    place, manifest = published
    calls = 0

    def check():
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prove(place.archive, manifest, Run(check=check))


def test_no_threads_are_as_many_as_there_are_cores():
    assert Run(0).threads == len(os.sched_getaffinity(0))
    assert Run(3).threads == 3
