"""`archive.list`, `archive.get`, `archive.files`. Real parts over a synthetic genome folder."""

import json
from pathlib import Path

import pytest
from controlled import Desk
from parts import Parts
from synthetic import ALIAS, DIGEST, Genomes

from refgenied.control import views
from refgenied.control.protocol import MAX_REPLY

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


async def test_list_has_the_promised_fields(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build(a=b"1", b=b"22")
    await parts.settle()
    [row] = (await desk.ask("archive.list"))["archives"]
    record = await parts.record(views.key_after(NAME))
    assert record
    assert row["digest"] == record.digest
    assert (row["registry_path"], row["genome_digest"], row["aliases"]) == (NAME, DIGEST, [ALIAS])
    assert (row["asset_group"], row["asset"], row["files"], row["download_count"]) == ("fasta", "default", 2, 0)
    assert Path(row["path"]).stat().st_size == row["size"]
    assert (row["asset_digest"], row["content_digest"]) == (record.asset_digest, record.content_digest)
    assert (row["state"], row["created_at"]) == ("archived", record.created_at)
    Path(row["path"]).unlink()
    [row] = (await desk.ask("archive.list", pattern="t7/*"))["archives"]
    assert row["state"] == "stale"
    assert "No such file" in row["problem"]
    assert (await desk.ask("archive.list", pattern="x/*"))["archives"] == []


async def test_get_shows_contents_and_build(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build(a=b"1", b=b"22")
    await parts.settle()
    found = await desk.ask("archive.get", path="t7/fasta")
    contents = found["contents"]
    assert [(entry["path"], entry["type"]) for entry in contents["files"]] == [
        ("", "folder"), ("a", "file"), ("b", "file"),
    ]  # fmt: skip
    assert contents["files_total"] == 3
    assert contents["build"]["commands"] == ["touch a"]
    assert contents["seek_keys"] == {"fasta": "a"}
    Path(contents["manifest"]).unlink()
    broken = await desk.ask("archive.get", path="t7/fasta")
    assert broken["contents"] is None
    assert "no manifest" in broken["problem"]


async def test_files_of_a_big_archive_come_in_pages(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    names = {f"{'n' * 200}{number:04d}": b"" for number in range(1500)}
    genomes.build(**names)
    await parts.settle()
    seen: list[str] = []
    skip: int | None = 0
    while skip is not None:
        page = await desk.ask("archive.files", path="t7/fasta", skip=skip)
        assert page["total"] == 1501
        seen += [entry["path"] for entry in page["files"]]
        skip = page["next"]
    assert seen == ["", *sorted(names)]
    shown = await desk.ask("archive.get", path="t7/fasta")
    assert len(json.dumps(shown)) < MAX_REPLY
    assert shown["contents"]["files_total"] == 1501
