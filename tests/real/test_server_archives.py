"""What the real `refgenieserver archive` makes is imported, verified, read and restored as it is."""

import shutil
import subprocess

import pytest
import yaml

pytestmark = pytest.mark.needs("refgenieserver", "pigz")


def test_a_real_servers_archives_are_imported_and_restored(lab, refgenie):
    digest = refgenie.digest("demo")
    config = refgenie.written() | {"genome_archive_folder": str(lab.archives)}

    lab.archives.mkdir()
    refgenie.config.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        ["refgenieserver", "archive", "-c", str(refgenie.config), "demo/fasta:default"],
        env=lab.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    flat = lab.archives / digest / "fasta__default.tgz"
    assert flat.is_file(), done.stdout + done.stderr
    before = flat.read_bytes()
    folder = refgenie.folder("demo/fasta")
    names = sorted(path.name for path in folder.iterdir() if path.name != "_refgenie_build")

    lab.configure(archive={"automatic": False})
    lab.start()
    said = lab.ctl("archive", "import")
    assert said.code == 0, said
    assert "made by refgenieserver" in said.out
    row = lab.archive("demo/fasta:default")
    assert flat.read_bytes() == before
    assert flat.samefile(row["path"])
    assert lab.ctl("archive", "verify", "demo/fasta").code == 0
    name = next(name for name in names if name.endswith(".fai"))
    assert lab.ctl("archive", "cat", "demo/fasta", name).out == (folder / name).read_text()
    for archive in ("demo/fasta", str(flat)):  # with our manifest, and without
        assert lab.ctl("archive", "restore", archive, "--to", "out").code == 0
        for name in names:
            assert (lab.root / "out/default" / name).read_bytes() == (folder / name).read_bytes()
        shutil.rmtree(lab.root / "out")
    wished = lab.ctl("archive", "create", "demo/fasta", "--served")
    assert wished.code == 0, wished
    assert flat.read_bytes() == before  # the same content: nothing was packed again
