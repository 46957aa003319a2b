"""`config.get`. Real parts over a synthetic genome folder."""

import pytest
from controlled import Desk
from parts import Parts
from synthetic import Genomes

pytestmark = pytest.mark.anyio


async def test_config_has_refgenies_four_and_all_of_ours(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    await parts.reconciler.look_again()
    found = await desk.ask("config.get")
    assert list(found["refgenie"]) == ["genome_folder", "version", "genome_archive_folder", "servers"]
    assert found["refgenie"]["genome_folder"] == str(genomes.root)
    assert found["refgenie"]["version"] == "0.4"
    names = [row["name"] for row in found["settings"]]
    assert {"archive.automatic", "control.group", "watch.sweep_seconds"} <= set(names)
