"""Publishing: at every instant either the old archive or the new one, whatever dies, and in whichever order."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from packing import KEY, below, draft_of, make_tree, noise, publish

from refgenied.archive import (
    Manifest,
    Place,
    Presence,
    Run,
    iter_files,
    manifest_at,
    places,
    prove,
    read_manifest,
    reconcile,
    remove,
)
from refgenied.archive.format import entries
from refgenied.archive.publisher import write_manifest_partial
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
        reconcile(place)


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


# ------------------------------------------------------------------ crashes

STEPS = ("open", "fsync", "rename", "unlink", "rmdir", "mkdir")


def dies_at(step: int, work: Callable[[], object]) -> bool:
    """Run in a child that dies, as by kill -9, before its `step`th system call that changes names or syncs.

    False: it came to its end before that.
    """
    child = os.fork()
    if child == 0:
        count = 0
        real = {name: getattr(os, name) for name in STEPS}

        def dying(name: str) -> Callable[..., object]:
            def call(*arguments: object, **named: object) -> object:
                nonlocal count
                if name != "open" or arguments[1] & os.O_CREAT:  # opening what is there changes nothing
                    count += 1
                if count == step:
                    os._exit(9)
                return real[name](*arguments, **named)

            return call

        for name in STEPS:
            setattr(os, name, dying(name))
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a child must never go on as a second pytest
            sys.stderr.write(f"{error!r}\n")
            os._exit(2)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("before", [OLD, {}, MANY], ids=["short", "nothing", "long"])
@pytest.mark.parametrize("after", [NEW, MANY], ids=["to-short", "to-long"])
def test_a_crash_at_any_step_leaves_the_old_or_the_new_archive(before, after, tmp_path):
    source = make_tree(tmp_path / "source", after)
    source.chmod(0o700)  # so that it is another archive, also when the files are the same
    new = publish(source, tmp_path / "new").manifest
    (tmp_path / "old").mkdir()
    old = publish(make_tree(tmp_path / "before", before), tmp_path / "old").manifest if before else None
    finished = set()
    for step in range(1, 60):
        archives = tmp_path / f"archives{step}"
        shutil.copytree(tmp_path / "old", archives)
        died = dies_at(step, lambda archives=archives: publish(source, archives))
        place = Place(archives, KEY)
        found = reconcile(place)
        assert_nothing_partial(archives)
        finished.add(found.finished)
        assert reconcile(place) == msgspec.structs.replace(found, finished=False)
        if found.presence is Presence.ABSENT:
            assert old is None
            assert not any(path.is_file() for path in archives.rglob("*"))
            continue
        assert found.presence is Presence.PRESENT, found.reason
        prove(place.archive, found.manifest, Run())
        assert len(list(iter_files(place.manifest))) == found.manifest.totals.files + 1
        assert found.manifest.digest in (old and old.digest, new.digest)
        if not died:
            break
    assert not died
    assert found.manifest.digest == new.digest
    assert finished == {True, False}


def test_a_crash_at_any_step_of_remove_leaves_it_removed_or_not(tmp_path):
    source = make_tree(tmp_path / "old", OLD)
    seen = set()
    for step in range(1, 50):
        archives = tmp_path / f"archives{step}"
        place = publish(source, archives).place
        died = dies_at(step, lambda place=place: remove(place, at=1.0, by="me", stamp="s", delete_file=True))
        found = reconcile(place)
        assert_nothing_partial(archives)
        assert found.presence in (Presence.PRESENT, Presence.REMOVED)
        seen.add(found.presence)
        if not died:
            break
    assert not died
    assert seen == {Presence.PRESENT, Presence.REMOVED}


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
    found = reconcile(draft.place)
    assert (found.presence, found.manifest.digest) == (Presence.PRESENT, draft.manifest.digest)
    prove(draft.place.archive, found.manifest, Run())


# ------------------------------------------------------------------ reconcile


def test_a_place_with_nothing_is_absent(tmp_path):
    assert reconcile(Place(tmp_path, KEY)).presence is Presence.ABSENT


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
    found = reconcile(place)
    assert found.presence is Presence.DAMAGED
    assert reason in found.reason


def test_an_archive_of_another_program_is_foreign(old, tmp_path):
    place = Place(tmp_path / "archives", KEY)
    place.manifest.unlink()
    assert reconcile(place).presence is Presence.FOREIGN


def test_a_partial_manifest_of_something_else_is_dropped(old, tmp_path):
    place = Place(tmp_path / "archives", KEY)
    write_manifest_partial(place, msgspec.structs.replace(old, digest="0" * 32))
    place.entries_partial.write_bytes(b"rest")
    found = reconcile(place)
    assert (found.presence, found.finished, found.manifest) == (Presence.PRESENT, False, old)
    assert_nothing_partial(tmp_path / "archives")


def test_a_cut_publish_whose_archive_was_damaged_is_not_finished(old, tmp_path):
    draft = draft_of(make_tree(tmp_path / "new", {b"a": noise(5000)}), tmp_path / "archives")
    place = draft.place
    place.archive_partial.rename(place.archive)
    place.archive.write_bytes(bytes(draft.manifest.size))
    found = reconcile(place)
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
    assert reconcile(place).presence is Presence.REMOVED


def test_remove_without_an_archive_is_not_found(tmp_path):
    with pytest.raises(ArchiveNotFoundError):
        remove(Place(tmp_path, KEY), at=0.0, by="me", stamp="", delete_file=True)


def test_a_removed_archive_can_be_made_again(old, tmp_path):
    place = Place(tmp_path / "archives", KEY)
    remove(place, at=5.0, by="root", stamp="s", delete_file=False)
    publish(tmp_path / "old", tmp_path / "archives")
    assert reconcile(place).presence is Presence.PRESENT


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
