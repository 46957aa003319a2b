"""refgenie 0.12/0.13: what its config and its flags say, also while they are being written."""

import contextlib
import io
import os
import threading
import time
from pathlib import Path

import pytest
from genome_trees import DIGEST, LONG_AGO, Tree013, key
from hypothesis import given, settings
from hypothesis import strategies as st

from refgenied.genomes import config_reader
from refgenied.genomes.config_head import head_of
from refgenied.genomes.folder import GenomeFolder
from refgenied.genomes.genome_config import parse_config
from refgenied.genomes.refgenie0 import read_header
from refgenied.genomes.stamps import FilesStamp
from refgenied.genomes.yaml_reader import GarbledError
from refgenied.model import Asset, AssetState, ConfigError, UnsafeTreeError


def only(tree: Tree013, later: float = 0.0) -> Asset:
    look = tree.folder().look(time.time() + later)
    assert len(look.assets) == 1, look
    (asset,) = look.assets.values()
    assert tree.folder().asset(asset.key, time.time() + later) == asset
    assert asset.reason.isprintable()
    assert asset.reason
    return asset


# ------------------------------------------------------------------ states from flags and entries


def test_complete(tree: Tree013) -> None:
    folder = tree.asset()
    tree.entry(asset_parents=["x/gtf:default"], asset_children=["x/bwa:default"])
    tree.write()
    asset = only(tree)
    assert asset.state is AssetState.COMPLETE
    assert asset.folder == str(folder)
    assert asset.aliases == ("hg38",)
    assert asset.stamp
    assert asset.files_stamp
    flag = folder / "_refgenie_build/refgenie_DEFAULT_SAMPLE_NAME_completed.flag"
    assert asset.built_at == flag.stat().st_mtime_ns / 1e9
    assert (asset.parents, asset.children) == (("x/gtf:default",), ("x/bwa:default",))
    assert asset.seek_keys == {"dir": ".", "fasta": "a.fa"}
    assert asset.description == "of it"
    look = tree.folder().look(time.time())
    assert look.problems == ()
    assert look.layout == "refgenie 0.13 (genome_config.yaml)"
    assert look.genomes[DIGEST].default_assets == {"fasta": "default"}
    assert look.servers == ("http://refgenomes.databio.org",)
    assert look.config_version == "0.4"
    assert look.watch == (str(tree.root),)
    info = tree.root.stat()
    assert look.root == (info.st_dev, info.st_ino)


@pytest.mark.parametrize(
    ("flags", "now", "later"),
    [
        (("failed",), "failed", "failed"),
        (("failed", "lock.x_fasta__default.flag"), "failed", "failed"),
        (("completed", "failed"), "failed", "failed"),
        (("running", "lock.x.flag"), "building", "interrupted"),
        (("completed", "running"), "building", "interrupted"),
        (("completed", "waiting"), "building", "interrupted"),
        (("completed", "lock.x_fasta__default.flag"), "building", "interrupted"),
        (("completed", "recover.lock.x.flag"), "building", "interrupted"),
        (("lock.refgenie_DEFAULT_completed.flag",), "building", "interrupted"),
        (("completed", "_locked_map_build.yaml"), "building", "interrupted"),
        ((), "building", "interrupted"),
    ],
)
@pytest.mark.parametrize("registered", [True, False])
def test_flags_that_speak_against_it(tree: Tree013, flags, now, later, registered) -> None:
    folder = tree.asset(flags=flags)
    if registered:
        tree.entry()
    tree.write()
    asset = only(tree)
    assert asset.state == now
    assert asset.stamp == asset.files_stamp == ""
    assert only(tree, later=1900.0).state == later
    watch = tree.folder().look(time.time()).watch
    assert (str(folder / "_refgenie_build") in watch) is (now == "building")


