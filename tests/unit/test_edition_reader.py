"""How `refgenied serve` reads its config again, and which file it takes for each archive."""

from __future__ import annotations

import copy
import functools
import gc
import hashlib
import os
import re
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refgenied.archive import pack
from refgenied.archive.format.manifest import Manifest, encode, read_manifest
from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.genomes.yaml_limits import OF_PEOPLE
from refgenied.model import AssetKey
from refgenied.serve.edition_reader import RECENT_SECONDS, EditionReader, NotReadyError
from refgenied.serve.editions import ConfigEdition
from refgenied.serve.served_archive import ReplacedError

pytest.importorskip("refgenieserver", reason="an extra")

GENOME = "d1" * 24
Tags = dict[str, dict[str, Any]]
"""Asset → its entry."""


@functools.cache
def packed() -> Manifest:
    """The manifest of some archive."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source", "default")
        source.mkdir(parents=True)
        (source / "x.fa").write_text("ACGT")
        pack(source, Path(folder, "x.tgz"))
        return read_manifest(Path(folder, "x.json"))


class Archives:
    """An archive folder, and the config that a server of it reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.groups: dict[str, dict[str, Tags]] = {}
        """Genome → asset group → assets."""
        self.size: object = "1.00 B"
        """What entries have as the size of their assets."""

    def names(self, key: AssetKey) -> ServedNames:
        return ServedNames(Place(self.path, key))

    def archive(self, key: AssetKey, content: bytes) -> str:
        """Make the nested archive with its manifest, as a publish does. Its digest."""
        place = Place(self.path, key)
        place.folder.mkdir(parents=True, exist_ok=True)
        place.archive_partial.write_bytes(content)
        place.archive_partial.rename(place.archive)
        digest = hashlib.md5(content).hexdigest()
        named = {"genome_digest": key.genome_digest, "asset_group": key.asset_group, "asset": key.asset}
        manifest = msgspec.structs.replace(packed(), **named, size=len(content), digest=digest)
        place.manifest.write_bytes(encode(manifest))
        return digest

    def enter(self, key: AssetKey, digest: str) -> None:
        tag = {"asset_path": key.asset_group, "asset_digest": "d", "archive_digest": digest, "asset_size": self.size}
        tag |= {"archive_size": "1.00 B", "seek_keys": {"x": "x.fa"}, "asset_parents": [], "asset_children": []}
        self.groups.setdefault(key.genome_digest, {}).setdefault(key.asset_group, {})[key.asset] = tag

    def add(self, key: AssetKey, content: bytes = b"an archive") -> str:
        """An archive that is served: its flat name and its entry. Its digest."""
        digest = self.archive(key, content)
        self.names(key).show()
        self.enter(key, digest)
        return digest

    def write(self, *, settled: bool = True) -> None:
        """Write the config. `settled`: so long after the archives that it must have followed."""
        genomes = {
            genome: {
                "aliases": [f"alias of {genome}"],
                "genome_description": "",
                "assets": {
                    group: {"asset_description": "", "default_tag": min(tags), "tags": tags}
                    for group, tags in groups.items()
                    if tags
                },
            }
            for genome, groups in self.groups.items()
        }
        partial = self.path / ".config.partial"
        partial.write_text(yaml.safe_dump({"config_version": 0.4, "genomes": genomes}, sort_keys=False))
        if settled:
            later = partial.stat().st_mtime + 2 * RECENT_SECONDS
            os.utime(partial, (later, later))
        partial.rename(self.path / CONFIG_NAME)


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    (tmp_path / "archives").mkdir()
    return Archives(tmp_path / "archives")


@pytest.fixture
def reader(archives: Archives) -> EditionReader:
    return EditionReader(archives.path)


