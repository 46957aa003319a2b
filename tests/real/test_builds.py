"""Each way in which refgenie can leave an asset is read as what it is, and no half-built asset is ever published."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Daemon, Lab
from proof import files_in, md5_of, prove
from refgenie_cli import Refgenie, recipe_of

pytestmark = pytest.mark.needs("refgenie")


def test_a_failed_build_is_never_archived(lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path) -> None:
    refgenie.rounds("demo/broken", 1, recipe=recipe_of(tmp_path, "broken", fails=True), check=False)
    row = lab.asset("demo/broken")
    assert (row["state"], row["archive"], row["job"]) == ("failed", "none", None)
    said = lab.wait("demo/broken")
    assert said.code == 1
    assert "failed" in said.err
    assert lab.ctl("archive", "create", "demo/broken").code == 1
    assert [row["asset_group"] for row in lab.rows("archive", "list")] in ([], ["fasta"])
    assert not list(lab.archives.rglob("broken__*"))


def test_a_failed_rebuild_leaves_the_archive_of_the_last_good_one(
    lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path
) -> None:
    refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts"))
    first = lab.archived("demo/parts")
    good = prove(first, lab.archives, refgenie.folder("demo/parts"))
    refgenie.rounds("demo/parts", 2, "-N", recipe=recipe_of(tmp_path, "parts", fails=True), check=False)
    assert refgenie.registered("demo/parts"), "only failed.flag tells of it"
    row = lab.asset("demo/parts")
    assert (row["state"], row["job"]) == ("failed", None)
    assert lab.wait("demo/parts").code == 1
    assert prove(lab.archive("demo/parts"), lab.archives) == good
    assert lab.archive("demo/parts")["digest"] == first["digest"]

    # the failed one left its lock: without -R the next one waits for it, for ever
    refgenie.rounds("demo/parts", 3, "-N", "-R", recipe=recipe_of(tmp_path, "parts"))
    assert prove(lab.archived("demo/parts"), lab.archives, refgenie.folder("demo/parts")) != good


def test_a_killed_build_is_building_then_interrupted_and_never_archived(
    lab: Lab, refgenie: Refgenie, tmp_path: Path
) -> None:
    lab.configure(watch={"interrupted_seconds": 2.0, "sweep_seconds": 0.5})
    lab.start()
    recipe = recipe_of(tmp_path, "slow", seconds=4)
    building = refgenie.start("build", "demo/slow", "--params", "round=1", "--recipe", str(recipe))
    flag = refgenie.folder("demo/slow") / "_refgenie_build/refgenie_DEFAULT_SAMPLE_NAME_running.flag"
    part = refgenie.folder("demo/slow") / "part0.bin"
    while not (flag.exists() and part.exists()):
        assert building.poll() is None
    assert lab.asset("demo/slow")["state"] == "building"
    building.kill()  # its command is in another process group: that goes on writing for a while
    building.communicate()
    while (row := lab.asset("demo/slow"))["state"] == "building":
        pass
    assert (row["state"], row["archive"], row["job"]) == ("interrupted", "none", None)
    said = lab.wait("demo/slow")
    assert said.code == 1
    assert "its build was stopped" in said.err

    recipe = recipe_of(tmp_path, "slow")
    refgenie.rounds("demo/slow", 2, "-R", recipe=recipe)
    prove(lab.archived("demo/slow"), lab.archives, refgenie.folder("demo/slow"))


def test_a_rebuild_while_the_daemon_packs_is_never_mixed(
    lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path, "big", files=6, size=8_000_000)
    assert lab.ctl("queue", "pause").code == 0
    refgenie.rounds("demo/big", 1, recipe=recipe)
    first = files_in(refgenie.folder("demo/big"))
    with lab.following() as events:
        events.until("job.queued", "big")
        rebuilding = refgenie.start("build", "demo/big", "-N", "--params", "round=2", "--recipe", str(recipe))
        while files_in(refgenie.folder("demo/big")) == first:
            assert rebuilding.poll() is None, "the rebuild ended before a file of it was seen"
        assert lab.ctl("queue", "resume").code == 0  # the job is claimed with the build in full swing
        rebuilding.communicate()
        assert rebuilding.returncode == 0
        second = files_in(refgenie.folder("demo/big"))
        assert prove(lab.archived("demo/big"), lab.archives) == second
        # and the other way round: the build begins when the packing has begun
        third = refgenie.start("build", "demo/big", "-N", "--params", "round=3", "--recipe", str(recipe))
        events.until("archive.published", "big")
        third.communicate()
        fourth = refgenie.start("build", "demo/big", "-N", "--params", "round=4", "--recipe", str(recipe))
        events.until("job.running", "big")
        fourth.communicate()
    assert fourth.returncode == 0
    assert prove(lab.archived("demo/big"), lab.archives) == files_in(refgenie.folder("demo/big"))
    assert lab.partials() == []


def test_a_rebuild_with_the_same_content_publishes_nothing(
    lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path, "parts")
    refgenie.rounds("demo/parts", 1, recipe=recipe)
    before = lab.archived("demo/parts")
    inode = Path(before["path"]).stat().st_ino
    for how in ("-N", "-R"):
        refgenie.rounds("demo/parts", 1, how, recipe=recipe)
        after = lab.archived("demo/parts")
        assert (after["digest"], after["created_at"]) == (before["digest"], before["created_at"]), how
        assert Path(after["path"]).stat().st_ino == inode, how
    kinds = [event["kind"] for event in lab.events() if "/parts:" in (event["registry_path"] or "")]
    assert kinds.count("archive.published") == 1
    assert "archive.unchanged" in kinds


def test_a_tag_is_a_new_asset_and_the_old_archive_stays(
    lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path
) -> None:
    refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts"))
    old = lab.archived("demo/parts:default")
    files = prove(old, lab.archives)
    refgenie("tag", "demo/parts:default", "--tag", "v1", "--force")
    new = lab.archived("demo/parts:v1")
    assert prove(new, lab.archives, refgenie.folder("demo/parts:v1")) == files
    assert lab.asset("demo/parts:v1")["state"] == "complete"
    gone = lab.asset("demo/parts:default")
    assert (gone["state"], gone["archive"]) == ("missing", "archived")
    assert prove(lab.archive("demo/parts:default"), lab.archives) == files
    assert new["content_digest"] == old["content_digest"] or new["asset_digest"] == old["asset_digest"]


def test_after_refgenie_remove_the_archive_stays(lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path) -> None:
    refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts"))
    before = lab.archived("demo/parts")
    files = prove(before, lab.archives)
    refgenie("remove", "demo/parts:default", "--force")
    assert not refgenie.folder("demo/parts").exists()
    assert lab.asset("demo/parts")["state"] == "missing"
    assert prove(lab.archive("demo/parts"), lab.archives) == files
    assert lab.archive("demo/parts")["digest"] == before["digest"]


def test_an_added_asset_is_archived_when_asked(lab: Lab, daemon: Daemon, refgenie: Refgenie) -> None:
    folder = lab.genomes / "by_hand" / "panel"
    folder.mkdir(parents=True)
    (folder / "targets.bed").write_text("chr1\t0\t100\n", encoding="ascii")
    refgenie("add", "demo/panel:v1", "--path", "by_hand/panel", "--seek-keys", '{"panel": "targets.bed"}')
    row = lab.asset("demo/panel:v1")
    assert (row["state"], row["archive"], row["wanted"]) == ("added", "none", False)
    said = lab.wait("demo/panel:v1")
    assert said.code == 1
    assert "added" in said.err
    assert lab.ctl("archive", "create", "demo/panel:v1").code == 0
    files = prove(lab.archive("demo/panel:v1"), lab.archives)
    assert files == {"targets.bed": md5_of(folder / "targets.bed")}


def test_two_builds_at_once_leave_one_unregistered(
    lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path
) -> None:
    slow, quick = recipe_of(tmp_path, "left", seconds=2), recipe_of(tmp_path, "right", seconds=1)
    first = refgenie.start("build", "demo/left", "--params", "round=1", "--recipe", str(slow))
    part = refgenie.folder("demo/left") / "part0.bin"
    while not part.exists():  # by now the first has read the config, which the second is going to write
        assert first.poll() is None
    second = refgenie.start("build", "demo/right", "--params", "round=2", "--recipe", str(quick))
    for process in (first, second):
        out, _ = process.communicate()
        assert process.returncode == 0, out
    for path in ("demo/left", "demo/right"):
        row = lab.asset(path)
        if refgenie.registered(path):
            assert row["state"] == "complete"
            lab.archived(path)
        else:
            assert (row["state"], row["wanted"]) == ("unregistered", False)
            if row["archive"] == "none":  # else it was archived before the other one erased its entry
                assert lab.wait(path).code == 1
                assert lab.ctl("archive", "create", path).code == 0
        prove(lab.archive(path), lab.archives, refgenie.folder(path))
    states = {lab.asset(path)["state"] for path in ("demo/left", "demo/right")}
    assert "unregistered" in states, "refgenie no longer loses an entry: REFGENIE.md is out of date"


def test_one_bad_asset_never_stops_the_others(lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path) -> None:
    refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts"))
    lab.archived("demo/parts")
    outside = tmp_path / "secret"
    outside.write_text("not for archives", encoding="ascii")
    (refgenie.folder("demo/parts") / "planted").symlink_to(outside)
    lab.ctl("scan")
    assert lab.wait("demo/parts").code == 5
    refgenie.rounds("demo/other", 2, recipe=recipe_of(tmp_path, "other"))
    prove(lab.archived("demo/other"), lab.archives, refgenie.folder("demo/other"))
    failed = [event for event in lab.events("job.failed") if "/parts:" in event["registry_path"]]
    assert len(failed) == 1, failed
    assert "planted" in failed[0]["data"]["error"]
    (refgenie.folder("demo/parts") / "planted").unlink()
    lab.archived("demo/parts")


def test_a_torn_config_stops_nothing_for_good(lab: Lab, daemon: Daemon, refgenie: Refgenie, tmp_path: Path) -> None:
    before = lab.archived("demo/fasta")
    whole = refgenie.config.read_bytes()
    for torn in (whole[: len(whole) // 2], b"", b"genomes: {", b"\xff\xfe", b"config_version: 0.4\ngenomes: {}\n"):
        refgenie.config.write_bytes(torn)
        assert lab.ctl("scan").code == 0
        assert lab.archive("demo/fasta")["digest"] == before["digest"], torn
    refgenie.config.write_bytes(whole)
    assert lab.archived("demo/fasta")["created_at"] == before["created_at"]
    refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts"))
    prove(lab.archived("demo/parts"), lab.archives, refgenie.folder("demo/parts"))
    assert [event["registry_path"].split("/")[1] for event in lab.events("archive.published")] == [
        "fasta:default",
        "parts:default",
    ]