def test_a_build_is_interrupted_only_when_nothing_moves(tree: Tree013) -> None:
    folder = tree.asset(flags=("running",))
    tree.write()
    later = time.time() + 1900
    deep = folder / "sub"
    deep.mkdir()
    (deep / "part").touch()
    os.utime(deep / "part", (later - 10, later - 10))
    assert tree.folder().look(later).assets[key()].state is AssetState.BUILDING
    assert tree.folder(interrupted_after=5.0).look(later).assets[key()].state is AssetState.INTERRUPTED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"asset_digest": None}, "no asset_digest"), ({"seek_keys": None}, "no seek_keys"),
     ({"seek_keys": {}}, "no seek_keys"), (None, "absent from genome_config.yaml")],
)  # fmt: skip
def test_unregistered(tree: Tree013, changes, reason) -> None:
    tree.asset()
    if changes is not None:
        tree.entry(**changes)
    tree.write()
    asset = only(tree)
    assert asset.state is AssetState.UNREGISTERED
    assert reason in asset.reason
    assert asset.asset_digest is None
    assert asset.stamp


def test_missing(tree: Tree013) -> None:
    tree.entry()
    tree.write()
    asset = only(tree)
    assert asset.state is AssetState.MISSING
    assert asset.stamp == ""
    assert str(tree.root / "data" / DIGEST / "fasta" / "default") in asset.reason


def test_pulled_and_being_pulled(tree: Tree013) -> None:
    folder = tree.root / "data" / DIGEST / "fasta" / "default"
    folder.mkdir(parents=True)
    (folder / "x").write_text("x")
    tree.entry()
    tree.write()
    assert only(tree).state is AssetState.PULLED
    assert only(tree).stamp
    (folder.parent / "fasta__default.tgz").touch()
    assert only(tree).state is AssetState.BUILDING
    assert only(tree, later=1900.0).state is AssetState.PULLED  # a download that failed leaves it for ever


@pytest.mark.parametrize("path", ["other/stuff", "{root}/other/stuff", "$GENOMES/other/stuff", "data/{digest}/ext"])
def test_added(tree: Tree013, monkeypatch, path) -> None:
    monkeypatch.setenv("GENOMES", str(tree.root))
    stuff = tree.root / ("other/stuff" if "other" in path else f"data/{DIGEST}/ext/default")
    stuff.mkdir(parents=True)
    (stuff / "x.txt").write_text("x")
    if path.startswith("data/"):
        path = f"data/{DIGEST}/ext/default"
    tree.entry(asset_path=path.format(root=tree.root, digest=DIGEST))
    tree.write()
    asset = only(tree)
    assert (asset.state, asset.folder) == (AssetState.ADDED, str(stuff))
    assert asset.stamp
    with tree.folder().tree(asset) as files:
        assert [m.path for m in files] == [b"", b"x.txt"]


def test_the_order_in_which_refgenconf_looks(tree: Tree013) -> None:
    below = tree.root / "stuff"
    own = tree.root / "data" / DIGEST / "stuff" / "default"
    for folder in (below, own):
        folder.mkdir(parents=True)
        (folder / "x").write_text("x")
    tree.entry(asset_path="stuff")
    tree.write()
    assert only(tree).folder == str(own)
    (own / "x").unlink()
    own.rmdir()
    assert only(tree).folder == str(below)


