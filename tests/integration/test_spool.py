"""Counted downloads are on disk at once, and wait there until a daemon has recorded them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from lab import Lab
from synthetic import Genomes

from refgenied.model import AssetKey
from refgenied.serve import segments
from refgenied.serve.partial_downloads import PartialDownloads
from refgenied.serve.segments import Segments
from refgenied.serve.spool import Spool
from refgenied.shared.pulls import Answer, Pulls

pytestmark = pytest.mark.anyio

KEY = AssetKey("d1" * 24, "fasta", "default")
AT = 1_700_000_000.0


@pytest.fixture
def archived(lab: Lab) -> AssetKey:
    key = Genomes(lab.genomes).build()
    lab.start()
    lab.archived("t7/fasta")
    return key


@asynccontextmanager
async def running(lab: Lab) -> AsyncGenerator[Spool]:
    """A spool at work; at the end all is written and reported, if there is a daemon."""
    spool = Spool(lab.root / "spool", str(lab.socket))
    spool.open()
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run)
        yield spool
        group.cancel_scope.cancel()
    await spool.flush()


def left(lab: Lab) -> list[Path]:
    return sorted((lab.root / "spool" / "downloads").iterdir())


def lines(lab: Lab) -> list[dict[str, object]]:
    """What a process that is killed now leaves."""
    return [json.loads(line) for path in left(lab) for line in path.read_bytes().splitlines()]


def wanted(lab: Lab) -> int:
    """How many downloads the next process will find."""
    return Segments(lab.root / "spool" / "downloads").open()


# --------------------------------------------------------------------------- on disk


async def test_each_is_on_disk_when_it_is_counted(lab: Lab) -> None:
    async with running(lab) as spool:
        for number in range(1, 4):
            await spool.count(KEY, "", AT)
            assert len(lines(lab)) == spool.waiting == number
    assert len(left(lab)) == 1


async def test_what_arrives_together_is_synced_together(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    original = os.fdatasync
    monkeypatch.setattr(segments.os, "fdatasync", lambda fd: (syncs.append(fd), original(fd)))
    async with running(lab) as spool, anyio.create_task_group() as group:
        for _ in range(500):
            group.start_soon(spool.count, KEY, "", AT)
    assert len(lines(lab)) == 500
    assert len(syncs) < 20


async def test_a_likely_download_counts_after_a_kill_and_not_when_it_was_none(lab: Lab) -> None:
    async with running(lab) as spool:
        spool.likely(KEY, "", AT)
        second, third = spool.likely(KEY, "", AT), spool.likely(KEY, "", AT)
        await spool.count(KEY, "", AT)
        assert (wanted_of(lab), spool.waiting) == (4, 1)
        spool.not_so(second)
        assert await spool.count(KEY, "", AT, third) == third
        await spool.count(KEY, "", AT)
        assert (wanted_of(lab), spool.waiting) == (4, 3)


def wanted_of(lab: Lab) -> int:
    rows = lines(lab)
    return sum("id" in row for row in rows) - sum("not" in row for row in rows)


async def test_files_do_not_grow_without_end(lab: Lab, archived: AssetKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refgenied.serve.spool.MOST_SEGMENT_BYTES", 1000)
    lab.daemons[-1].close()
    async with running(lab) as spool:
        none = spool.likely(archived, "", AT)
        for _ in range(30):
            await spool.count(archived, "", AT)
        spool.not_so(none)
    assert len(left(lab)) > 3
    assert spool.waiting == 30
    lab.start()
    async with running(lab) as spool:
        assert spool.waiting == 30
    assert (spool.waiting, left(lab)) == (0, [])
    assert lab.archive("t7/fasta")["download_count"] == 30


async def test_the_file_is_emptied_when_all_is_recorded(lab: Lab, archived: AssetKey) -> None:
    async with running(lab) as spool:
        await spool.count(archived, "", AT)
        with anyio.fail_after(10):
            while spool.waiting or left(lab)[0].stat().st_size:
                await anyio.sleep(0.01)
    assert lab.archive("t7/fasta")["download_count"] == 1


# --------------------------------------------------------------------------- a disk that takes nothing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_what_the_disk_does_not_take_is_in_memory_and_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    original = os.fdatasync
    async with running(lab) as spool:
        await spool.count(KEY, "", AT)

        def full(_: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(segments.os, "fdatasync", full)
        await spool.count(KEY, "", AT)
        assert f"{os.strerror(number)}; 1 downloads are in memory only" in spool.problem
        assert spool.waiting == 2
        monkeypatch.setattr(segments.os, "fdatasync", original)
        await spool.count(KEY, "", AT)
        assert "memory" not in spool.problem
    assert len({row["id"] for row in lines(lab)}) == 3


async def test_from_memory_it_is_reported_too(lab: Lab, archived: AssetKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(segments.os, "fdatasync", full)
    async with running(lab) as spool:
        await spool.count(archived, "", AT)
    assert lab.archive("t7/fasta")["download_count"] == 1
    assert spool.waiting == 0


async def test_a_file_that_somebody_deletes_is_begun_again(lab: Lab) -> None:
    async with running(lab) as spool:
        await spool.count(KEY, "", AT)
        left(lab)[0].unlink()
        (lab.root / "spool" / "downloads").rmdir()
        await spool.count(KEY, "", AT)
        assert len(lines(lab)) == 1


# --------------------------------------------------------------------------- what was left


async def test_what_was_counted_while_the_daemon_was_away_is_recorded_once(lab: Lab, archived: AssetKey) -> None:
    lab.daemons[-1].close()
    async with running(lab) as spool:
        await spool.count(archived, "", AT)
    assert (spool.waiting, len(left(lab))) == (1, 1)
    assert spool.problem
    kept = left(lab)[0].read_bytes()
    lab.start()
    for _ in range(2):
        async with running(lab) as spool:
            pass
        assert (spool.waiting, left(lab), spool.problem) == (0, [], "")
        assert lab.archive("t7/fasta")["download_count"] == 1
        (lab.root / "spool" / "downloads" / "again.jsonl").write_bytes(kept)
        Segments(lab.root / "spool" / "downloads").remove(lab.root / "spool" / "downloads" / "again.jsonl")


async def test_two_servers_leave_each_others_files_alone(lab: Lab, archived: AssetKey) -> None:
    lab.daemons[-1].close()
    async with running(lab) as first:
        await first.count(archived, "", AT)
        lab.start()
        async with running(lab) as second:
            await second.count(archived, "", AT)
        assert len(left(lab)) == 1
        assert second.waiting == 0
    assert left(lab) == []
    assert lab.archive("t7/fasta")["download_count"] == 2


GOOD = json.dumps(
    {"id": "a" * 32, "genome_digest": KEY.genome_digest, "asset_group": "fasta", "asset": "default", "at": AT}
    | {"digest": ""}
).encode()


WRONG = [GOOD.replace(b'"fasta"', b"5"), GOOD.replace(b"fasta", b"a" * 257), GOOD.replace(b"1700000000.0", b"NaN")]
WRONG += [GOOD.replace(b"fasta", rb"\ud800")]


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"{}", b"[]", b'{"id": 1}', b"[" * 100_000, *WRONG])
@pytest.mark.parametrize("name", ["0.json", "0.jsonl"])
def test_a_garbled_file_is_put_aside_and_what_is_good_in_it_is_read(tmp_path: Path, garbage: bytes, name: str) -> None:
    lined = garbage + b"\n" + GOOD + b"\n" + garbage + b"\n"
    (tmp_path / name).write_bytes(lined if name == "0.jsonl" else garbage)
    found = Segments(tmp_path)
    number = int(name == "0.jsonl")
    assert found.open() == number
    assert len(found.read(tmp_path / name)) == number
    found.remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["0.damaged"]


@pytest.mark.parametrize("cut", [0, 1, 50, len(GOOD)])
def test_a_line_that_a_kill_has_cut_is_no_download_and_no_damage(tmp_path: Path, cut: int) -> None:
    (tmp_path / "0.jsonl").write_bytes(GOOD + b"\n" + GOOD.replace(b"aaaa", b"bbbb")[:cut])
    found = Segments(tmp_path)
    assert found.open() == 1 + (cut == len(GOOD))
    assert len(found.read(tmp_path / "0.jsonl")) == 1 + (cut == len(GOOD))
    found.remove(tmp_path / "0.jsonl")
    assert not list(tmp_path.iterdir())


async def test_files_of_the_first_version_are_taken(lab: Lab, archived: AssetKey) -> None:
    folder = lab.root / "spool" / "downloads"
    folder.mkdir(parents=True)
    (folder / f"{'a' * 32}.json").write_bytes(GOOD)
    async with running(lab) as spool:
        assert spool.waiting == 1
    assert (spool.waiting, left(lab)) == (0, [])
    assert lab.archive("t7/fasta")["download_count"] == 1


async def test_what_others_put_there_holds_up_nothing(lab: Lab, archived: AssetKey) -> None:
    folder = lab.root / "spool" / "downloads"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "0.jsonl")
    os.mkfifo(folder / "0.json")
    (folder / "00.json").write_bytes(b"garbage")
    (folder / "1.jsonl").mkdir()
    (folder / "2.jsonl").symlink_to("/dev/zero")
    with anyio.fail_after(20):
        async with running(lab) as spool:
            await spool.count(archived, "", AT)
    assert (spool.waiting, spool.problem) == (0, "")
    assert lab.archive("t7/fasta")["download_count"] == 1


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "downloads")
    with pytest.raises(OSError, match="downloads"):
        Spool(tmp_path, "").open()


async def test_many_downloads_of_long_names_get_through(lab: Lab, archived: AssetKey) -> None:
    long = AssetKey("d" * 48, "é" * 100, "a" * 100)  # 600 bytes more in JSON
    async with running(lab) as spool, anyio.create_task_group() as group:
        for _ in range(250):
            group.start_soon(spool.count, long, "f" * 32, AT)
        group.start_soon(spool.count, AssetKey("d" * 48, "a" * 300, "b"), "", AT)  # no daemon ever takes that
        group.start_soon(spool.count, archived, "no md5 at all " * 10, AT)
    assert (spool.waiting, spool.problem, left(lab)) == (0, "", [])
    assert lab.archive("t7/fasta")["download_count"] == 1


@pytest.mark.parametrize(
    "garbage", [b"", b"{}", b"[]", b'{"boot": 1, "pulls": 2}', b'{"boot": "BOOT", "pulls": [[1, 2]]}']
)
async def test_garbled_unfinished_downloads_are_begun_anew(tmp_path: Path, garbage: bytes) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    (tmp_path / "unfinished.json").write_bytes(garbage.replace(b"BOOT", boot))
    half, rest = (Answer(1.0, 1.0, 1000, first, 500, 500, ranged=True) for first in (0, 500))
    for count in (False, True):
        pulls = Pulls()
        unfinished = PartialDownloads(tmp_path, pulls)
        unfinished.open()
        assert pulls.take(("a", "b"), rest if count else half) == count
        await unfinished.keep()
