"""The database's file is deleted, replaced or damaged, under the running daemon and between two runs."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from lab import Lab, Row
from synthetic import DIGEST, Genomes

DOWNLOAD = {"genome_digest": DIGEST, "asset_group": "kept", "asset": "default", "digest": "", "at": 1.0}


@pytest.fixture
def database(lab: Lab) -> Path:
    """Of a running daemon with two archives, one of which was downloaded three times."""
    lab.genomes.rmdir()
    genomes = Genomes(lab.genomes)
    genomes.build("kept")
    genomes.build("removed")
    lab.start()
    for path in ("t7/kept", "t7/removed"):
        lab.archived(path)
    downloads = [DOWNLOAD | {"id": f"{number:032x}"} for number in range(3)]
    lab.rows("call", "download.record", json.dumps({"downloads": downloads}))
    return lab.state / "refgenied.sqlite3"


def rows(lab: Lab) -> list[tuple[str, str, int]]:
    return [(row["asset_group"], row["digest"], row["download_count"]) for row in lab.rows("archive", "list")]


def started_again(lab: Lab, why: str) -> Row:
    """The daemon ended by itself with 75; the status of the next one."""
    daemon = lab.daemons[-1]
    daemon.expected = 75
    assert daemon.ended() == 75
    assert why in daemon.said
    lab.start()
    return lab.rows("status")[0]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_one_that_is_deleted_is_noticed_and_nothing_is_lost(what, lab, database):
    before = rows(lab)
    if what == "folder":
        shutil.rmtree(lab.state)
    else:
        for path in lab.state.glob("refgenied.sqlite3*"):
            path.unlink()
    status = started_again(lab, "was deleted")
    assert rows(lab) == before
    assert status["health"] == []
    assert lab.events("database.rebuilt") == []


@pytest.mark.parametrize("how", ["replaced", "overwritten"])
def test_an_older_one_in_its_place_is_noticed_and_follows_the_manifests(how, lab, database):
    assert lab.daemons[-1].stop() == 0
    assert json.loads((lab.archives / ".refgenied.generation").read_text())["unsettled"] == []
    backup = shutil.copy(database, lab.root / "backup")
    lab.start()
    before = rows(lab)
    assert lab.ctl("archive", "remove", "t7/removed").code == 0
    Genomes(lab.genomes).build("kept", a=b"another content")
    kept = lab.archived("t7/kept")
    if how == "replaced":
        Path(backup).rename(database)
    else:
        database.write_bytes(Path(backup).read_bytes())
    status = started_again(lab, f"was {how}")
    assert rows(lab) == [("kept", kept["digest"], 3)] != before
    (condition,) = status["health"]
    assert "older than the archive folder (from a backup?): 1 archive and 1 removal" in condition["message"]
    assert "older than the archive folder" in lab.ctl("status").out
    (event,) = lab.events("database.rebuilt")
    assert event["data"]["was"] == "older"


def test_a_damaged_one_is_kept_and_made_anew(lab, database):
    before = rows(lab)
    assert lab.daemons[-1].stop() == 0
    with closing(sqlite3.connect(database)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'archive'").fetchall()
    data = bytearray(database.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    database.write_bytes(data)
    lab.start()
    assert rows(lab) == before, "the downloads were saved"
    (condition,) = lab.rows("status")[0]["health"]
    assert "was damaged" in condition["message"]
    assert len(list(lab.state.glob("*.damaged-*"))) == 1
    assert lab.daemons[-1].stop() == 0
    lab.start()
    assert lab.rows("status")[0]["health"] == []
    assert rows(lab) == before


@pytest.mark.parametrize(
    "change",
    [
        """UPDATE archive SET aliases = 'x' || substr(aliases, 2)""",
        """UPDATE archive SET aliases = '[5, {}]'""",
        """UPDATE archive SET access = 'ownes'""",
        """UPDATE archive SET requested_by = CAST(x'72ff6f74' AS TEXT)""",
        """UPDATE job SET outcome = 'x', crashed_at = '['""",
        """UPDATE event SET data = '}'""",
    ],
)
def test_a_changed_bit_in_a_value_keeps_nobody_from_starting_and_verify_mends_it(change, lab, database):
    before = lab.rows("archive", "list")
    lab.daemons[-1].stop()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(change)
        connection.commit()
    lab.start()
    for verbs in (["asset", "list"], ["queue", "list", "--all"], ["events"]):
        assert lab.ctl(*verbs).code == 0
    assert lab.ctl("archive", "verify", "--all").code == 0
    after = lab.rows("archive", "list")
    assert [row | {"proved_at": 0} for row in after] == [row | {"proved_at": 0} for row in before]