@pytest.mark.parametrize("path", ["../outside", "{outside}", ".", "..", "", "{root}", "link"])
def test_added_from_outside_cannot_be_archived(tree: Tree013, tmp_path: Path, path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (tree.root / "link").symlink_to(outside)
    tree.entry(asset_path=path.format(outside=outside, root=tree.root))
    tree.write()
    asset = only(tree)
    if asset.state is AssetState.MISSING:
        assert path == ""
        return
    assert asset.state is AssetState.ADDED
    assert "cannot be archived" in asset.reason
    assert asset.stamp == ""


def test_built_with_map(tree: Tree013) -> None:
    folder = tree.asset()
    tree.entry()
    mapped = folder / "_refgenie_build/_map_build.yaml"
    mapped.write_bytes(tree.text())
    tree.write(b"config_version: 0.4\n")
    assert only(tree).state is AssetState.UNREGISTERED
    assert "--reduce" in only(tree).reason
    tree.write()  # reduced, but kept with --preserve-map-configs
    assert only(tree).state is AssetState.COMPLETE
    tree.entry(asset_digest="0" * 32)
    mapped.write_bytes(tree.text())  # built again with --map
    assert only(tree).state is AssetState.UNREGISTERED
    assert "older build" in only(tree).reason


def test_folders_without_a_build_are_nobodys(tree: Tree013) -> None:
    (tree.root / "data" / DIGEST / "some" / "thing").mkdir(parents=True)
    (tree.root / "data" / DIGEST / ".snapshot" / "x" / "_refgenie_build").mkdir(parents=True)
    (tree.root / "data" / "notes.txt").touch()
    tree.write()
    look = tree.folder().look(time.time())
    assert (look.assets, look.problems) == ({}, ())


# ------------------------------------------------------------------ stamps


def test_stamps_change_with_what_they_stand_for(tree: Tree013) -> None:
    folder = tree.asset()
    tree.entry()
    tree.write()
    first = only(tree)
    assert only(tree) == first
    (folder / "_refgenie_build/refgenie_log.md").write_text("more")  # written after the flag
    assert only(tree) == first

    flag = folder / "_refgenie_build/refgenie_DEFAULT_SAMPLE_NAME_completed.flag"
    os.utime(flag, (1, 1))
    built_again = only(tree)
    assert built_again.stamp != first.stamp
    assert built_again.files_stamp == first.files_stamp

    tree.entry(asset_digest="1" * 32)
    tree.write()
    assert only(tree).stamp != built_again.stamp
    assert only(tree).files_stamp == first.files_stamp

    before = only(tree)
    info = (folder / "a.fa").stat()
    (folder / "a.fa").write_text(">a\nTTTT\n")
    os.utime(folder / "a.fa", ns=(info.st_atime_ns, info.st_mtime_ns))  # the ctime still tells
    assert only(tree).files_stamp != before.files_stamp


def test_the_size_is_that_of_all_files(tree: Tree013) -> None:
    folder = tree.asset()
    (folder / "sub").mkdir()
    (folder / "sub" / "b").write_bytes(b"12345")
    tree.entry()
    tree.write()
    assert only(tree).size == len(">a\nACGT\n") + 5
    tree.flags("fasta", "default", "running")
    assert only(tree).size == 0


def test_what_is_as_it_was_is_the_same_object(tree: Tree013) -> None:
    for group in ("same", "changed"):
        tree.asset(group)
        tree.entry(group)
    tree.write()
    folder = tree.folder()
    first = folder.look(time.time())
    (tree.root / "data" / DIGEST / "changed" / "default" / "more").touch()
    for second in (folder.look(time.time()), folder.look_again(first, time.time(), keys=[key("changed")])):
        assert second.assets[key("same")] is first.assets[key("same")]
        assert second.assets[key("changed")].stamp != first.assets[key("changed")].stamp


def test_an_unsafe_tree_keeps_its_state_and_a_steady_stamp(tree: Tree013) -> None:
    folder = tree.asset()
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "sub" / "pipe")
    tree.entry()
    tree.write()
    asset = only(tree)
    assert asset.state is AssetState.COMPLETE
    assert asset.stamp
    assert only(tree) == asset
    with pytest.raises(UnsafeTreeError), tree.folder().tree(asset) as files:
        list(files)
    (folder / "out").unlink()
    assert only(tree).stamp != asset.stamp
    (folder / "sub" / "pipe").unlink()
    assert only(tree).state is AssetState.COMPLETE


