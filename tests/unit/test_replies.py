"""Replies keep the protocol's limit whatever is in the genome folder, the manifests, the database and the settings."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from controlled import Desk, context_of
from parts import Parts, running
from synthetic import DIGEST, Genomes
from transactions import changing

from refgenied.archive.format.manifest import read_manifest
from refgenied.archive.place import Place
from refgenied.archive.publisher import replace_manifest
from refgenied.control import protocol
from refgenied.control.protocol import MAX_REPLY
from refgenied.control.verbs.table import VERBS
from refgenied.control.views import MOST_ALIASES
from refgenied.model import AssetKey, Priority, Problem, Removal, Requester
from refgenied.store import archives

pytestmark = pytest.mark.anyio

KEY = AssetKey(DIGEST, "fasta", "default")
P = "t7/fasta"
ALIASES = ("t7", *(f"an-alias-of-this-genome-{number}" for number in range(300_000)))
SEEK_KEYS = {f"seek_key_{number}": f"folder/file-{number}" for number in range(100_000)}
LONG = "\x1b" * 200_000
"""Each character is six in JSON."""
MANY = tuple(f"{DIGEST}/relative-{number}:default" for number in range(20_000))


class Measured(Desk):
    """Every line is held against the limit, and read as a client reads it."""

    longest = 0

    async def lines(self, method: str, **params: object) -> list[dict[str, Any]]:
        sent = await super().lines(method, **params)
        for line in sent:
            size = len(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))
            self.longest = max(self.longest, size)
            assert size < MAX_REPLY, f"{method}: a line of {size} bytes"
            assert line.get("error", {}).get("data", {}).get("kind") != "internal_error", (method, line)
        return sent


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Measured]:
    """Everything is as large as it can be, also what the layers below do not let through any more."""
    genomes = Genomes(tmp_path / "genomes")
    genomes.build(a=b"1" * 10)
    async with running(genomes) as parts:
        await parts.settle()
        look = parts.reconciler.look
        asset = msgspec.structs.replace(
            look.assets[KEY],
            aliases=ALIASES, description=LONG, reason=LONG, seek_keys=SEEK_KEYS, parents=MANY, children=MANY,
        )  # fmt: skip
        genome = msgspec.structs.replace(look.genomes[DIGEST], aliases=ALIASES)
        others = {AssetKey(DIGEST, f"group{n}", "default"): None for n in range(7)}
        huge = msgspec.structs.replace(
            look,
            assets={KEY: asset} | {key: msgspec.structs.replace(asset, key=key) for key in others},
            genomes={DIGEST: genome},
            problems=tuple(Problem(f"/{LONG[:5000]}", LONG[:100_000]) for _ in range(1000)),
            servers=tuple(f"http://{n}.example.org" for n in range(100_000)),
            config_version=LONG,
        )
        monkeypatch.setattr(parts.folder, "look", lambda _now: huge)
        await enlarge_the_database(parts)
        settings = parts.current.settings
        control = msgspec.structs.replace(settings.control, download_users=tuple(f"user{n}" for n in range(100_000)))
        parts.current.settings = msgspec.structs.replace(settings, control=control)
        parts.health.set("space", LONG)
        await parts.reconciler.look_again()
        yield Measured(context_of(parts))


async def enlarge_the_database(parts: Parts) -> None:
    place = Place(parts.archive_folder.path, KEY)
    large = {"seek_keys": SEEK_KEYS, "description": LONG, "parents": MANY, "children": MANY}
    manifest = msgspec.structs.replace(read_manifest(place.manifest), **large)
    replace_manifest(place, manifest)
    record = await parts.record(KEY)
    assert record
    await parts.pause.pause(Requester("ann"))
    for group in range(5):
        await parts.jobs.enqueue(AssetKey(DIGEST, f"group{group}", "default"), stamp="x", priority=Priority.BUILT)
    async with changing(parts.jobs) as change:
        await archives.put(change.tx, msgspec.structs.replace(record, aliases=ALIASES[:50_000]))
        await archives.mark_damaged(change.tx, record, LONG)
        await archives.put_removal(change.tx, Removal(AssetKey(DIGEST, "gone", "x"), "s", 1.0, "ann"))
        for number in range(2000):
            edition = msgspec.structs.replace(record, digest=f"{number:032}", created_at=float(number))
            await archives._put_edition(change.tx, edition)
        await change.tx.execute("UPDATE job SET error = ?", (LONG,))
        for _ in range(5):
            await change.log("job.failed", KEY, 1, error=LONG)


GIVEN: dict[str, list[dict[str, object]]] = {
    "archive.cat": [],
    "archive.create": [{"path": P}, {"path": "t7/none"}, {"paths": [f"{P}{n}" for n in range(1000)], "force": True}],
    "archive.files": [{"path": P}],
    "archive.get": [{"path": P}, {"path": "t7/none"}, {"path": "nobody/none"}],
    "archive.import": [{}, {"path": P}, {"path": "t7/none"}],
    "archive.list": [{}, {"pattern": "t7"}],
    "archive.protect": [{"all": True}],
    "archive.read": [{"path": P, "file": "a"}],
    "archive.remove": [],  # last: it takes away what the others show
    "archive.seek_keys": [{"path": P}],
    "archive.verify": [{"paths": [P], "progress": True}],
    "archive.wait": [{"path": P, "timeout": 0.0}, {"path": "t7/none"}],
    "asset.get": [{"path": P}, {"path": "t7/none"}, {"path": "an-alias-of-this-genome-299999/fasta"}],
    "asset.list": [{}, {"pattern": "t7"}],
    "asset.seek_keys": [{"path": P}],
    "config.get": [{}],
    "download.editions": [{}],
    "download.log": [{}],
    "download.record": [{"downloads": []}],
    "download.requests": [{"requests": []}],
    "event.watch": [{"since": 0, "follow": False}],
    "job.cancel": [{"job": 2}],
    "job.get": [{"job": 1}, {"job": 99_999}],
    "job.list": [{"ended": 100}],
    "job.retry": [{"job": 2}],
    "job.watch": [{"job": 1}],
    "queue.pause": [{}],
    "queue.resume": [],
    "rpc.describe": [{}],
    "server.info": [{}],
    "server.reload": [{}],
    "server.scan": [{}],
    "server.shutdown": [{}],
}


async def test_no_reply_of_any_verb_passes_the_limit(desk: Measured) -> None:
    assert set(VERBS) <= set(GIVEN), "a verb is not tried"
    for method, calls in GIVEN.items():
        for params in calls:
            await desk.lines(method, **params)
    await desk.lines("archive.remove", path=P)
    await desk.lines("archive.get", path=P, removed=True)
    assert desk.longest > 100_000, "the data were not as large as this test means"


async def test_rows_show_the_first_aliases_and_seek_keys_and_pages_the_rest(desk: Measured) -> None:
    [asset, *_] = (await desk.ask("asset.list"))["assets"]
    [archive] = (await desk.ask("archive.list"))["archives"]
    for row in (asset, archive):
        assert row["aliases"] == list(ALIASES[:MOST_ALIASES])
        assert row["aliases_total"] == len(ALIASES)
    last = await desk.ask("asset.get", path=f"{ALIASES[-1]}/fasta")
    assert last["asset"]["registry_path"] == KEY.registry_path, "every alias is understood all the same"
    for verb in ("asset", "archive"):
        await seek_keys_are_paged(desk, verb)
    await pages_give_every_row_once_however_large_it_is(desk)


async def seek_keys_are_paged(desk: Measured, verb: str) -> None:
    found = await desk.ask(f"{verb}.get", path=P)
    details = found if verb == "asset" else found["contents"]
    assert details["seek_keys_total"] == len(SEEK_KEYS)
    assert details["seek_keys"].items() <= SEEK_KEYS.items()
    assert len(details["seek_keys"]) > 1000
    first = await desk.ask(f"{verb}.seek_keys", path=P)
    second = await desk.ask(f"{verb}.seek_keys", path=P, skip=first["next"])
    assert (len(first["seek_keys"]), first["total"]) == (1000, len(SEEK_KEYS))
    assert list((first["seek_keys"] | second["seek_keys"]).items()) == list(SEEK_KEYS.items())[:2000]
    last = await desk.ask(f"{verb}.seek_keys", path=P, skip=len(SEEK_KEYS) - 1)
    assert (len(last["seek_keys"]), last["next"]) == (1, None)


async def pages_give_every_row_once_however_large_it_is(desk: Measured) -> None:
    rows: list[str] = []
    after = ""
    while after is not None:
        page = await desk.ask("asset.list", after=after)
        rows += [row["registry_path"] for row in page["assets"]]
        after = page["next"]
    assert len(rows) == len(set(rows)) == 8


def test_what_nobody_foresaw_is_cut_and_said() -> None:
    rows = [{"path": str(number), "why": "x" * 5000, "inner": list(range(1000))} for number in range(300)]
    reply = json.loads(protocol.reply(1, {"rows": rows, "next": "900"}))["result"]
    assert reply["shortened"] is True
    assert [row["path"] for row in reply["rows"]] == [str(number) for number in range(300)], "a page loses no row"
    assert all(row["why"].endswith("x…") for row in reply["rows"])
    encoded = [msgspec.Raw(protocol.encode(row | {"why": "\udcff" * 1000})) for row in rows]
    again = json.loads(protocol.reply(1, {"rows": encoded}))["result"]
    assert [row["path"] for row in again["rows"]] == [row["path"] for row in rows], "nor one that was encoded before"
    odd = json.loads(protocol.reply(1, {"rows": encoded[:1], "next": "\udcff"}))["result"]
    assert (odd["rows"][0]["path"], odd["next"]) == ("0", "\udcff")
    whole = json.loads(protocol.reply(1, {"rows": rows[:10]}))["result"]
    assert "shortened" not in whole
    line = protocol.notification("event", 1, {"data": {"error": "\udcff" * 3_000_000}})
    assert len(line) <= MAX_REPLY
    assert json.loads(line)["params"]["watch"] == 1
