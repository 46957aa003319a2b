"""Access logs of real web servers, taken down from them: what they tell is counted, however they are cut."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
from collections.abc import AsyncGenerator
from io import BytesIO
from pathlib import Path

import pytest
from controlled import BOB, Desk, context_of
from log_importer import Importer, importing
from synthetic import DIGEST, Genomes
from transactions import transaction
from web_servers import acts

from refgenied.client.weblogs import reader as reader_module
from refgenied.client.weblogs.lines import StrangeLineError, hit_of
from refgenied.client.weblogs.reader import Reader, lines_of, numbered
from refgenied.client.weblogs.targets import Targets
from refgenied.shared.pulls import remembered

pytestmark = pytest.mark.anyio

LOGS = Path(__file__).parents[1] / "data/logs"
TRUE = sum(act.downloads for act in acts(slow_seconds=1, pieces=20))
AGENT = "Python-urllib/3.11"
FILE = f"/archives/{DIGEST}/even__default.tgz"


@pytest.fixture
async def importer(tmp_path: Path) -> AsyncGenerator[Importer]:
    async with importing(Genomes(tmp_path / "genomes")) as importer:
        yield importer


def log_of(name: str) -> list[bytes]:
    return (LOGS / f"{name}.log").read_bytes().splitlines(keepends=True)


TELLING = ["nginx-combined", "nginx-refgenied", "apache-refgenied", "caddy"]
"""apache-combined tells all but one thing: its two halves and one half twice have the same sum, about."""


@pytest.mark.parametrize("name", [*TELLING, "apache-combined", "apache-vhost_combined"])
async def test_the_count_is_the_number_of_downloads(importer: Importer, name: str) -> None:
    lines = log_of(name)
    wrong = int(name in ("apache-combined", "apache-vhost_combined"))
    assert await importer(lines) == TRUE + wrong
    lengths = [note for note in importer.notes if re.search(r"counted by their lengths.*README", note)]
    assert importer.notes == lengths
    assert bool(lengths) == (name in ("nginx-combined", "apache-combined", "apache-vhost_combined"))
    assert await importer(lines) == TRUE + wrong
    assert (importer.said["recorded"], importer.said["known"]) == (0, TRUE + wrong)


@pytest.mark.parametrize("name", [*TELLING, "apache-combined"])
@pytest.mark.parametrize("cut", [5, 7, 9, 11, 20, 33, 43])
async def test_a_log_may_be_cut_anywhere(importer: Importer, name: str, cut: int) -> None:
    """Most of these cuts are between the two requests of a pull."""
    lines = log_of(name)
    true = TRUE + (name == "apache-combined")
    await importer(lines[:cut])
    assert await importer(lines[cut:]) == true
    assert await importer(lines[:cut], "packed-meanwhile.log") == true
    assert await importer(lines[cut:], "packed-too.log") == true
    assert await importer(lines) == true


@pytest.mark.parametrize("name", TELLING)
async def test_however_it_is_cut_nothing_counts_twice_and_the_whole_log_is_right(importer: Importer, name: str) -> None:
    lines = log_of(name)
    chance = random.Random(name)
    for _ in range(4):
        cuts = sorted(chance.sample(range(len(lines)), 6))
        for first, end in zip([0, *cuts], [*cuts, len(lines)], strict=True):
            assert await importer(lines[first:end]) <= TRUE
    assert await importer(lines) == TRUE


async def test_a_log_that_grows_is_read_again_and_again(importer: Importer) -> None:
    lines = log_of("nginx-combined")
    for end in range(0, len(lines), 5):
        await importer(lines[:end], "access.log")
    assert await importer(lines, "access.log") == TRUE


async def test_a_part_of_what_is_known_adds_nothing(importer: Importer) -> None:
    lines = [line(204_800, agent=agent, second=second // 3) for second in range(30) for agent in ("a", AGENT)]
    assert await importer(lines) == 45
    for first in (5, 20, 40):
        assert await importer(lines[first:]) == 45
        assert await importer(lines[first : first + 12]) == 45


@pytest.mark.parametrize("cut", range(1, 6))
async def test_rotation_between_equal_lines(importer: Importer, cut: int) -> None:
    """Three pulls within one second are six equal lines."""
    equal = [line(204_800, agent=AGENT)] * 6
    before, after = line(1, target="/other"), line(7, second=1, agent="x")
    first, rest = [before, *equal[:cut]], [*equal[cut:], after]
    assert await importer(first) == cut // 2
    assert await importer(rest) == 3
    assert await importer(rest, "the-same-packed-again.log") == 3
    assert await importer(first) == 3
    assert await importer(first + rest) == 3


async def test_each_half_of_a_pair_in_a_log_of_its_own(importer: Importer) -> None:
    half = [line(204_800, agent=AGENT)]
    assert [await importer(half, name) for name in ("a", "a", "b", "b", "a")] == [0, 0, 1, 1, 1]
    whole = [line(3001, target=f"/archives/{DIGEST}/small__default.tgz")]
    assert [await importer(whole, name) for name in ("c", "d")] == [2, 2], "a copy of the same log"


async def test_broken_transfers_look_whole_in_apaches_b(importer: Importer) -> None:
    assert await importer(log_of("apache-with_b")) > TRUE
    assert any(note.startswith("Apache's %b wrote this log") for note in importer.notes), importer.notes
    lines = [line(204_800), line(204_800, agent="x")]
    await importer(lines)
    assert importer.notes[0].startswith("if Apache's %b wrote this log")
    await importer([*lines, line(1000)])
    assert importer.notes == [], "it tells of a transfer that was broken off"


# --------------------------------------------------------------------------- single lines


def line(sent: object, status: int = 200, *, target: str = FILE, agent: str = "curl/8", second: int = 0) -> bytes:
    at = f"22/Nov/2026:10:{second // 60:02}:{second % 60:02} +0000"
    return f'10.0.0.1 - - [{at}] "GET {target} HTTP/1.1" {status} {sent} "-" "{agent}"\n'.encode()


async def test_two_hundred_ranges_are_one_download_in_every_format(importer: Importer) -> None:
    spans = [(first, first + 1024) for first in range(0, 204_800, 1024)]
    told = [f'"{agent}" "bytes {first}-{end - 1}/204800"' for agent in ("n",) for first, end in spans]
    assert await importer([line(1024, 206, agent="n")] * 200) == 1
    assert await importer([line(1024, 206, agent="m").replace(b'"m"', text.encode()) for text in told]) == 2
    headers = line("258", agent="m").replace(b"GET", b"HEAD")
    assert await importer([headers, *[line(1024 + 310 + number % 7, 206, agent="o") for number in range(200)]]) == 3


async def test_a_slow_pull_is_counted_as_long_as_it_may_take(importer: Importer) -> None:
    assert await importer([line(204_800, agent=AGENT), line(204_800, agent=AGENT, second=590)]) == 1
    assert remembered(204_800) > 600


async def test_what_was_replaced_since_is_known_by_its_size_and_time(importer: Importer) -> None:
    async with transaction(importer.parts.store) as tx:
        await tx.execute(
            "INSERT INTO edition VALUES (?, 'even', 'default', 'newer', 100000, ?)", (DIGEST, 1_795_341_600.0 + 30)
        )
    lines = [line(204_800), line(100_000), line(205_060, second=1), line(100_260, second=40), line(100_260, second=2)]
    assert await importer(lines) == 4, "the last one was broken off: the shorter archive was not there yet"


@pytest.mark.parametrize(
    ("raw", "client", "agent", "target"),
    [
        (rb'::1 - - [22/Nov/2026:10:00:00 +0000] "GET /a\x22b HTTP/1.1" 200 5 "-" "q\x22\x5C"', "::1", 'q"\\', '/a"b'),
        (rb'h:80 ::1 - joe [22/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 5 "\"" "\"q\\"', "::1", '"q\\', "/a"),
        (rb'1.2.3.4 - a b [22/Nov/2026:10:00:00 +0000] "GET /a HTTP/2.0" 206 5', "1.2.3.4", "", "/a"),
        (rb'1.2.3.4 - - [22/Nov/2026:10:00:00 +0000] "GET /\xc3\xa9 HTTP/1.1" 200 5 "-" "-" 0.1', "1.2.3.4", "-", "/é"),
    ],
)
def test_lines_are_taken_apart(raw: bytes, client: str, agent: str, target: str) -> None:
    hit = hit_of(raw)
    assert hit
    assert (hit.client, hit.agent, hit.target, hit.sent) == (client, agent, target, 5)


def test_caddys_older_and_newer_lines() -> None:
    row = json.loads(log_of("caddy")[0])
    request = row["request"] | {"client_ip": "10.0.0.9"}
    hit = hit_of(json.dumps(row | {"request": request, "ts": "2026-11-22T10:00:00.5Z", "duration": "1s"}).encode())
    assert hit
    assert (hit.client, hit.at, hit.begun) == ("10.0.0.9", 1_795_341_600.5, None)
    del request["client_ip"], request["remote_ip"]
    hit = hit_of(json.dumps(row | {"request": request | {"remote_addr": "[::1]:5"}, "ts": 8, "duration": 3}).encode())
    assert hit
    assert (hit.client, hit.at, hit.begun) == ("[::1]", 8, 5)


@pytest.mark.parametrize("raw", [b"", b"{", b"{}", b"[1]", b'{"request": 1}', b"[" * 5000, b'{"a":' * 5000, b"a b c"])
def test_strange_lines(raw: bytes) -> None:
    with pytest.raises(StrangeLineError):
        hit_of(raw)


async def test_odd_lines_hold_up_nothing(importer: Importer) -> None:
    """What anybody may write into a log by asking for something, and what a disk may make of it."""
    row = json.loads(log_of("caddy")[0])
    odd = [
        row | {"ts": 1e400},
        row | {"ts": float("nan")},
        row | {"ts": -5},
        row | {"ts": "yesterday"},
        row | {"size": 10**30},
        row | {"size": -1},
        row | {"duration": 1e300},
        row | {"request": row["request"] | {"headers": {"User-Agent": ["\ud800"]}}},
        row | {"resp_headers": {"Content-Range": ["bytes 9-3/5"]}, "status": 206},
        row | {"resp_headers": [], "status": 206},
    ]
    lines = [json.dumps(one).encode() + b"\n" for one in odd]
    lines += [line("9" * 5000), line("9" * 18), line(5).replace(b"2026", b"0001"), line(5).replace(b"Nov", b"Foo")]
    lines += [line(5, 206, agent='x" "bytes 99-5/204800'), line(5, target="/" + "%ff" * 9000), b"\0" * 70_000 + b"\n"]
    await importer([*lines, line(204_800)])
    assert importer.said["other_lines"] >= 6


async def test_without_agents_it_is_said_that_pairs_cannot_be_told(importer: Importer) -> None:
    assert await importer([line(204_800).rpartition(b' "-"')[0] + b"\n", line(5)]) == 1
    assert any("names no user agents" in note for note in importer.notes), importer.notes


async def test_a_line_that_is_being_written_is_left_for_the_next_time(importer: Importer) -> None:
    full = line(204_800)
    for end in range(1, len(full) - 2):
        await importer(line(1, target="/") + full[:end], "access.log")
        assert importer.said["recorded"] == 0, full[:end]
    assert await importer(line(1, target="/") + full[:-1], "access.log") == 1
    assert await importer(line(1, target="/") + full, "access.log") == 1


def test_a_log_of_millions_of_lines_needs_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes are those of the one table that grows."""
    monkeypatch.setattr(reader_module, "MOST_EQUAL", 500)
    rows = [
        {
            "registry_path": f"{DIGEST}/even:default",
            "genome_digest": DIGEST,
            "aliases": [],
            "asset_group": "even",
            "asset": "default",
            "default": True,
            "editions": {"md5": 204_800},
        }
    ]
    lines = (line(204_800, second=number // 7 % 3600, agent=str(number)) for number in range(10_000))
    requests = numbered(Reader(Targets(rows)).requests(lines), lambda first, following: {})  # noqa: ARG005
    tracemalloc.start()
    try:
        assert sum(1 for _ in requests) == 10_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000
    reader = Reader(Targets(rows))
    with BytesIO(b"x" * 1_000_000 + b"\n" + line(204_800)) as log:
        assert len(list(reader.requests(lines_of(log)))) == 1


LOG = {"start": "x" * 8, "first_line": "x" * 8, "repeated": 1, "lines": []}


async def test_who_may_report_may_import(importer: Importer) -> None:
    desk = Desk(context_of(importer.parts), BOB)
    for verb, params in (("download.log", LOG), ("download.requests", {"requests": []})):
        assert (await desk.refused(verb, **params))["data"]["kind"] == "permission_denied"
