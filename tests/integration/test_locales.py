"""The daemon's names are UTF-8, whatever the locale: refgenie's config is, and so are the folders that it names."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from lab import Lab, command_of
from synthetic import DIGEST

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAMES = ("default", "日本語", "größe")


class Elsewhere(Lab):
    """A server whose administrator has another locale."""

    locale: dict[str, str] = {}  # noqa: RUF012 - set by the test

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.locale


def built(lab: Lab) -> None:
    tags = {}
    for name in NAMES:
        folder = lab.genomes / "data" / DIGEST / "fasta" / name
        (folder / "_refgenie_build").mkdir(parents=True)
        (folder / f"{name}.fa").write_text(name)
        (folder / "_refgenie_build/refgenie_X_completed.flag").touch()
        md5 = hashlib.md5(name.encode()).hexdigest()
        digest = hashlib.md5(f"{md5}\n".encode()).hexdigest()
        tags[name] = {"asset_path": "fasta", "asset_digest": digest, "seek_keys": {"fasta": f"{name}.fa"}}
    genome = {"aliases": ["hg38"], "assets": {"fasta": {"default_tag": "default", "tags": tags}}}
    config = {"config_version": 0.4, "genome_folder": str(lab.genomes), "genomes": {DIGEST: genome}}
    (lab.genomes / "genome_config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    lab = Elsewhere(tmp_path)
    built(lab)
    try:
        yield lab
    finally:
        lab.close()


@pytest.mark.parametrize("locale", [ASCII, LATIN], ids=["ascii", "latin-1"])
def test_a_locale_that_is_not_utf8_hides_no_asset(elsewhere: Elsewhere, locale: dict[str, str]) -> None:
    elsewhere.locale = locale
    daemon = elsewhere.start()
    rows = {row["asset"]: row["state"] for row in elsewhere.rows("asset", "list")}
    assert rows == dict.fromkeys(NAMES, "complete")
    for name in NAMES:
        elsewhere.archived(f"hg38/fasta:{name}")
    assert "Traceback" not in daemon.said


def test_other_commands_too(elsewhere: Elsewhere, tmp_path: Path) -> None:
    elsewhere.locale = ASCII
    config, folder = str(tmp_path / "größe.toml"), str(tmp_path / "größe")

    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [*command_of("refgenied", "refgenied"), *words, "--config", config]
        return subprocess.run(command, env=elsewhere.environment, capture_output=True, check=False)

    made = run("init", "--genome-folder", folder, "--state-folder", str(tmp_path / "größe-state"))
    assert (made.returncode, made.stderr) == (0, b""), made
    assert b"gr\\xf6\\xdfe" in made.stdout, "what is printed is ASCII, as the locale is"
    shown = run("check-config", "--json")
    assert json.loads(shown.stdout)["refgenie.genome_folder"]["value"] == folder, shown
