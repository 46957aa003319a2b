"""Publishing: at every instant either the old archive or the new one, whatever dies, and in whichever order."""

import os
from pathlib import Path

import msgspec
import pytest
from packing import KEY, below, draft_of, make_tree, noise, publish

from refgenied.archive.format import entries
from refgenied.archive.format.manifest import Manifest, read_manifest
from refgenied.archive.place import Place, manifest_at
from refgenied.archive.presence import Presence, places, settle
from refgenied.archive.prover import prove
from refgenied.archive.publisher import remove, write_manifest_partial
from refgenied.archive.run import Run
from refgenied.model import ArchiveNotFoundError, AssetKey, DamagedArchiveError, WriteError

OLD = {b"genome.fa": b"old"}
NEW = {b"genome.fa": b"new"}  # an archive of the very same size
MANY = {b"%04d" % number: b"" for number in range(30)}


@pytest.fixture(autouse=True)
def _a_list_of_20_is_long(monkeypatch):
    monkeypatch.setattr(entries, "MAX_INLINE_ENTRIES", 20)


@pytest.fixture
def old(tmp_path: Path) -> Manifest:
    return publish(make_tree(tmp_path / "old", OLD), tmp_path / "archives").manifest


def assert_nothing_partial(folder: Path) -> None:
    assert [name for name in below(folder) if "partial" in name] == []


