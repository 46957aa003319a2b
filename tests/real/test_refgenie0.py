"""The real refgenie 0.13, however its builds end: what its flags and its config say of each asset."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from genome_trees import Refgenie, md5_digest

from refgenied.model import Asset, AssetState


@pytest.fixture
def refgenie(tmp_path: Path) -> Refgenie:
    made = Refgenie(tmp_path)
    made.build("hs/fasta")
    return made


OUT = "echo one > {asset_outfolder}/out.txt"


def test_real_builds_and_tags(refgenie: Refgenie) -> None:
    refgenie.build("hs/fasta:2.5")
    refgenie.build("hs/thing:1e3", OUT)
    folder = refgenie.folder()
    assert refgenie.states(folder) == {"fasta:default": "complete", "fasta:2.5": "complete", "thing:1e3": "complete"}
    look = folder.look(time.time())
    assert look.problems == ()
    for asset in look.assets.values():
        assert asset.aliases == ("hs",)
        assert md5_digest(folder, asset) == asset.asset_digest
        assert folder.asset(asset.key, time.time()) == asset
    (thing,) = (asset for asset in look.assets.values() if asset.key.asset_group == "thing")
    record = folder.build_record(thing)
    assert record.commands[0].startswith("echo one > ")
    assert record.recipe is not None
    assert record.recipe["name"] == "thing"
    assert record.log_name == "refgenie_log.md"

    refgenie.run("tag", "-c", str(refgenie.config), "hs/thing:1e3", "-t", "2024-01-01", "-f")
    assert refgenie.states(folder)["thing:2024-01-01"] == "complete"
    assert "thing:1e3" not in refgenie.states(folder)
    refgenie.run("remove", "-c", str(refgenie.config), "hs/thing:2024-01-01", "-f")
    assert refgenie.states(folder) == {"fasta:default": "complete", "fasta:2.5": "complete"}


def test_real_failures(refgenie: Refgenie) -> None:
    refgenie.build("hs/thing", OUT, "false", check=False)
    assert refgenie.states()["thing:default"] == "failed"
    refgenie.build("hs/thing", OUT, options=("-R",))  # without it, it would wait for the lock
    assert refgenie.states()["thing:default"] == "complete"
    refgenie.build("hs/thing", OUT, "false", options=("-N",), check=False)
    assert refgenie.states()["thing:default"] == "failed"


def wait_for(path: Path) -> None:
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("how", "at_once", "later"),
    [(signal.SIGKILL, "building", "interrupted"), (signal.SIGTERM, "failed", "failed"),
     (signal.SIGINT, "failed", "failed")],
)  # fmt: skip
def test_real_builds_that_are_stopped(refgenie: Refgenie, how, at_once, later) -> None:
    process = refgenie.start(*refgenie.build_words("hs/slow", OUT, "sleep 60"))
    (digest,) = os.listdir(refgenie.root / "data")
    slow = refgenie.root / "data" / digest / "slow" / "default"
    folder = refgenie.folder()
    try:
        wait_for(slow / "out.txt")
        assert refgenie.states(folder)["slow:default"] == "building"
        assert str(slow / "_refgenie_build") in folder.look(time.time()).watch
        assert refgenie.states(folder, later=1900)["slow:default"] == "interrupted"
    finally:
        os.kill(process.pid, how)
        process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the sleep
    assert refgenie.states(folder)["slow:default"] == at_once
    assert refgenie.states(folder, later=1900)["slow:default"] == later


def test_real_two_builds_at_once(refgenie: Refgenie) -> None:
    both = [refgenie.start(*refgenie.build_words(f"hs/{name}", OUT, "sleep 1")) for name in ("one", "two")]
    for process in both:
        assert process.wait(30) == 0
    states = refgenie.states()
    assert sorted((states["one:default"], states["two:default"])) == ["complete", "unregistered"]


def test_real_map_and_reduce(refgenie: Refgenie) -> None:
    refgenie.build("hs/thing", OUT, options=("--map",))
    folder = refgenie.folder()
    assert refgenie.states(folder)["thing:default"] == "unregistered"
    (asset,) = (a for a in folder.look(time.time()).assets.values() if a.key.asset_group == "thing")
    assert "--reduce" in asset.reason
    refgenie.run("build", "-c", str(refgenie.config), "--reduce")
    assert refgenie.states(folder)["thing:default"] == "complete"


def test_real_add_and_pull(refgenie: Refgenie) -> None:
    for place in (refgenie.root / "other", refgenie.home / "outside"):
        place.mkdir()
        (place / "x.txt").write_text("x")
    refgenie.run("add", "-c", str(refgenie.config), "hs/inside:v1", "--path", "other")
    refgenie.run("add", "-c", str(refgenie.config), "hs/outside:v1", "--path", "../outside")
    assets = {f"{k.asset_group}:{k.asset}": a for k, a in refgenie.folder().look(time.time()).assets.items()}
    inside, outside = assets["inside:v1"], assets["outside:v1"]
    assert inside.state is AssetState.ADDED
    assert inside.stamp
    assert md5_digest(refgenie.folder(), inside) == inside.asset_digest
    assert (outside.state, outside.stamp) == (AssetState.ADDED, "")
    # what a pull leaves: the files and the entry, no build folder
    refgenie.build("hs/thing", OUT)
    (digest,) = os.listdir(refgenie.root / "data")
    build = refgenie.root / "data" / digest / "thing" / "default" / "_refgenie_build"
    for path in [*build.iterdir(), build]:
        path.rmdir() if path == build else path.unlink()
    assert refgenie.states()["thing:default"] == "pulled"


@pytest.fixture
def running(refgenie: Refgenie) -> Iterator[list[Asset]]:
    """Looks all the time, and keeps every asset that was twice complete with one stamp though its files were wrong."""
    folder = refgenie.folder()
    wrong: list[Asset] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for asset in folder.look(time.time()).assets.values():
                if asset.state is not AssetState.COMPLETE:
                    continue
                try:
                    digest = md5_digest(folder, asset)
                except Exception:  # noqa: BLE001, S112 - it changed under the reader: no archive
                    continue
                again = folder.asset(asset.key, time.time())
                if again and again.stamp == asset.stamp and digest != asset.asset_digest:
                    wrong.append(asset)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield wrong
    stop.set()
    watcher.join()
    assert wrong == []


def test_real_rebuilds_and_tags_are_never_complete_too_early(refgenie: Refgenie, running: list[Asset]) -> None:
    write = "for i in 1 2 3 4; do echo $RANDOM$i >> {asset_outfolder}/out.txt; done"
    for number in range(4):
        refgenie.build("hs/thing", write, f"sleep 0.0{number}", options=("-N",))
    refgenie.run("tag", "-c", str(refgenie.config), "hs/thing:default", "-t", "v2", "-f")
    assert running == []
