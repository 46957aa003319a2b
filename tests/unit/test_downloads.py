"""Downloads: recorded once, by whom it is allowed, kept, and read from the logs of other servers."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from controlled import ANN, BOB, Desk, context_of
from parts import Parts
from synthetic import ALIAS, DIGEST
from transactions import transaction

from refgenied.client import Client, ClientError
from refgenied.client.commands.downloads import import_log
from refgenied.client.session import Session
from refgenied.client.weblogs.reader import Reader, batches
from refgenied.client.weblogs.targets import Targets
from refgenied.control import peer as peer_module
from refgenied.control.peer import identify
from refgenied.control.protocol import MAX_REQUEST
from refgenied.model import AssetKey
from refgenied.store import Store
from refgenied.store.schema import APPLICATION_ID, MIGRATIONS

pytestmark = pytest.mark.anyio

KEY = AssetKey(DIGEST, "fasta", "default")
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def parts(archived: Parts) -> Parts:
    return archived


def report(number: int, asset: str = "default") -> dict[str, Any]:
    return {
        "id": f"download{number}",
        "genome_digest": DIGEST,
        "asset_group": "fasta",
        "asset": asset,
        "at": 1.0,
        "digest": "d" * 32,
    }


async def count(parts: Parts) -> int:
    record = await parts.record(KEY)
    assert record
    return record.download_count


async def test_each_download_is_counted_once(parts: Parts) -> None:
    desk = Desk(context_of(parts))
    first = await desk.ask("download.record", downloads=[report(1), report(2), report(1)])
    assert first == {"recorded": 2, "known": 1, "unknown": 0}
    assert await desk.ask("download.record", downloads=[report(2), report(3), report(9, "none")]) == {
        "recorded": 1,
        "known": 1,
        "unknown": 1,
    }
    assert await count(parts) == 3
    row = (await desk.ask("archive.list"))["archives"][0]
    assert row["download_count"] == 3
    assert (await desk.ask("archive.get", path=f"{ALIAS}/fasta"))["archive"]["download_count"] == 3
    assert [event.data["total"] for event in await parts.events("download")] == [2, 3]


async def test_the_count_outlives_archives(parts: Parts) -> None:
    desk = Desk(context_of(parts))
    await desk.ask("download.record", downloads=[report(1), report(2)])
    await desk.ask("archive.create", path=f"{ALIAS}/fasta", force=True)
    await parts.work()
    assert await count(parts) == 2
    await desk.ask("archive.remove", path=f"{ALIAS}/fasta")
    await desk.ask("download.record", downloads=[report(3)])
    await desk.ask("archive.create", path=f"{ALIAS}/fasta")
    await parts.work()
    assert await count(parts) == 3


async def test_who_may_report(parts: Parts) -> None:
    context = context_of(parts)
    refused = await Desk(context, BOB).refused("download.record", downloads=[report(1)])
    assert refused["data"]["kind"] == "permission_denied"
    assert 'control.download_users = ["bob"]' in refused["data"]["hint"]
    carl = peer_module.Peer(uid=1003, pid=44, name="carl", may_write=False, group="refgenie", may_record=True)
    assert (await Desk(context, carl).ask("download.record", downloads=[report(1)]))["recorded"] == 1
    assert (await Desk(context, carl).refused("server.scan"))["data"]["kind"] == "permission_denied"
    assert (await Desk(context, ANN).ask("download.record", downloads=[report(1)]))["known"] == 1


async def test_a_download_user_gives_no_orders_even_as_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(peer_module, "credentials", lambda _: (1, 4242, os.getgid()))
        monkeypatch.setattr(peer_module, "user_name", lambda _: "web")
        monkeypatch.setattr(peer_module, "group_id", lambda _: os.getgid())
        member = identify(theirs, "refgenie")
        reporter = identify(theirs, "refgenie", ("web",))
    assert (member.may_write, member.may_record) == (True, False)
    assert (reporter.may_write, reporter.may_record) == (False, True)


async def test_a_database_of_the_first_version_is_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "refgenied.sqlite3"
    database = sqlite3.connect(path)
    for statement in MIGRATIONS[0]:
        database.execute(statement)
    database.execute(
        "INSERT INTO archive VALUES ('d','fasta','default','[]','p',17,'md5','a','c',1,2,'s','f',1.0,NULL,5,'ann')"
    )
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    async with Store.opened(tmp_path) as store, transaction(store) as tx:
        assert await tx.all("SELECT digest, size FROM edition") == [("md5", 17)]
        assert await tx.all("SELECT download_count FROM archive") == [(5,)]


# --------------------------------------------------------------------------- logs of other servers


def line(target: str, sent: object, status: int = 200, at: int = 0) -> str:
    return f'::1 - - [22/Nov/2026:10:00:{at:02} +0000] "GET {target} HTTP/1.1" {status} {sent} "-" "curl/8"\n'


API = f"/v3/assets/archive/{DIGEST}/fasta?tag=default"
FILE = f"/archives/{DIGEST}/fasta__default.tgz"
NESTED = f"/archives/{DIGEST}/fasta/default/fasta__default.tgz"
ROWS = [
    {
        "registry_path": f"{DIGEST}/fasta:default",
        "genome_digest": DIGEST,
        "aliases": ["hg38"],
        "asset_group": "fasta",
        "asset": "default",
        "default": True,
        "editions": {"new": 1000, "old": 700},
    }
]


def found(*lines: str) -> list[str]:
    """Digests of the archives that were sent whole, to one client after the other."""
    requests = Reader(Targets(ROWS)).requests(text.encode() for text in lines)
    return [row["digest"] for _, row in requests if row["first"] == 0 and row["least"] == row["size"]]


def test_assets_whose_names_read_alike_when_they_are_joined_are_told_apart() -> None:
    other = "e2" * 24

    def row(genome: str, group: str, asset: str, *aliases: str) -> dict[str, Any]:
        names = {"genome_digest": genome, "asset_group": group, "asset": asset, "aliases": list(aliases)}
        return ROWS[0] | names | {"editions": {f"{group}:{asset}": 1000}}

    targets = Targets(
        [row(DIGEST, "a", "b__c", "hg38", other), row(DIGEST, "a__b", "c", "hg38"), row(other, "a", "b__c")]
    )

    def meant(path: str) -> tuple[str, str, str]:
        target = targets.of(path)
        assert target is not None
        return target.row["genome_digest"], target.row["asset_group"], target.row["asset"]

    for group, asset in (("a", "b__c"), ("a__b", "c")):
        assert meant(f"/v3/assets/archive/hg38/{group}?tag={asset}") == (DIGEST, group, asset)
        assert meant(f"/archives/{DIGEST}/{group}/{asset}/{group}__{asset}.tgz") == (DIGEST, group, asset)
    assert meant(f"/{DIGEST}/a__b__c.tgz") == (DIGEST, "a", "b__c"), "the one that is served"
    assert meant(f"/{other}/a__b__c.tgz") == (other, "a", "b__c"), "a digest, though another genome's alias reads alike"


@pytest.mark.parametrize(
    "target",
    [API, API.removeprefix("/v3"), f"/v3/assets/archive/{DIGEST}/fasta", "/v2/asset/hg38/fasta/archive", FILE, NESTED],
)
def test_every_way_to_an_archive_is_known(target: str) -> None:
    assert found(line(target, 1000)) == ["new"]
    assert found(line(target, 700)) == ["old"], "it was replaced since"
    assert found(line(target, 999)) == []


@pytest.mark.parametrize(
    "other",
    [
        line(API, 1000, status=404),
        line(API, "-"),
        line("/v3/assets/attrs/x/fasta", 1000),
        line(f"/v3/assets/archive/{'e' * 48}/fasta", 1000),
        line(FILE, 1000).replace("GET", "HEAD"),
        line(f"//[{API}", 1000),  # no address at all: urlsplit raises
        "something else\n",
        "",
    ],
)
def test_other_lines_are_no_downloads(other: str) -> None:
    assert found(other) == []


def test_requests_stay_below_the_longest_line() -> None:
    rows = [{"asset": "é" * 200, "id": number} for number in range(1000)]
    made = list(batches(rows))
    assert [row for batch in made for row in batch] == rows
    assert max(len(json.dumps(batch)) for batch in made) < MAX_REQUEST - 1000


class Recorded(Client):
    """A daemon that knows the archives of ROWS, and is asked for nothing else."""

    def __init__(self) -> None:
        pass

    def begin(self, method: str, params: dict[str, Any]) -> int:
        assert (method, params) == ("download.editions", {})
        return 1

    def finish(self, number: int, on_notice: object = None) -> Any:
        assert (number, on_notice) == (1, None)
        return {"assets": ROWS, "next": None}


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(os.urandom(1000).hex().encode()))
    packed[10] ^= 0xFF  # a garbled block is zlib's error, and no OSError
    log = tmp_path / "access.log.gz"
    log.write_bytes(packed)
    with pytest.raises(ClientError, match=re.escape(str(log))):
        import_log(Session(client=Recorded()), log=str(log))


def test_a_folder_in_place_of_a_log_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=f"^{tmp_path} cannot be read: Is a directory$"):
        import_log(Session(client=Recorded()), log=str(tmp_path))
