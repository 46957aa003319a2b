"""A hint makes it quick, a sweep makes it sure."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from lab import Lab
from proof import prove
from refgenie_cli import Refgenie, recipe_of

pytestmark = pytest.mark.needs("refgenie")


def completed_at(refgenie: Refgenie, path: str) -> float:
    flag = refgenie.folder(path) / "_refgenie_build/refgenie_DEFAULT_SAMPLE_NAME_completed.flag"
    return flag.stat().st_mtime


def test_a_small_asset_is_published_soon_after_its_completion(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    lab.configure(watch={"settle_seconds": 1.0, "sweep_seconds": 600.0})  # the defaults: only a hint can be so quick
    lab.start()
    with lab.following() as events:
        events.until("archive.published", "fasta")
        refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts"))
        published = events.until("archive.published", "parts")
    seconds = published["at"] - completed_at(refgenie, "demo/parts")
    sys.stdout.write(f"published {seconds:.2f} s after the completed flag (wanted: 2 s on an idle machine)\n")
    assert seconds < 300, "it came with no hint"
    prove(lab.archive("demo/parts"), lab.archives, refgenie.folder("demo/parts"))


def test_with_the_watch_off_it_comes_with_a_sweep(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    lab.configure(watch={"enabled": False, "sweep_seconds": 0.5})
    lab.start()
    assert lab.rows("status")[0]["watching"] == []
    with lab.following() as events:
        events.until("archive.published", "fasta")
        refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts"))
        events.until("archive.published", "parts")
    prove(lab.archive("demo/parts"), lab.archives, refgenie.folder("demo/parts"))


def test_what_was_there_before_the_first_start_is_archived_too(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    refgenie.rounds("demo/old", 1, recipe=recipe_of(tmp_path, "old"))
    lab.start()
    for path in ("demo/fasta", "demo/old"):
        prove(lab.archived(path), lab.archives, refgenie.folder(path))


def test_unless_that_is_turned_off(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    lab.configure(archive={"existing": False})
    lab.start()
    assert lab.wait("demo/fasta").code == 1
    refgenie.rounds("demo/new", 1, recipe=recipe_of(tmp_path, "new"))
    lab.archived("demo/new")
    assert [row["asset_group"] for row in lab.rows("archive", "list")] == ["new"]


def test_a_genome_folder_that_vanishes_is_missing_not_empty(lab: Lab, refgenie: Refgenie) -> None:
    lab.configure(watch={"sweep_seconds": 0.5})
    lab.start()
    before = lab.archived("demo/fasta")
    away = lab.genomes.with_name("unmounted")
    os.rename(lab.genomes, away)
    assert lab.ctl("scan").code == 0
    status = lab.rows("status")[0]
    assert not status["genome_folder"]["ok"]
    assert any(condition["name"] == "genome_folder" for condition in status["health"]), status["health"]
    assert lab.archive("demo/fasta") == before
    os.rename(away, lab.genomes)
    assert lab.ctl("scan").code == 0
    status = lab.rows("status")[0]
    assert status["genome_folder"]["ok"]
    assert status["health"] == []
    assert lab.asset("demo/fasta")["archive"] == "archived"


def test_excluded_assets_are_left_alone(lab: Lab, refgenie: Refgenie, tmp_path: Path) -> None:
    lab.configure(archive={"exclude": ["demo/draft*"]})
    lab.start()
    refgenie.rounds("demo/draft", 1, recipe=recipe_of(tmp_path, "draft"))
    said = lab.wait("demo/draft")
    assert said.code == 1
    assert "exclude" in said.err
    lab.archived("demo/fasta")
    assert lab.ctl("archive", "create", "demo/draft").code == 0
    prove(lab.archive("demo/draft"), lab.archives, refgenie.folder("demo/draft"))
