"""Whatever a released version left behind goes on working: archive folder, database, queue, served config."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Lab
from proof import files_in
from released_sample import SAMPLES, Sample

SAME = (
    "registry_path",
    "aliases",
    "path",
    "digest",
    "size",
    "asset_digest",
    "content_digest",
    "files",
    "source_size",
    "created_at",
    "requested_by",
)
"""What no upgrade may change in a row of `archive list`; the downloads are in the database alone."""


@pytest.fixture(params=SAMPLES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def sample(request: pytest.FixtureRequest, lab: Lab) -> Sample:
    return Sample(lab, request.param)


def test_there_are_samples() -> None:
    assert "0.1.0.tar.xz" in [path.name for path in SAMPLES]


def same(rows: list[dict[str, Any]], *more: str) -> list[dict[str, Any]]:
    return [{name: row[name] for name in (*SAME, *more)} for row in rows]


def published_since(sample: Sample) -> set[str]:
    rows = sample.lab.rows("events", "--since", str(sample.expected["events"]))
    return {row["registry_path"] for row in rows if row["kind"] == "archive.published"}


def group(path: str) -> str:
    return path.partition("/")[2].partition(":")[0]


def test_an_upgrade_in_place_changes_nothing(sample: Sample) -> None:
    lab, files = sample.lab, sample.archive_files()
    assert {name: digest for name, (digest, _) in files.items()} == sample.expected["files"]
    sample.stay_in_place()
    lab.start()

    # the records, with their downloads
    assert same(lab.rows("archive", "list"), "download_count", "state") == same(sample.rows, "download_count", "state")
    # what refgenieserver reads, with what a person wrote into it
    assert lab.ctl("scan").code == 0
    served = yaml.safe_load((lab.archives / "genome_config.yaml").read_text())
    assert served == sample.served
    assert served.items() >= sample.expected["own"].items()
    # the queue: paused as before, nothing new in it but the asset whose refusal holds for the original's stamp alone
    queue = lab.rows("queue", "list", "--all")
    known = {row["job"]: row for row in sample.expected["jobs"]}
    for row in queue:
        if row["job"] in known:
            was = known.pop(row["job"])
            assert {name: row[name] for name in was} == was
        else:
            assert (group(row["registry_path"]), row["state"]) == ("broken", "queued")
    assert known == {}
    # every byte of every archive
    assert lab.ctl("archive", "verify", "--all").code == 0
    assert sample.archive_files() == files

    # and it goes on: what waited is archived, and nothing else
    assert lab.ctl("queue", "resume").code == 0
    lab.archived("demo/waiting")
    assert {group(path) for path in published_since(sample)} == {"waiting"}
    assert "demo/removed" not in lab.ctl("archive", "list").out
    after = sample.archive_files()
    assert {name: after[name] for name in files} == files


def test_archives_are_read_and_restored(sample: Sample) -> None:
    lab = sample.lab
    lab.configure(archive={"automatic": False})
    lab.start()
    for row in sample.rows:
        genome, name = row["aliases"][0], row["registry_path"].partition("/")[2]
        target = lab.root / "out" / row["asset_group"]
        assert lab.ctl("archive", "restore", f"{genome}/{name}", "--to", str(target)).code == 0
        folder = Path(lab.genomes if genome == "demo" else lab.root / "genomes1", "data", row["genome_digest"])
        folder = folder / row["asset_group"] / row["asset"]
        if folder.exists():  # else refgenie removed it, and the archive is all that is left
            assert files_in(target / row["asset"]) == files_in(folder)
            for path in files_in(folder):
                if not path[0].isdigit():  # of the many files one stands for all
                    text = lab.ctl("archive", "cat", f"{genome}/{name}", path).out
                    assert text == (folder / path).read_text()
        else:
            assert (target / row["asset"] / "part0.txt").exists()
        shutil.rmtree(target)
    left = next(lab.archives.rglob("removed/default/removed__default.tgz"))
    assert lab.ctl("archive", "restore", str(left), "--to", str(lab.root / "out")).code == 0
    # the long list of members, which has a file of its own, page by page
    (many,) = (row for row in sample.rows if row["asset_group"] == "many")
    params = json.dumps({"path": many["registry_path"], "skip": many["files"] - 10})
    page = json.loads(lab.ctl("call", "archive.files", params).out)
    assert page["total"] == many["files"] + 1
    assert all(entry["md5"] for entry in page["files"]), page


def test_on_another_machine_nothing_is_archived_again(sample: Sample) -> None:
    """Every stamp differs there: the assets are compared with their archives."""
    lab, files = sample.lab, sample.archive_files()
    lab.start()
    assert lab.ctl("queue", "resume").code == 0
    recorded = {row["registry_path"] for row in sample.rows}
    for row in lab.rows("asset", "list"):
        if row["registry_path"] in recorded and row["state"] == "complete":
            assert lab.wait(row["registry_path"]).code == 0
    rows = [row for row in lab.rows("archive", "list") if row["registry_path"] in recorded]
    assert same(rows, "download_count") == same(sample.rows, "download_count")
    assert published_since(sample).isdisjoint(recorded)
    after = sample.archive_files()
    for row in sample.rows:
        name = str(Path(row["path"]).relative_to(lab.archives))
        assert after[name] == files[name]


def test_a_lost_database_is_read_anew(sample: Sample) -> None:
    lab, files = sample.lab, sample.archive_files()
    sample.database.unlink()
    lab.configure(archive={"automatic": False})
    lab.start()
    kept = [name for name in SAME if name != "aliases"]  # the manifests' own; the genome folder may know newer ones
    rows = [{name: row[name] for name in kept} for row in lab.rows("archive", "list")]
    assert rows == [{name: row[name] for name in kept} for row in sample.rows]
    assert sample.archive_files() == files
    (event,) = lab.events("database.rebuilt")
    assert event["data"] == {"archives": len(sample.rows), "removals": 2, "was": "new"}
    assert yaml.safe_load((lab.archives / "genome_config.yaml").read_text()) == sample.served
