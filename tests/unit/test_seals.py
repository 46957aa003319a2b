"""A digit that has changed in a manifest or in a record is found, and put right where the other one proves it."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from parts import Parts, running
from transactions import transaction

from refgenied.archive.format.manifest import encode, read_manifest
from refgenied.archive.place import Place
from refgenied.model import ArchiveRecord, AssetKey, Requester
from refgenied.store import archives

pytestmark = pytest.mark.anyio

ANN = Requester("ann", 1000, 42)
IN_BOTH = (
    "genome_digest",
    "asset_group",
    "asset",
    "aliases",
    "size",
    "digest",
    "content_digest",
    "asset_digest",
    "files",
    "source_size",
    "created_at",
    "requested_by",
    "stamp",
    "files_stamp",
    "seal",
)
"""Fields of a manifest that the database has too."""
IN_MANIFEST = ("seek_keys", "library", "commands", "compressed", "md5", "mtime", "recorded_asset_digest")
"""Those that it has alone."""


def place_of(parts: Parts, key: AssetKey) -> Place:
    return Place(parts.root / "archives", key)


def change(path: Path, field: str) -> bytes:
    """Another digit or letter in the value of a field; what was there before."""
    before = path.read_bytes()
    whole = rb'%b"%b": ?[^\n]*?([0-9a-z])'
    found = re.search(whole % (b"\n  ", field.encode()), before) or re.search(whole % (b"", field.encode()), before)
    assert found
    at = found.start(1)
    other = b"7" if before[at : at + 1] != b"7" else b"8"
    path.write_bytes(before[:at] + other + before[at + 1 :])
    return before


def unseal(path: Path) -> None:
    """As version 0.1.0 wrote it."""
    path.write_bytes(path.read_bytes().partition(b',\n  "seal"')[0] + b"\n}\n")


async def forget_seals(parts: Parts) -> None:
    async with transaction(parts.store) as tx:
        await tx.execute("UPDATE archive SET seal = NULL")


def lasting(record: ArchiveRecord | None) -> dict[str, object]:
    assert record
    return {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("proved_at", "damaged")}


@pytest.mark.parametrize("field", IN_BOTH)
@pytest.mark.parametrize("quick", [True, False])
async def test_a_changed_manifest_is_put_right_from_the_database(quick, field, genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        record = await parts.record(key)
        shutil.rmtree(genomes.folder(key))  # nothing can be made anew
        manifest = place_of(parts, key).manifest
        manifest.chmod(0o640)
        before = change(manifest, field)
        verdict = await parts.verifier.verify(key, ANN, quick=quick)
        assert (verdict.damage, manifest.read_bytes()) == ("", before)
        assert manifest.stat().st_mode & 0o777 == 0o640
        assert "from the database" in verdict.mended
        assert [event.data["by"] for event in await parts.events("archive.mended")] == ["ann"]
        assert lasting(await parts.record(key)) == lasting(record)
        assert not [path for path in manifest.parent.iterdir() if "partial" in path.name]
        assert (await parts.verifier.verify(key, ANN, quick=quick)).mended == ""


@pytest.mark.parametrize("field", IN_MANIFEST)
async def test_what_only_the_manifest_has_is_damage_and_made_anew(field, genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        record = await parts.record(key)
        manifest = place_of(parts, key).manifest
        change(manifest, field)
        verdict = await parts.verifier.verify(key, ANN, quick=True)
        assert "was changed since it was written" in verdict.damage
        assert verdict.job
        await parts.work()
        made = await parts.record(key)
        assert (made.damaged, made.digest) == (None, record.digest)
        assert (await parts.verifier.verify(key, ANN)).damage == ""


@pytest.mark.parametrize(
    "field", ["digest", "size", "asset_digest", "content_digest", "path", "files", "source_size", "seal", "created_at"]
)
async def test_a_changed_record_is_put_right_from_the_manifest(field, genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        right = await parts.record(key)
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET download_count = 3")
            value = getattr(right, field)
            other = value + 1 if isinstance(value, int | float) else value[:-1] + ("0" if value[-1] != "0" else "1")
            await tx.execute(f"UPDATE archive SET {field} = ?", (other,))  # noqa: S608
        verdict = await parts.verifier.verify(key, ANN, quick=True)
        assert verdict.damage == ""
        assert "the database had another" in verdict.mended
        assert lasting(await parts.record(key)) == lasting(right) | {"download_count": 3}
        assert (await parts.verifier.verify(key, ANN)).mended == ""
        assert not await parts.events("archive.damaged")


async def test_a_manifest_without_a_seal_gets_one_when_it_is_proved(genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        path = place_of(parts, key).manifest
        before = path.read_bytes()
        unseal(path)
        await forget_seals(parts)
        assert (await parts.verifier.verify(key, ANN, quick=True)).damage == ""
        assert (await parts.record(key)).seal is None
        verdict = await parts.verifier.verify(key, ANN)
        assert (verdict.damage, verdict.mended) == ("", "")
        assert path.read_bytes() == before
        assert (await parts.record(key)).seal == read_manifest(path).seal


@pytest.mark.parametrize("where", ["manifest", "record"])
async def test_without_a_seal_the_files_tell_which_asset_digest_is_right(where, genomes):
    key = genomes.build(a=b"1", b=b"2")
    async with running(genomes) as parts:
        await parts.settle()
        path = place_of(parts, key).manifest
        right = await parts.record(key)
        unseal(path)
        await forget_seals(parts)
        if where == "manifest":
            change(path, "asset_digest")
        else:
            async with transaction(parts.store) as tx:
                await tx.execute("UPDATE archive SET asset_digest = 'x' || asset_digest")
        verdict = await parts.verifier.verify(key, ANN)
        assert verdict.damage == ""
        assert verdict.mended
        assert read_manifest(path).asset_digest == (await parts.record(key)).asset_digest == right.asset_digest


async def test_a_wrong_digest_from_before_there_were_seals_is_found_when_a_lost_database_is_read_anew(genomes):
    key = genomes.build(a=b"1", b=b"2")
    async with running(genomes) as parts:
        await parts.settle()
        path = place_of(parts, key).manifest
        unseal(path)
        change(path, "asset_digest")
    async with running(genomes, "another") as parts:
        verdict = await parts.verifier.verify(key, ANN)
        assert "another asset digest" in verdict.damage


async def test_a_manifest_that_the_disk_does_not_take_is_no_damage(genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        place = place_of(parts, key)
        unseal(place.manifest)
        await forget_seals(parts)
        place.manifest_partial.mkdir()
        assert (await parts.verifier.verify(key, ANN)).damage == ""
        assert (await parts.record(key)).seal is None
        place.manifest_partial.rmdir()
        await parts.verifier.verify(key, ANN)
        assert (await parts.record(key)).seal


async def test_every_writer_seals(genomes, tmp_path):
    kept, removed = genomes.build(), genomes.build("other")
    async with running(genomes) as parts:
        await parts.settle()
        shutil.copytree(parts.root / "archives", tmp_path / "copy", symlinks=True)
        for key in (kept, removed):
            path = place_of(parts, key).manifest
            assert json.loads(path.read_bytes())["seal"] == (await parts.record(key)).seal
            assert path.read_bytes() == encode(read_manifest(path))
    for name in ("fasta", "other"):
        for path in (tmp_path / "copy").rglob(f"{name}__default.json"):
            unseal(path)
    shutil.rmtree(tmp_path / "archives")
    os.mkdir(tmp_path / "archives")
    async with running(genomes, "another") as parts:
        assert {one.taken for one in await parts.bring(tmp_path / "copy")} == {"imported", "known"}  # by its flat name
        for key in (kept, removed):
            assert read_manifest(place_of(parts, key).manifest).seal == (await parts.record(key)).seal


@pytest.mark.parametrize("field", ["size", "digest"])
async def test_a_sweep_puts_a_changed_record_right_and_packs_nothing(field, genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        right = await parts.record(key)
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET size = 1" if field == "size" else "UPDATE archive SET digest = 'd'")
        await parts.reconciler.look_again()
        if field == "digest":  # nobody sees it from outside; see the scrub
            await parts.jobs.enqueue(key, stamp=right.stamp, priority=1)
        await parts.work()
        assert lasting(await parts.record(key)) == lasting(right)
        assert [event.kind for event in await parts.events("archive.")] == ["archive.published", "archive.adopted"]


@pytest.mark.parametrize("field", ["digest", "size", "asset_digest", "source_size"])
@pytest.mark.parametrize("restarted", [True, False])
async def test_a_changed_record_takes_its_archive_off_the_server_until_it_is_put_right(restarted, field, genomes):
    key = genomes.build()
    genomes.build("other")  # a start looks at the one that changed last, whatever the numbers say
    async with running(genomes) as parts:
        await parts.settle()
        right, served = await parts.record(key), Path(parts.catalog.config).read_bytes()
        shutil.rmtree(genomes.folder(key))  # no job makes it anew
        async with transaction(parts.store) as tx:
            await tx.execute(f"UPDATE archive SET {field} = {field} || '1' WHERE asset_group = 'fasta'")  # noqa: S608
        if not restarted:
            await told_and_put_right(parts, key, right, served)
    if restarted:
        async with running(genomes) as parts:
            await parts.reconciler.look_again()
            await told_and_put_right(parts, key, right, served)


async def told_and_put_right(parts: Parts, key: AssetKey, right: ArchiveRecord, served: bytes) -> None:
    await parts.catalog.refresh()
    assert parts.catalog.served.archives == 1
    assert parts.catalog.served.left_out
    await parts.damage.clear_doubts()
    assert lasting(await parts.record(key)) == lasting(right)
    await parts.catalog.refresh()
    assert parts.catalog.served.archives == 2
    assert Path(parts.catalog.config).read_bytes() == served


async def test_a_changed_manifest_is_never_served_and_is_put_right(genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        served = Path(parts.catalog.config).read_bytes()
        change(place_of(parts, key).manifest, "asset_digest")
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        await parts.catalog.refresh()
        assert "was changed since it was written" in " ".join(parts.catalog.served.left_out)
        await parts.damage.clear_doubts()
        await parts.catalog.refresh()
        assert Path(parts.catalog.config).read_bytes() == served


async def test_a_lost_database_does_not_believe_a_changed_manifest(genomes):
    kept, gone = genomes.build("kept"), genomes.build("gone")
    async with running(genomes) as parts:
        await parts.settle()
        digests = {key: (await parts.record(key)).asset_digest for key in (kept, gone)}
        for key in (kept, gone):
            change(place_of(parts, key).manifest, "asset_digest")
        shutil.rmtree(genomes.folder(gone))
    async with running(genomes, "another") as parts:
        assert await parts.record(kept) is None
        await parts.settle()
        assert (await parts.record(kept)).asset_digest == digests[kept], "made anew from its asset"
        assert await parts.record(gone) is None
        assert parts.catalog.served.archives == 1
        assert "gone" not in Path(parts.catalog.config).read_text()


async def test_what_the_manifest_alone_has_lost_the_archive_gives_back(genomes):
    """As the hint says: without its manifest an archive is read anew, also when its asset is gone."""
    key = genomes.build(a=b"1", b=b"2")
    async with running(genomes) as parts:
        await parts.settle()
        right, place = await parts.record(key), place_of(parts, key)
        shutil.rmtree(genomes.folder(key))
        change(place.manifest, "mtime")
        verdict = await parts.verifier.verify(key, ANN, quick=True)
        assert verdict.job is None
        assert f"move {place.manifest} away, and `refgeniectl archive import" in verdict.hint
        place.manifest.rename(place.manifest.with_name("away"))
        await parts.importer.take(await parts.importer.find_one(key), ANN, by_name=True)
        found = await parts.record(key)
        assert (found.digest, found.asset_digest, found.damaged) == (right.digest, right.asset_digest, None)
        assert (await parts.verifier.verify(key, ANN)).damage == ""


@pytest.mark.parametrize("column", ["genome_digest", "asset_group", "asset"])
async def test_a_record_whose_name_has_changed_gives_way_to_the_archive_that_is_there(column, genomes):
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        async with transaction(parts.store) as tx:
            await tx.execute(f"UPDATE archive SET {column} = {column} || 'x'")  # noqa: S608
        await parts.settle()
        async with transaction(parts.store) as tx:
            assert list(await archives.everything(tx)) == [key]
        assert len(await parts.events("archive.published")) == 1
