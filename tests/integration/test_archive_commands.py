"""`archive cat`, `verify`, `restore` and `import` as a user runs them: the daemon and the client as processes."""

import shutil
import subprocess
from pathlib import Path

import pytest
from lab import Lab, command_of
from packing import noise
from synthetic import DIGEST, Genomes

from refgenied.archive.format.manifest import encode, read_manifest

FILES = {"g.fa": noise(2_000_000), "g.fa.fai": b"chr1\t9\n", "empty": b""}


@pytest.fixture
def built(genomes: Genomes) -> Genomes:
    genomes.build("fasta", **FILES)
    return genomes


def test_cat_verify_restore_and_damage(lab, built):
    lab.start()
    row = lab.archived("t7/fasta")
    for name, content in FILES.items():
        done = subprocess.run(
            [*command_of("refgeniectl", "refgenied.client"), "archive", "cat", "t7/fasta", name],
            env=lab.environment,
            capture_output=True,
            check=True,
        )
        assert done.stdout == content
    nix = lab.ctl("archive", "cat", "t7/fasta", "nix")
    assert (nix.code, nix.out) == (1, ""), nix
    assert "has no file nix" in nix.err
    part = lab.rows("call", "archive.read", '{"path": "t7/fasta", "file": "g.fa.fai", "start": 3, "length": 2}')[0]
    assert (part["data"], part["length"], part["size"]) == ("MQk=", 2, 7)

    assert lab.ctl("archive", "verify").code == 2
    sound = lab.ctl("archive", "verify", "t7/fasta")
    assert sound.code == 0, sound
    assert "proved" in sound.out, sound

    where = lab.genomes / "data" / DIGEST / "fasta" / "default"
    way = lab.ctl("archive", "restore", "t7/fasta", "--to", str(where))
    assert way.code == 1, way
    assert "in the way" in way.err, way
    shutil.rmtree(where)
    back = lab.ctl("archive", "restore", "t7/fasta", "--to", str(where))
    assert back.code == 0, back
    assert {path.name: path.read_bytes() for path in where.iterdir()} == FILES
    some = lab.ctl("archive", "restore", row["path"], "--to", "some", "--file", "g.fa.fai", "--socket", "/nowhere")
    assert (some.code, [path.name for path in (lab.root / "some/default").iterdir()]) == (0, ["g.fa.fai"]), some

    with open(row["path"], "r+b") as archive:
        archive.seek(1_500_000)
        archive.write(b"damage")
    cat = [*command_of("refgeniectl", "refgenied.client"), "archive", "cat", "t7/fasta", "g.fa"]
    assert subprocess.run(cat, env=lab.environment, capture_output=True, check=False).returncode == 7
    shutil.rmtree(where)
    assert lab.ctl("scan").code == 0
    bad = lab.ctl("archive", "verify", "--all")
    assert bad.code == 7
    assert "t7/fasta:default is damaged" in bad.err
    assert "'g.fa'" in bad.err
    assert "hint: its asset is gone" in bad.err
    assert lab.archive("t7/fasta")["damaged"]
    assert "damaged" in lab.ctl("archive", "show", "t7/fasta").out
    assert "warnings:\n  damaged: t7/fasta:default" in lab.ctl("status").out
    assert lab.ctl("archive", "restore", "t7/fasta", "--to", "never").code == 7
    assert not (lab.root / "never").exists()
    assert [event["data"]["error"] for event in lab.events("archive.damaged")]


def test_a_moved_archive_folder_is_imported_shown_and_restored(lab, built, tmp_path_factory):
    built.build("many", **{f"f{number}": b"%d" % number for number in range(1100)})
    lab.start()
    for name in ("fasta", "many"):
        lab.archived(f"t7/{name}")
    shown = {name: lab.ctl("archive", "show", f"t7/{name}").out for name in ("fasta", "many")}

    there = Lab(tmp_path_factory.mktemp("elsewhere"))
    try:
        there.start()  # a system of its own, with an archive folder of its own
        subprocess.run(["cp", "-a", lab.archives / DIGEST, there.archives], check=True)  # hard links stay hard links
        said = there.ctl("archive", "import")
        assert (said.code, said.out.splitlines()[-1]) == (0, f"{there.archives}: 2 imported"), said
        assert there.ctl("archive", "import").out == f"{there.archives}: 2 known\n"
        for name, was in shown.items():
            now = there.ctl("archive", "show", f"t7/{name}")
            assert now.code == 0, now
            for line, before in zip(now.out.splitlines(), was.splitlines(), strict=True):
                if not line.startswith("proved"):
                    assert line == before.replace(str(lab.archives), str(there.archives))
            out = there.root / "out" / name
            assert there.ctl("archive", "restore", f"t7/{name}", "--to", str(out)).code == 0
            diff = ["diff", "-r", "-x", "_refgenie_build", str(out / "default")]
            subprocess.run([*diff, str(lab.genomes / "data" / DIGEST / name / "default")], check=True)
        assert there.ctl("archive", "verify", "--all").code == 0
        assert "there is no" not in there.ctl("archive", "import", str(lab.archives)).out
    finally:
        there.close()


def test_another_codec_makes_no_archive_anew(lab, built):
    lab.configure(archive={"compression": "fast"})
    daemon = lab.start()
    before = lab.archived("t7/fasta")
    daemon.close()
    manifest = Path(before["path"]).with_suffix(".json")
    assert '"name":"fast"' in manifest.read_text().replace(" ", "")
    older = manifest.read_text().replace("isal ", "isal 0.")
    assert older != manifest.read_text()
    manifest.write_text(older)  # as another version of the codec would have left it
    manifest.write_bytes(encode(read_manifest(manifest, believed=False)))
    older = manifest.read_text()

    lab.configure(archive={"compression": "small"})
    lab.start()
    assert lab.ctl("scan").code == 0
    assert lab.wait("t7/fasta").code == 0
    asked = lab.ctl("archive", "create", "t7/fasta")
    assert asked.code == 0, asked
    again = lab.archive("t7/fasta")
    assert (again["digest"], again["created_at"]) == (before["digest"], before["created_at"])
    assert lab.events("archive.published")[1:] == []
    assert manifest.read_text() == older