def test_flags_that_change_while_the_files_are_read(tree: Tree013, monkeypatch) -> None:
    tree.asset()
    tree.entry()
    tree.write()
    from refgenied.genomes import assessor as module  # noqa: PLC0415

    real = module.stamp_files

    def rebuilt_meanwhile(*asked: object) -> FilesStamp:
        found = real(*asked)
        tree.flags("fasta", "default", "running")
        return found

    monkeypatch.setattr(module, "stamp_files", rebuilt_meanwhile)
    asset = tree.folder().look(time.time()).assets[key()]
    assert (asset.state, asset.stamp) == (AssetState.BUILDING, "")


# ------------------------------------------------------------------ one bad thing never stops the others


def test_a_bad_asset_does_not_stop_the_others(tree: Tree013, monkeypatch) -> None:
    good = tree.asset("good")
    bad = tree.asset("bad")
    for group in ("good", "bad", "file"):
        tree.entry(group)
    (bad.parent.parent / "file").mkdir()
    (bad.parent.parent / "file" / "default").write_text("not a folder")
    tree.write()
    real = os.scandir

    def refuse(path: object) -> object:
        if isinstance(path, str) and "/bad/" in path:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assets = tree.folder().look(time.time()).assets
    assert assets[key("good")].state is AssetState.COMPLETE
    assert assets[key("good")].folder == str(good)
    assert assets[key("bad")].state is AssetState.UNREADABLE
    assert f"{bad}/_refgenie_build: Permission denied" in assets[key("bad")].reason
    assert assets[key("file")].state is AssetState.MISSING


def test_no_genome_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").touch()
        look = GenomeFolder(str(path), config=None).look(time.time())
        assert look.root is None
        assert not look.ok
        assert look.problems[0].path == str(path)


WRONG = [b"[]", b"text", b"1", b"null", b"genomes: 5", b"genomes: [a]", b"genomes: {x: 5}",
         b"genomes: {x: {assets: [1]}}",
         b"genomes: {x: {aliases: 5, assets: {fasta: 5}}}", b"genomes: {x: {assets: {fasta: {tags: [1]}}}}",
         b"genomes: {x: {assets: {fasta: {tags: {default: 5}}}}}", b"genomes: {x: {aliases: [[1], {a: b}, ok]}}",
         b"genomes: {x: {assets: {fasta: {tags: {default: {asset_path: [1]}}}}}}",
         b"genomes: {x: {assets: {fasta: {tags: {default: {seek_keys: [1], asset_digest: {a: b}}}}}}}",
         b'genomes: {x: {assets: {fasta: {tags: {default: {asset_path: "a\\0b"}}}}}}',
         b"genomes: {../../etc: {assets: {fasta: {tags: {default: {}}}}}}",
         b"genomes: {x: {assets: {a/b: {tags: {default: {}}}}}}", b"genomes: {x: {assets: {a: {tags: {..: {}}}}}}",
         b"genomes: {? [a, b] : c}", b"genomes: {? {a: b} : c}", b"genomes: &a {x: *a}", b"a: *nothing",
         b"genomes: {: {}}", b"[" * 5000, b"- " * 5000, b"{a: " * 5000, b"\xff\xfe\xff", b"a: \x00", b"\t",
         b"a: b: c", b"%", b"!!python/object:x {}",
         b'genome_folder: "a\\0b"\ngenome_archive_folder: "a\\0b"',
         b"genome_folder: [1]\ngenome_servers: {a: b}\n", b"genomes: {null: null, ~: {}}", b"--- \n--- \n"]  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_no_content_of_the_yaml_breaks_the_look(tree: Tree013, text: bytes, end: bytes) -> None:
    tree.asset()
    tree.write(text + end)
    look = tree.folder().look(time.time())
    assert look.ok
    assert look.assets[key()].state is AssetState.UNREGISTERED
    assert all(problem.message.isprintable() for problem in look.problems), look.problems


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"%@`~?, \n\t#0.", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_told(text: bytes) -> None:
    for before in (b"", b"genomes:\n  x:\n    assets:\n      a:\n        tags:\n          b: "):
        with contextlib.suppress(GarbledError):
            parse_config(before + text, "c.yaml")


