"""What `refgenied serve` takes from a config that anybody may have written."""

import hashlib
import os
from pathlib import Path

import pytest
import yaml

from refgenied.archive.place import Place
from refgenied.archive.run import no_check
from refgenied.archive_folder.names import ServedNames
from refgenied.model import AssetKey
from refgenied.serve.edition_reader import EditionReader
from refgenied.serve.served_archive import OpenedArchive, ServedArchive, ServedFolder

pytest.importorskip("refgenieserver", reason="an extra")

GENOME = "d1" * 24


@pytest.mark.parametrize("shown", [AssetKey(GENOME, "a__b", "c"), AssetKey(GENOME, "a", "b__c")])
def test_of_two_assets_with_one_file_name_the_one_is_given_out_whose_file_it_is(
    tmp_path: Path, shown: AssetKey
) -> None:
    place = Place(tmp_path, shown)
    place.folder.mkdir(parents=True)
    place.archive.write_bytes(b"an archive")
    os.link(place.archive, ServedNames(place).archive)
    tag = {"archive_digest": "0" * 32, "archive_size": "1KB", "asset_path": "x", "seek_keys": {"x": "."}}
    assets = {"a__b": {"default_tag": "c", "tags": {"c": tag}}, "a": {"default_tag": "b__c", "tags": {"b__c": tag}}}
    config = tmp_path / "genome_config.yaml"
    config.write_text(
        yaml.safe_dump({"config_version": 0.4, "genomes": {GENOME: {"aliases": ["t7"], "assets": assets}}})
    )
    found = EditionReader(tmp_path).read()
    assert list(found.archives) == [shown]
    assert list(found.rgc["genomes"][GENOME]["assets"]) == [shown.asset_group]


def test_reading_a_whole_archive_once_more_can_be_stopped(tmp_path: Path) -> None:
    key = AssetKey(GENOME, "fasta", "default")
    flat = ServedNames(Place(tmp_path, key)).archive
    flat.parent.mkdir()
    flat.write_bytes(b"an archive")
    archive = ServedArchive(ServedFolder(tmp_path), key, "0" * 32, ())

    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        archive.prove_again(stop)


class ShortReads(OpenedArchive):
    """A file on a disk that gives fewer bytes than were asked for, as network file systems may."""

    def read(self, size: int, offset: int) -> bytes:
        return super().read(min(size, 3), offset)


def test_a_disk_that_gives_less_than_was_asked_for_does_not_change_the_md5(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"an archive")
    archive = ServedArchive(ServedFolder(tmp_path), AssetKey(GENOME, "fasta", "default"), "0" * 32, ())
    opened = ShortReads(archive, os.open(tmp_path / "file", os.O_RDONLY))
    assert opened.md5(no_check) == hashlib.md5(b"an archive", usedforsecurity=False).hexdigest()
