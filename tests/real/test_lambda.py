"""The main job: refgenie builds lambda phage with samtools and bowtie2, and the archives appear unasked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from lab import Daemon, Lab
from proof import files_in, prove, refgenie_digest
from refgenie_cli import LAMBDA, Refgenie

pytestmark = pytest.mark.needs("refgenie", "samtools", "bowtie2-build", "lambda")

GENOME = "bcb56c8ff34e0bdb094db8bffd245b0a7758e40c8638479e"
"""refgenie's digest of lambda phage."""


def prove_both(lab: Lab, refgenie: Refgenie) -> None:
    """Each archive is under its name, holds what was built, and agrees with refgenie's digest and the manifest."""
    assert {row["asset_group"] for row in lab.rows("archive", "list")} == {"fasta", "bowtie2_index"}
    for group, names in {
        "fasta": {f"{GENOME}.fa", f"{GENOME}.fa.fai", f"{GENOME}.chrom.sizes"},
        "bowtie2_index": {f"{GENOME}.{part}.bt2" for part in ("1", "2", "3", "4", "rev.1", "rev.2")},
    }.items():
        path = f"lambda/{group}"
        row = lab.archived(path)
        folder = refgenie.folder(path)
        assert set(prove(row, lab.archives, folder)) == names
        assert row["genome_digest"] == GENOME
        assert row["aliases"] == ["lambda"]
        assert row["download_count"] == 0
        registered = refgenie.registered(path)
        assert registered
        assert row["asset_digest"] == registered["asset_digest"] == refgenie_digest(files_in(folder))
        manifest = json.loads(Path(row["path"]).with_suffix(".json").read_text(encoding="utf-8"))
        assert manifest["aliases"] == ["lambda"]
        assert manifest["seek_keys"] == registered["seek_keys"]
        assert manifest["recorded_asset_digest"] == registered["asset_digest"]
        tool = {"fasta": "samtools faidx", "bowtie2_index": "bowtie2-build"}[group]
        assert any(tool in command for command in manifest["build"]["commands"]), manifest["build"]
    assert lab.partials() == []


def test_both_archives_appear_unasked(lab: Lab, daemon: Daemon, fresh_refgenie: Refgenie) -> None:
    fresh_refgenie("build", "lambda/fasta", "--files", f"fasta={LAMBDA}")
    assert lab.wait("lambda/fasta").code == 0
    fresh_refgenie("build", "lambda/bowtie2_index")
    assert lab.wait("lambda/bowtie2_index").code == 0
    prove_both(lab, fresh_refgenie)

    shown = lab.ctl("archive", "show", "lambda/bowtie2_index")
    assert shown.code == 0
    assert "bowtie2-build" in shown.out
    assert f"{GENOME}.rev.1.bt2" in shown.out
    table = lab.ctl("archive", "list").out
    for word in ("Asset Archives", "Digest", "Asset name", "Path", "Size", f"{GENOME}/fasta:default"):
        assert word in table, table
    assert [event["kind"] for event in lab.events("archive.published")] == ["archive.published"] * 2
    assert daemon.stop() == 0


def test_the_same_after_a_kill_during_the_second(lab: Lab, fresh_refgenie: Refgenie) -> None:
    daemon = lab.start()
    fresh_refgenie("build", "lambda/fasta", "--files", f"fasta={LAMBDA}")
    with lab.following() as events:
        events.until("archive.published", "fasta")
        building = fresh_refgenie.start("build", "lambda/bowtie2_index")
        events.until("job.running", "bowtie2_index")
        daemon.kill()
        building.communicate()
    assert building.returncode == 0
    index = lab.archives / GENOME / "bowtie2_index/default/bowtie2_index__default.tgz"
    assert not index.exists(), "the kill came too late to show anything"

    lab.start()
    assert lab.wait("lambda/bowtie2_index").code == 0
    prove_both(lab, fresh_refgenie)
    charged = [event["data"] for event in lab.events("job.requeued")]
    assert len(charged) == 1, charged


@pytest.mark.needs("bsdtar", "busybox", "pigz", "igzip", "bgzip")
def test_the_usual_tools_read_it(lab: Lab, daemon: Daemon, fresh_refgenie: Refgenie, tmp_path: Path) -> None:
    fresh_refgenie("build", "lambda/fasta", "--files", f"fasta={LAMBDA}")
    path = lab.archived("lambda/fasta")["path"]
    folder = fresh_refgenie.folder("lambda/fasta")
    for number, command in enumerate(
        (
            f"tar xzf {path}",
            f"bsdtar xf {path}",
            f"busybox tar xzf {path}",
            f"pigz -dc {path} | tar x",
            f"igzip -dc {path} | tar x",
            f"gzip -t {path} && bgzip -dc {path} | tar x",
        )
    ):
        target = tmp_path / f"unpacked-{number}"
        target.mkdir()
        subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=target, check=True)
        assert files_in(target / "default") == files_in(folder), command
        assert [entry.name for entry in target.iterdir()] == ["default"], command
