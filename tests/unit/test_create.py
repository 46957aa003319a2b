"""`archive.create`. Real parts over a synthetic genome folder."""

import pytest
from controlled import Desk
from parts import Parts
from synthetic import DIGEST, Genomes

from refgenied.control import views
from refgenied.model import Priority

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


async def test_create_asks_once_and_says_what_is_archived_already(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    parts.change_settings(automatic=False)
    genomes.build()
    first = await desk.ask("archive.create", path="t7/fasta")
    again = await desk.ask("archive.create", path=NAME)
    assert (first["created"], first["state"], first["registry_path"]) == (True, "queued", NAME)
    assert (again["created"], again["job"]) == (False, first["job"])
    job = await parts.latest(views.key_after(NAME))
    assert (job.priority, job.requested_by) == (Priority.ASKED, "ann")
    await parts.work()
    done = await desk.ask("archive.create", path="t7/fasta")
    assert (done["job"], done["state"], done["created"]) == (None, "archived", False)
    forced = await desk.ask("archive.create", path="t7/fasta", force=True)
    assert (forced["created"], forced["state"]) == (True, "queued")


async def test_create_of_several_gives_each_its_answer(desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    genomes.start(genomes.build("slow"))
    found = (await desk.ask("archive.create", paths=["t7/fasta", "t7/slow", "no/such", "nonsense"]))["results"]
    assert [row["state"] for row in found] == ["queued", "refused", "refused", "refused"]
    kinds = [row["error"]["data"]["kind"] for row in found[1:]]
    assert kinds == ["asset_incomplete", "asset_not_found", "bad_registry_path"]
    assert "cannot be archived: being built" in found[1]["error"]["message"]
    assert "either `path` or `paths`" in (await desk.refused("archive.create"))["message"]


async def test_create_without_an_archive_folder_says_how_to_set_it(desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    desk.context.archive_folder.path = ""
    error = await desk.refused("archive.create", path="t7/fasta")
    assert (error["code"], error["data"]["kind"]) == (1004, "archive_folder_not_set")
    assert "genome_archive_folder" in error["data"]["hint"]
