"""Counted downloads wait on disk until a daemon has recorded them."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab
from synthetic import Genomes

from refgenied.model import AssetKey
from refgenied.serving.server.spool import Spool

pytestmark = pytest.mark.anyio


@pytest.fixture
def archived(lab: Lab) -> AssetKey:
    key = Genomes(lab.genomes).build()
    lab.start()
    lab.archived("t7/fasta")
    return key


def spool_of(lab: Lab) -> Spool:
    spool = Spool(lab.root / "spool", str(lab.socket))
    spool.open()
    return spool


def left(lab: Lab) -> list[Path]:
    return list((lab.root / "spool" / "downloads").iterdir())


async def test_what_was_counted_while_the_daemon_was_away_is_recorded_once(lab: Lab, archived: AssetKey) -> None:
    lab.daemons[-1].close()
    spool = spool_of(lab)
    spool.count(archived, "", 1_700_000_000.0)
    await spool.flush()
    assert (spool.waiting, len(left(lab))) == (1, 1)
    assert spool.problem
    lab.start()
    again = spool_of(lab)
    await again.flush()
    await again.flush()
    assert (again.waiting, left(lab), again.problem) == (0, [], "")
    assert lab.archive("t7/fasta")["download_count"] == 1


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"{}", b"[]", b'{"id": 1}'])
async def test_a_garbled_file_is_put_aside_and_the_others_get_through(
    lab: Lab, archived: AssetKey, garbage: bytes
) -> None:
    spool = spool_of(lab)
    (lab.root / "spool" / "downloads" / "0.json").write_bytes(garbage)
    spool = spool_of(lab)
    spool.count(archived, "", 1_700_000_000.0)
    await spool.flush()
    assert (spool.waiting, spool.problem) == (0, "")
    assert [path.name for path in left(lab)] == ["0.damaged"]
    assert lab.archive("t7/fasta")["download_count"] == 1


async def test_many_downloads_of_long_names_get_through(lab: Lab, archived: AssetKey) -> None:
    spool = spool_of(lab)
    long = AssetKey("d" * 48, "é" * 100, "a" * 100)  # 600 bytes more in JSON
    for _ in range(250):
        spool.count(long, "f" * 32, 1_700_000_000.0)
    spool.count(archived, "no md5 at all " * 10, 1_700_000_000.0)
    await spool.flush()
    assert (spool.waiting, spool.problem, left(lab)) == (0, "", [])
    assert lab.archive("t7/fasta")["download_count"] == 1