def test_sound_entries_beside_a_wrong_one_are_taken(tree: Tree013) -> None:
    tree.asset()
    tree.entry()
    tree.genomes[DIGEST]["assets"]["bad"] = {"tags": {"default": ["what"]}}
    tree.write()
    look = tree.folder().look(time.time())
    assert look.assets[key()].state is AssetState.COMPLETE
    (problem,) = look.problems
    assert problem.path == str(tree.config)
    assert f"genomes.{DIGEST}.assets.bad.tags.default" in problem.message


def test_tags_that_look_like_numbers_and_dates_are_what_refgenconf_takes_them_for(tree: Tree013) -> None:
    for tag in ("2.5", "1e3", "2024-01-01", "0x10", "yes", "010"):
        tree.asset("fasta", {"0x10": "16", "yes": "True", "010": "8"}.get(tag, tag))
        tree.entry("fasta", tag)
    tree.write(tree.text().replace(b"'", b""))  # as people write it
    look = tree.folder().look(time.time())
    assert {k.asset for k in look.assets} == {"2.5", "1e3", "2024-01-01", "16", "True", "8"}
    assert {asset.state for asset in look.assets.values()} == {AssetState.COMPLETE}
    refgenconf = pytest.importorskip("refgenconf")
    genomes = refgenconf.RefGenConf.from_yaml_file(str(tree.config))["genomes"]
    assert {k.asset for k in look.assets} == {str(tag) for tag in genomes[DIGEST]["assets"]["fasta"]["tags"]}


# ------------------------------------------------------------------ a torn config


def test_a_cut_config_never_makes_a_wrong_asset_complete(tree: Tree013) -> None:
    for group in ("fasta", "bwa"):
        tree.asset(group)
        tree.entry(group, asset_path=group, asset_digest=f"{group}0123456789")
    tree.asset("fa")  # a folder that a cut asset_path would lead to
    tree.write()
    whole = tree.text()
    truth = tree.folder().look(time.time()).assets
    folder = tree.folder()
    for cut in range(len(whole)):
        looks_at = [tree.folder()]
        if cut % 8 == 0:  # and one that has read it whole before
            tree.write(whole)
            folder.look(time.time())
            looks_at.append(folder)
        tree.write(whole[:cut])
        for looks in looks_at:
            look = looks.look(time.time())
            assert set(look.assets) >= set(truth)
            for k, asset in look.assets.items():
                assert k in truth or asset.state is AssetState.MISSING
                if asset.state is AssetState.COMPLETE:
                    assert (asset.folder, asset.asset_digest) == (truth[k].folder, truth[k].asset_digest)
                    assert asset.seek_keys.items() <= truth[k].seek_keys.items()
                    assert asset.seek_keys
                elif k in truth:
                    assert asset.state is AssetState.UNREGISTERED
                    assert asset.asset_digest is None


