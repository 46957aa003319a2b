"""`asset.list` and `asset.get`. Real parts over a synthetic genome folder."""

import json

import msgspec
import pytest
from controlled import Desk
from parts import Parts
from synthetic import ALIAS, DIGEST, Genomes

from refgenied.control.protocol import MAX_REPLY

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


async def test_asset_list_filters_and_pages(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    for group in "abcde":
        genomes.build(group)
    genomes.start(genomes.build("f"))
    await parts.settle()
    everything = (await desk.ask("asset.list"))["assets"]
    assert [row["asset_group"] for row in everything] == list("abcdef")
    row = everything[0]
    assert (row["registry_path"], row["aliases"], row["state"]) == (f"{DIGEST}/a:default", [ALIAS], "complete")
    assert (row["archive"], row["job"], row["wanted"]) == ("archived", None, True)
    building = (await desk.ask("asset.list", state="building"))["assets"]
    assert [(row["asset_group"], bool(row["why_not"])) for row in building] == [("f", True)]
    assert len((await desk.ask("asset.list", pattern="t7/[ab]"))["assets"]) == 2
    assert len((await desk.ask("asset.list", pattern=ALIAS))["assets"]) == 6
    assert (await desk.ask("asset.list", pattern="other/*"))["assets"] == []
    first = await desk.ask("asset.list", limit=4)
    rest = await desk.ask("asset.list", limit=4, after=first["next"])
    assert [row["asset_group"] for row in first["assets"] + rest["assets"]] == list("abcdef")
    assert rest["next"] is None
    assert (await desk.refused("asset.list", pattern="a/b/c"))["data"]["kind"] == "bad_registry_path"


async def test_asset_get_resolves_alias_and_default(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    found = await desk.ask("asset.get", path="t7/fasta")
    assert found["asset"]["registry_path"] == NAME
    assert found["archive"]["registry_path"] == NAME
    assert found["newest_job"]["outcome"] == "published"
    error = await desk.refused("asset.get", path="t7/fastq")
    assert error["code"] == 1001, error
    assert "fasta" in error["data"]["hint"]


async def test_replies_stay_below_the_limit_whatever_the_names(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.reconciler.look_again()
    look = parts.reconciler.look
    long = msgspec.structs.replace(look.assets[key], reason="r" * 5000)
    many = {
        msgspec.structs.replace(key, asset_group=f"g{n}"): msgspec.structs.replace(
            long, key=msgspec.structs.replace(key, asset_group=f"g{n}")
        )
        for n in range(600)
    }
    parts.reconciler.last.look = msgspec.structs.replace(look, assets=many)
    after, seen = "", 0
    while after is not None:
        [line] = await desk.lines("asset.list", after=after)
        assert len(json.dumps(line)) < MAX_REPLY
        seen += len(line["result"]["assets"])
        after = line["result"]["next"]
    assert seen == 600