def test_nothing_is_seen_before_publish_and_nothing_left_after_discard(tmp_path):
    draft = draft_of(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    assert [path.name for path in draft.place.folder.iterdir() if not path.name.startswith(".")] == []
    draft.discard()
    assert below(tmp_path / "archives") == []


@pytest.mark.parametrize("name", ["fasta__default.tgz", "fasta__default.json", ".fasta__default.tgz.partial"])
def test_a_folder_where_a_file_must_go_is_found_before_anything_is_packed(name, tmp_path):
    in_the_way = tmp_path / "archives" / KEY.genome_digest / "fasta" / "default" / name
    in_the_way.mkdir(parents=True)
    (in_the_way / "kept").touch()

    with pytest.raises(WriteError, match=f"{name} is a folder where a file must go"):
        draft_of(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    assert below(in_the_way.parent) == [name, f"{name}/kept"]


def test_a_folder_under_a_partial_name_is_named(tmp_path):
    place = publish(make_tree(tmp_path / "new", NEW), tmp_path / "archives").place
    place.archive_partial.mkdir()
    with pytest.raises(WriteError, match=f"{place.archive_partial} cannot be written: Is a directory"):
        settle(place)


def test_a_discard_after_publish_is_harmless(tmp_path):
    draft = publish(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    draft.discard()
    assert below(draft.place.folder) == ["fasta__default.json", "fasta__default.tgz"]


def test_the_discard_of_a_rebuild_keeps_the_old_archive(old, tmp_path):
    draft = draft_of(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    draft.discard()
    prove(draft.place.archive, old, Run())


def test_a_rebuild_takes_the_place_of_the_old_one(old, tmp_path):
    draft = publish(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    assert draft.manifest.digest != old.digest
    prove(draft.place.archive, read_manifest(draft.place.manifest), Run())


def test_a_long_list_goes_when_the_next_archive_has_a_short_one(tmp_path):
    place = publish(make_tree(tmp_path / "many", MANY), tmp_path / "archives").place
    assert place.entries.exists()
    publish(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    assert below(place.folder) == ["fasta__default.json", "fasta__default.tgz"]


def test_the_flat_name_keeps_the_old_file_until_it_is_changed_itself(old, tmp_path):
    place = Place(tmp_path / "archives", KEY)
    flat = tmp_path / "archives/flat.tgz"
    flat.hardlink_to(place.archive)
    before = flat.read_bytes()
    publish(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    assert flat.read_bytes() == before != place.archive.read_bytes()


def test_two_links_of_one_file_are_no_trap(tmp_path):
    """rename(2) between them does nothing and says that all is well."""
    draft = draft_of(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    draft.place.archive.hardlink_to(draft.place.archive_partial)
    draft.publish()
    assert_nothing_partial(tmp_path / "archives")
    prove(draft.place.archive, draft.manifest, Run())


@pytest.mark.parametrize("before", [{}, OLD, MANY], ids=["first", "again", "after-a-long-list"])
@pytest.mark.parametrize("after", [NEW, MANY], ids=["short", "long"])
def test_the_folder_is_on_the_disk_before_the_manifest_gets_its_name(before, after, tmp_path, monkeypatch):
    """A power cut may keep the later of two renames and lose the earlier one, unless a sync lies between them."""
    if before:
        publish(make_tree(tmp_path / "before", before), tmp_path / "archives")
    draft = draft_of(make_tree(tmp_path / "after", after), tmp_path / "archives")
    place, calls = draft.place, []
    rename, unlink, fsync = os.rename, os.unlink, os.fsync
    said = {place.archive: "tgz", place.entries: "list", place.manifest: "json"}

    def renamed(old: Path, new: Path) -> None:
        calls.append(said[Path(new)])
        rename(old, new)

    def unlinked(path: Path) -> None:
        unlink(path)
        calls.append(f"no {said[Path(path)]}")

    def synced(fd: int) -> None:
        assert os.readlink(f"/proc/self/fd/{fd}") == str(place.folder)
        calls.append("sync")
        fsync(fd)

    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(os, "unlink", unlinked)
    monkeypatch.setattr(os, "fsync", synced)
    draft.publish()
    if after is MANY:
        assert calls == ["tgz", "list", "sync", "json", "sync"]
    else:
        assert calls == ["tgz", "sync", "json", *(["no list"] if before is MANY else []), "sync"]


@pytest.mark.parametrize("name", ["rename", "fsync"])
def test_a_disk_that_fails_in_publish_is_a_write_error_and_reconciled(name, old, tmp_path, monkeypatch):
    draft = draft_of(make_tree(tmp_path / "new", NEW), tmp_path / "archives")
    real, calls = getattr(os, name), 0

    def failing(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if name == "fsync" or calls == 2:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(os, name, failing)
    with pytest.raises(WriteError, match="Input/output error"):
        draft.publish()
    monkeypatch.undo()
    found = settle(draft.place)
    assert (found.presence, found.manifest.digest) == (Presence.PRESENT, draft.manifest.digest)
    prove(draft.place.archive, found.manifest, Run())


# ------------------------------------------------------------------ settle


def test_a_place_with_nothing_is_absent(tmp_path):
    assert settle(Place(tmp_path, KEY)).presence is Presence.ABSENT


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda place: place.archive.unlink(), "tgz is missing"),
        (lambda place: place.archive.write_bytes(b"x"), "has 1 bytes"),
        (lambda place: place.manifest.write_bytes(b"{"), "not a manifest"),
    ],
)
def test_what_does_not_agree_is_damaged_and_says_why(damage, reason, old, tmp_path):
    place = Place(tmp_path / "archives", KEY)
    damage(place)
    found = settle(place)
    assert found.presence is Presence.DAMAGED
    assert reason in found.reason


def test_an_archive_of_another_program_is_foreign(old, tmp_path):
    place = Place(tmp_path / "archives", KEY)
    place.manifest.unlink()
    assert settle(place).presence is Presence.FOREIGN


def test_a_partial_manifest_of_something_else_is_dropped(old, tmp_path):
    place = Place(tmp_path / "archives", KEY)
    write_manifest_partial(place, msgspec.structs.replace(old, digest="0" * 32))
    place.entries_partial.write_bytes(b"rest")
    found = settle(place)
    assert (found.presence, found.finished, found.manifest) == (Presence.PRESENT, False, old)
    assert_nothing_partial(tmp_path / "archives")


def test_a_cut_publish_whose_archive_was_damaged_is_not_finished(old, tmp_path):
    draft = draft_of(make_tree(tmp_path / "new", {b"a": noise(5000)}), tmp_path / "archives")
    place = draft.place
    place.archive_partial.rename(place.archive)
    place.archive.write_bytes(bytes(draft.manifest.size))
    found = settle(place)
    assert (found.presence, found.finished) == (Presence.DAMAGED, False)
    assert_nothing_partial(tmp_path / "archives")


# ------------------------------------------------------------------ remove, and the whole folder


@pytest.mark.parametrize("delete_file", [True, False])
def test_remove_marks_the_manifest_and_takes_the_file_only_when_told(delete_file, tmp_path):
    place = publish(make_tree(tmp_path / "many", MANY), tmp_path / "archives").place
    for _ in range(2):
        manifest = remove(place, at=5.0, by="root", stamp="s", delete_file=delete_file)
        assert manifest == read_manifest(place.manifest)
        assert (manifest.removed.at, manifest.removed.by, manifest.removed.stamp) == (5.0, "root", "s")
        assert place.archive.exists() is place.entries.exists() is not delete_file
    assert settle(place).presence is Presence.REMOVED


def test_remove_without_an_archive_is_not_found(tmp_path):
    with pytest.raises(ArchiveNotFoundError):
        remove(Place(tmp_path, KEY), at=0.0, by="me", stamp="", delete_file=True)


def test_a_removed_archive_can_be_made_again(old, tmp_path):
    place = Place(tmp_path / "archives", KEY)
    remove(place, at=5.0, by="root", stamp="s", delete_file=False)
    publish(tmp_path / "old", tmp_path / "archives")
    assert settle(place).presence is Presence.PRESENT


def test_the_folder_tells_of_every_archive_and_of_nothing_else(tmp_path):
    archives = tmp_path / "archives"
    source = make_tree(tmp_path / "old", OLD)
    keys = [AssetKey("d1", "fasta", "default"), AssetKey("d1", "fasta", "two"), AssetKey("d2", "bwa", "default")]
    for key in keys:
        publish(source, archives, key)
    (archives / "genome_config.yaml").write_text("x")
    (archives / ".refgenied").write_text("x")
    (archives / "d1/fasta__default.tgz").hardlink_to(Place(archives, keys[0]).archive)
    (archives / "d3/empty/one").mkdir(parents=True)
    (archives / "alias").symlink_to("d1")
    assert [place.key for place in places(archives)] == [*keys, AssetKey("d3", "empty", "one")]
    assert list(places(tmp_path / "none")) == []


def test_a_manifest_of_another_asset_is_damage(old, tmp_path):
    place = Place(tmp_path / "archives", AssetKey("d", "fasta", "other"))
    place.folder.mkdir(parents=True)
    place.manifest.write_bytes(Place(tmp_path / "archives", KEY).manifest.read_bytes())
    with pytest.raises(DamagedArchiveError, match="describes another asset"):
        manifest_at(place)
