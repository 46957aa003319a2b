"""`downloads import`, as people run it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import anyio.to_thread
import pytest
from controlled import served
from parts import Parts
from synthetic import DIGEST

from refgenied.model import AssetKey

pytestmark = pytest.mark.anyio


KEY = AssetKey(DIGEST, "fasta", "default")


ROOT = Path(__file__).parents[2]


@pytest.fixture
async def parts(archived: Parts) -> Parts:
    return archived


async def count(parts: Parts) -> int:
    record = await parts.record(KEY)
    assert record
    return record.download_count


def line(target: str, sent: object, status: int = 200, at: int = 0) -> str:
    return f'::1 - - [22/Nov/2026:10:00:{at:02} +0000] "GET {target} HTTP/1.1" {status} {sent} "-" "curl/8"\n'


API = f"/v3/assets/archive/{DIGEST}/fasta?tag=default"


@pytest.mark.parametrize("packed", [False, True])
async def test_an_import_twice_counts_once(parts: Parts, *, packed: bool) -> None:
    record = await parts.record(KEY)
    assert record
    text = "".join(line(API, record.size, at=second) for second in range(5)) + "odd line\n"
    log = parts.root / "access.log"
    log.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    async with served(parts):

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "refgenied.client", "downloads", "import", "--log", str(log)],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT),
                    "REFGENIED_SOCKET": str(parts.root / "control.sock"),
                },
                capture_output=True,
                text=True,
                check=False,
            )

        first = await anyio.to_thread.run_sync(run)
        assert (first.returncode, first.stdout) == (0, "6 lines: counted 5 downloads\n"), first.stderr
        second = await anyio.to_thread.run_sync(run)
        assert second.stdout == "6 lines: counted 0 downloads, 5 were counted before\n"
        log.write_text("nothing that is a log\n")
        third = await anyio.to_thread.run_sync(run)
        assert third.returncode == 1
        assert "neither in combined log format nor Caddy's JSON" in third.stderr
    assert await count(parts) == 5