@contextmanager
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that are looked at or opened meanwhile."""
    seen: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("stat", "open"):
            original = getattr(os, name)

            def spied(path: Any, *arguments: Any, original: Any = original, **named: Any) -> Any:
                seen.append(str(path))
                return original(path, *arguments, **named)

            patch.setattr(os, name, spied)
        yield seen


def groups_of(edition: ConfigEdition) -> dict[tuple[str, str], Any]:
    return {(g, name): group for g, body in edition.genomes.items() for name, group in body["assets"].items()}


def keys(genomes: int, groups: int) -> list[AssetKey]:
    return [AssetKey(f"{number:048}", f"asset{name}", "default") for number in range(genomes) for name in range(groups)]


@pytest.mark.parametrize("size", ["1.00 B", 5], ids=["sound", "mended"])
@pytest.mark.parametrize(("genomes", "groups"), [(1, 3), (10, 10), (1, 100)])
def test_one_changed_archive_costs_the_same_among_few_and_many(
    archives: Archives, reader: EditionReader, monkeypatch: pytest.MonkeyPatch, genomes: int, groups: int, size: object
) -> None:
    changed = keys(genomes, groups)[1]
    beside = AssetKey(changed.genome_digest, changed.asset_group, "beside")
    archives.size = size
    for key in (*keys(genomes, groups), beside):
        archives.add(key)
    archives.write()
    before = reader.read()
    archives.add(changed, b"another archive")
    archives.write()
    with looks(monkeypatch) as seen:
        after = reader.read()
    config = archives.path / CONFIG_NAME
    assert {path for path in seen if "/proc/" not in path} == {str(config), str(archives.names(changed).archive)}
    assert len(seen) <= 6
    assert [key for key in after.archives if after.archives[key] is not before.archives[key]] == [changed]
    old, new = groups_of(before), groups_of(after)
    assert [name for name in new if new[name] is not old[name]] == [(changed.genome_digest, changed.asset_group)]


def test_a_start_reads_no_manifest_of_archives_that_the_config_has_followed(
    archives: Archives, reader: EditionReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in keys(2, 5):
        archives.add(key)
    archives.write()
    with looks(monkeypatch) as seen:
        edition = reader.read()
    assert len(edition.archives) == 10
    assert not [path for path in seen if path.endswith(".json")]
    one = edition.archives[keys(2, 5)[3]]
    for manifests in (1, 0):
        with looks(monkeypatch) as seen:
            one.open().close()
        assert len([path for path in seen if path.endswith(".json")]) == manifests, "it is asked for once"
    archives.write(settled=False)
    recent = EditionReader(archives.path).read().archives[keys(2, 5)[3]]
    with looks(monkeypatch) as seen:
        recent.open().close()
    assert not [path for path in seen if path.endswith(".json")], "it was asked for when the config was read"


def test_a_config_that_is_larger_than_other_peoples_may_be_is_read(archives: Archives, reader: EditionReader) -> None:
    archives.add(AssetKey(GENOME, "fasta", "default"))
    archives.write()
    with open(archives.path / CONFIG_NAME, "ab") as config:
        config.write(b"#" + b" " * OF_PEOPLE.max_bytes + b"\n")
    assert len(reader.read().archives) == 1


def test_no_descriptor_stays_open(archives: Archives, reader: EditionReader) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for settled in (True, False):
        for key in keys(1, 30):
            archives.add(key, os.urandom(8))
        archives.write(settled=settled)
        edition = reader.read()
        for archive in edition.archives.values():
            archive.open()
    assert set(os.listdir("/proc/self/fd")) == before


KEY = AssetKey(GENOME, "fasta", "default")


@pytest.mark.parametrize("linked", [True, False])
def test_an_archive_that_is_newer_than_the_config_waits_for_it(
    archives: Archives, reader: EditionReader, monkeypatch: pytest.MonkeyPatch, *, linked: bool
) -> None:
    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    first = archives.add(KEY)
    archives.write(settled=False)
    assert reader.read().archives[KEY].digest == first
    second = archives.archive(KEY, b"another archive")
    archives.names(KEY).show()
    for reading in (reader, EditionReader(archives.path)):
        archives.write(settled=False)
        if reading is reader:  # it knows from before which file this is
            assert reading.read().archives[KEY].digest == first
            continue
        with pytest.raises(NotReadyError):
            reading.read()
        assert KEY not in reading.read(patient=False).archives
        archives.enter(KEY, second)
        archives.write(settled=False)
        assert reading.read().archives[KEY].open().md5(lambda: None) == second


def no_links(*_: object, **__: object) -> None:
    raise PermissionError(1, "no")


def test_the_kept_file_of_an_archive_that_is_newer_than_the_config_is_taken(
    archives: Archives, reader: EditionReader
) -> None:
    first = archives.add(KEY)
    kept = archives.names(KEY).kept(first)
    assert kept
    os.link(archives.names(KEY).archive, kept)
    archives.archive(KEY, b"another archive")
    archives.names(KEY).show()
    archives.write(settled=False)
    assert reader.read().archives[KEY].open().md5(lambda: None) == first


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_old_config_from_a_backup_gives_out_no_newer_archive(
    archives: Archives, reader: EditionReader, *, is_kept: bool
) -> None:
    first = archives.add(KEY)
    kept = archives.names(KEY).kept(first)
    assert kept
    os.link(archives.names(KEY).archive, kept)
    archives.archive(KEY, b"another archive")
    archives.names(KEY).show()
    if not is_kept:
        kept.unlink()
    archives.write()
    archive = reader.read().archives[KEY]
    with pytest.raises(ReplacedError):
        archive.open()
    assert reader.folder.in_doubt == {archive}
    archive.prove_again()
    if is_kept:
        assert archive.open().md5(lambda: None) == first
    else:
        with pytest.raises(ReplacedError):
            archive.open()


def test_a_refused_config_leaves_the_next_reading_as_it_was(archives: Archives, reader: EditionReader) -> None:
    archives.add(KEY)
    archives.write()
    before = reader.read()
    good = (archives.path / CONFIG_NAME).read_text()
    for bad in ("genomes: [", "- a list", good + "  \tx: ["):
        (archives.path / CONFIG_NAME).write_text(bad)
        with pytest.raises(Exception, match=r"."):
            reader.read()
    (archives.path / CONFIG_NAME).write_text(good)
    assert reader.read().archives == before.archives


def test_a_missing_archive_is_left_out_until_a_config_comes_after_it(archives: Archives, reader: EditionReader) -> None:
    other = AssetKey(GENOME, "fasta", "other")
    for key in (KEY, other):
        archives.add(key)
    flat = archives.names(KEY).archive
    flat.rename(archives.path / "aside")
    archives.write()
    edition = reader.read()
    assert list(edition.archives) == [other]
    assert edition.genomes[GENOME]["assets"]["fasta"]["default_tag"] == "other"
    (archives.path / "aside").rename(flat)
    archives.add(AssetKey(GENOME, "other", "default"))
    archives.write()
    assert KEY in reader.read().archives


ODD = ("a b", "é", "a.b", "0", "-", "_", "x__y", "a+b", "$(x)", "%00", "a" * 90)
BAD = ("..", ".", ".x", "a/b", "a" * 300)


def test_whatever_its_names_are_an_archive_is_found_where_the_daemon_puts_it(
    archives: Archives, reader: EditionReader
) -> None:
    served = [AssetKey(GENOME, group, asset) for group in ODD for asset in ODD]
    for key in served:
        archives.add(key, key.registry_path.encode())
    for name in BAD:
        archives.enter(AssetKey(GENOME, name, "default"), "0" * 32)
        archives.enter(AssetKey(GENOME, "fasta", name), "0" * 32)
    archives.write()
    edition = reader.read()
    named = {names for key in served if (names := (key.asset_group, key.asset))}
    assert {(key.asset_group, key.asset) for key in edition.archives} <= named
    found = {archives.names(key).archive for key in edition.archives}
    assert found == {archives.names(key).archive for key in served}, "of two with one file name, one is left out"
    for key, archive in edition.archives.items():
        assert edition.named(GENOME, f"{key.asset_group}__{key.asset}") is archive
        assert archive.open().stat.st_ino == archives.names(key).archive.stat().st_ino


NAMED = ("a/a:b", "a/a__b:c", "a/a:b__c", "a/a:c", "b/x:y", "b/x:z", "b/w:y")
KEYS = st.sampled_from([AssetKey(*re.split("[/:]", name)) for name in NAMED])
CHANGES = st.lists(st.tuples(st.sampled_from(["add", "add", "hide", "show", "forget"]), KEYS), max_size=10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(CHANGES, min_size=2, max_size=5))
def test_reading_by_change_gives_what_a_new_reader_gives(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Any]
) -> None:
    root = tmp_path_factory.mktemp("reading")
    (root / "archives").mkdir()
    archives = Archives(root / "archives")
    reader = EditionReader(archives.path)
    for number, several in enumerate(changes):
        for what, key in several:
            if what == "add":
                archives.add(key, f"{number} {key.registry_path}".encode())
            elif what == "forget":
                archives.groups.get(key.genome_digest, {}).get(key.asset_group, {}).pop(key.asset, None)
            elif what == "hide":
                archives.names(key).archive.unlink(missing_ok=True)
            elif archives.names(key).place.archive.exists():
                archives.names(key).show()
        archives.write()
        found, alone = reader.read(), EditionReader(archives.path).read()
        # What is served stays served, and is 503 when it is gone; a new reader leaves it out.
        served = {
            key: archive.digest for key, archive in found.archives.items() if archives.names(key).archive.exists()
        }
        assert served == {key: archive.digest for key, archive in alone.archives.items()}
        if found.archives.keys() == alone.archives.keys():
            assert found.genomes == alone.genomes
            assert list(found.genomes) == list(alone.genomes)
            assert found.mended == alone.mended
        unchanged = copy.deepcopy(alone.genomes)
        reader.read()
        assert alone.genomes == unchanged


def test_aliases_are_those_that_refgenconf_itself_finds(archives: Archives, reader: EditionReader) -> None:
    from refgenconf import RefGenConf  # noqa: PLC0415 - an extra
    from yacman import UndefinedAliasError  # noqa: PLC0415 - an extra

    for key in keys(3, 1):
        archives.add(key)
    archives.write()
    edition = reader.read()
    alone = RefGenConf(entries={"config_version": 0.4, "genomes": edition.genomes})
    assert edition.rgc.list() == alone.list()
    assert edition.rgc.genomes_list() == alone.genomes_list() != []
    for digest in edition.genomes:
        assert edition.rgc.get_genome_alias(digest, all_aliases=True) == [f"alias of {digest}"]
    for rgc in (edition.rgc, alone):
        with pytest.raises(UndefinedAliasError):
            rgc.get_genome_alias("none")


def test_an_edition_that_nobody_sees_is_gone_at_once(archives: Archives, reader: EditionReader) -> None:
    """The search for unused cycles, which stops all threads, passes over editions."""
    gc.disable()
    try:
        for number in range(3):
            archives.add(AssetKey(GENOME, f"asset{number}", "default"))
            archives.write()
            gone = weakref.ref(reader.read())
            assert gone() is None
    finally:
        gc.enable()