def test_a_config_cut_for_a_moment_changes_nothing(tree: Tree013) -> None:
    tree.asset()
    tree.entry()
    tree.write()
    whole = tree.text()
    folder = tree.folder()
    good = folder.look(time.time())
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            with tree.config.open("wb") as file:  # as refgenie does: truncate, wait, write
                time.sleep(0.003)
                file.write(whole[: len(whole) // 2])
                file.flush()
                time.sleep(0.003)
                file.write(whole[len(whole) // 2 :])
            time.sleep(0.02)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            look = folder.look(time.time())
            assert look.assets == good.assets
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("text", [b"", b"\n", b"genomes: [", b"a: b: c\n"])
def test_a_config_that_stays_garbled(tree: Tree013, text: bytes) -> None:
    folder = tree.folder()
    tree.asset()
    tree.asset("bwa")
    tree.entry()
    tree.entry("bwa")
    tree.write()
    built_before = time.time() - 100
    for group in ("fasta", "bwa"):
        flag = (
            tree.root / "data" / DIGEST / group / "default/_refgenie_build/refgenie_DEFAULT_SAMPLE_NAME_completed.flag"
        )
        os.utime(flag, (built_before, built_before))
    good = folder.look(time.time() - 50).assets
    tree.write(text)
    look = folder.look(time.time())
    assert look.problems[0].path == str(tree.config)
    if text.strip():
        assert look.problems[0].message.startswith("line ")
    assert look.assets == good  # listed as before, and nothing is gone
    tree.flags("bwa", "default", "completed")  # built since: what the old entry says of it is outdated
    asset = folder.look(time.time()).assets[key("bwa")]
    assert asset.state is AssetState.UNREGISTERED
    assert "cannot be read" in asset.reason
    tree.config.unlink()
    look = folder.look(time.time())
    assert look.assets[key()].state is AssetState.COMPLETE
    assert "not there" in look.problems[0].message


def test_a_writers_lock_is_waited_for_but_not_for_ever(tree: Tree013, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.asset()
    tree.entry()
    tree.config.write_bytes(b"genomes: {}\n")  # written in part, and sound YAML
    lock = tree.root / "lock-write-genome_config.yaml"
    lock.touch()

    def finish() -> None:
        time.sleep(0.3)
        tree.config.write_bytes(tree.text())
        lock.unlink()

    writer = threading.Thread(target=finish)
    writer.start()
    asset = tree.folder().look(time.time()).assets[key()]
    writer.join()
    assert asset.state is AssetState.COMPLETE

    tree.write()
    lock.touch()
    assert only(tree).state is AssetState.COMPLETE
    os.utime(lock, (LONG_AGO, LONG_AGO))  # left by a refgenie that was killed
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert only(tree).state is AssetState.COMPLETE
    assert pauses == []


def test_a_file_that_changes_while_it_is_read_is_read_again(tree: Tree013, monkeypatch) -> None:
    tree.asset()
    tree.entry()
    tree.write(b"genomes: {}\n")

    class WrittenMeanwhile(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size) or b""
            tree.config.write_bytes(tree.text())
            return found

    monkeypatch.setattr(config_reader, "open", lambda path, _mode: WrittenMeanwhile(path), raising=False)
    assert tree.folder().look(time.time()).assets[key()].state is not AssetState.COMPLETE  # it never rests
    monkeypatch.undo()
    reads = iter([WrittenMeanwhile, io.FileIO, io.FileIO, io.FileIO])
    tree.write(b"genomes: {}\n")
    monkeypatch.setattr(config_reader, "open", lambda path, _mode: next(reads)(path), raising=False)
    assert tree.folder().look(time.time()).assets[key()].state is AssetState.COMPLETE


def test_an_entry_that_is_really_removed_is_believed(tree: Tree013) -> None:
    tree.asset()
    tree.entry()
    tree.entry("gone")
    tree.write()
    folder = tree.folder()
    assert set(folder.look(time.time()).assets) == {key(), key("gone")}
    del tree.genomes[DIGEST]["assets"]["gone"]
    tree.config.write_bytes(tree.text())
    began = time.monotonic()
    assert set(folder.look(time.time()).assets) == {key()}
    assert time.monotonic() - began >= config_reader.BETWEEN_READS_SECONDS  # two reads had to agree


def test_a_config_elsewhere_and_another_genome_folder(tree: Tree013, tmp_path: Path, monkeypatch) -> None:
    tree.asset()
    tree.entry()
    tree.write()
    elsewhere = tmp_path / "etc" / "mine.yaml"
    elsewhere.parent.mkdir()
    monkeypatch.setenv("GENOMES", str(tree.root))
    elsewhere.write_bytes(tree.text().replace(f"genome_folder: {tree.root}".encode(), b"genome_folder: $GENOMES"))
    tree.config.unlink()
    folder = GenomeFolder(str(tree.root), config=str(elsewhere))
    look = folder.look(time.time())
    assert look.assets[key()].state is AssetState.COMPLETE
    assert look.problems == ()
    assert look.layout == "refgenie 0.13 (mine.yaml)"
    assert look.watch == (str(elsewhere.parent),)
    monkeypatch.setenv("GENOMES", "/somewhere")
    assert "another genome_folder" in folder.look(time.time()).problems[0].message


def test_the_header(tree: Tree013, monkeypatch) -> None:
    tree.write(b"genome_folder: $G/x\ngenome_archive_folder: ~/a\ngenome_servers: http://one/\n")
    monkeypatch.setenv("G", "/genomes")
    monkeypatch.setenv("HOME", "/home/me")
    assert list(read_header(str(tree.config)).values()) == [("http://one",), "/genomes/x", "/home/me/a"]
    (tree.root / "$G/x").mkdir(parents=True)  # refgenconf takes it as it is written
    assert read_header(str(tree.config))["refgenie.genome_folder"] == str(tree.root / "$G/x")
    for text in (b"genome_folder: .\n", b"genomes: {}\n"):
        tree.write(text)
        assert list(read_header(str(tree.config)).values()) == [(), str(tree.root), ""]
    tree.write(b"a: b: c\n")
    with pytest.raises(ConfigError, match="line 1"):
        read_header(str(tree.config))
    with pytest.raises(ConfigError, match="is not there"):
        read_header("/nowhere/genome_config.yaml")


@pytest.mark.parametrize(
    ("text", "head"),
    [
        (b"a: 1\ngenomes:\n  x:\n    y: z\n\n# bye\n", b"a: 1\ngenomes: {}\n"),
        (b"genomes:\n  x:\n    y: z\na: 1\n", None),  # more settings follow
        (b"a: 1\ngenomes:\n- x\n", None),
        (b"a: 1\ngenomes:\n  x: 'open\nb: 2'\n", None),
        (b"a: 1\ngenomes:\n  x: y\rb: 2\n", None),
        (b"a: 1\ngenomes:\n  x: y\xe2\x80\xa8b: 2\n", None),
        (b"a: 1\ngenomes: {x: y}\n", None),
        (b"a: 1\n", None),
    ],
)
def test_the_head_of_a_config_is_what_stands_before_the_genomes_when_nothing_follows_them(text, head):
    assert head_of(text) == (text if head is None else head)


def test_the_build_record(tree: Tree013) -> None:
    folder = tree.asset()
    tree.entry()
    tree.write()
    build = folder / "_refgenie_build"
    (build / "refgenie_commands.sh").write_bytes(b"# Pipeline started\n\ncp a b\n  \n# x\ngzip \xff b\n")
    (build / "build_recipe_fasta__default.json").write_text('{"name": "fasta"}')
    record = tree.folder().build_record(only(tree))
    assert record.commands == ("cp a b", "gzip \ufffd b")
    assert record.recipe == {"name": "fasta"}
    assert record.log_name == "refgenie_log.md"
    for recipe in (b"[1]", b"{", b"[" * 100_000, b""):
        (build / "build_recipe_fasta__default.json").write_bytes(recipe)
        assert tree.folder().build_record(only(tree)).recipe is None
    (build / "refgenie_commands.sh").unlink()
    (build / "refgenie_commands.sh").symlink_to("/etc/passwd")
    assert tree.folder().build_record(only(tree)).commands == ()


def test_a_look_at_5000_files_is_fast(tree: Tree013) -> None:
    for group in range(10):
        folder = tree.asset(f"g{group}")
        tree.entry(f"g{group}")
        for number in range(500):
            os.mknod(folder / f"f{number}")
    tree.write()
    folder = tree.folder()
    times = []
    for _ in range(4):
        began = time.process_time()  # other work on the machine doesn't count
        assert len(folder.look(time.time()).assets) == 10
        times.append(time.process_time() - began)
    assert min(times) < 0.15
