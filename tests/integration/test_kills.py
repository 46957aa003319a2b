"""A process that is killed at any step leaves nothing that the next start does not put right."""

import os
import random
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
from controlled import Desk, context_of
from packing import KEY, below, draft_of, hidden, make_tree, publish
from parts import Parts, running
from synthetic import DIGEST, Genomes
from transactions import transaction

from refgenied.archive.format import entries
from refgenied.archive.format.manifest import iter_files, read_manifest
from refgenied.archive.place import Place
from refgenied.archive.presence import Presence, settle
from refgenied.archive.prover import prove
from refgenied.archive.publisher import publish_together, remove
from refgenied.archive.run import Run
from refgenied.archive_folder.leftovers import find_leftovers
from refgenied.store import archives

OLD = {b"genome.fa": b"old"}
NEW = {b"genome.fa": b"new"}  # an archive of the very same size
MANY = {b"%04d" % number: b"" for number in range(30)}


@pytest.fixture(autouse=True)
def _a_list_of_20_is_long(monkeypatch):
    monkeypatch.setattr(entries, "MAX_INLINE_ENTRIES", 20)


def assert_nothing_partial(folder: Path) -> None:
    assert [name for name in below(folder) if "partial" in name] == []


# ------------------------------------------------------------------ an archive is published, or removed

STEPS = ("open", "fsync", "rename", "unlink", "rmdir", "mkdir")


def dies_at(step: int, work: Callable[[], object]) -> bool:
    """Run in a child that dies, as by kill -9, before its `step`th system call that changes names or syncs.

    False: it came to its end before that.
    """
    child = os.fork()
    if child == 0:
        count = 0
        real = {name: getattr(os, name) for name in STEPS}

        def dying(name: str) -> Callable[..., object]:
            def call(*arguments: object, **named: object) -> object:
                nonlocal count
                if name != "open" or arguments[1] & os.O_CREAT:  # opening what is there changes nothing
                    count += 1
                if count == step:
                    os._exit(9)
                return real[name](*arguments, **named)

            return call

        for name in STEPS:
            setattr(os, name, dying(name))
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a child must never go on as a second pytest
            sys.stderr.write(f"{error!r}\n")
            os._exit(2)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("before", [OLD, {}, MANY], ids=["short", "nothing", "long"])
@pytest.mark.parametrize("after", [NEW, MANY], ids=["to-short", "to-long"])
def test_a_crash_at_any_step_leaves_the_old_or_the_new_archive(before, after, tmp_path):
    source = make_tree(tmp_path / "source", after)
    source.chmod(0o700)  # so that it is another archive, also when the files are the same
    new = publish(source, tmp_path / "new").manifest
    (tmp_path / "old").mkdir()
    old = publish(make_tree(tmp_path / "before", before), tmp_path / "old").manifest if before else None
    finished = set()
    for step in range(1, 60):
        archives = tmp_path / f"archives{step}"
        shutil.copytree(tmp_path / "old", archives)
        died = dies_at(step, lambda archives=archives: publish(source, archives))
        place = Place(archives, KEY)
        found = settle(place)
        assert_nothing_partial(archives)
        finished.add(found.finished)
        assert settle(place) == msgspec.structs.replace(found, finished=False)
        if found.presence is Presence.ABSENT:
            assert old is None
            assert not any(path.is_file() for path in archives.rglob("*"))
            continue
        assert found.presence is Presence.PRESENT, found.reason
        prove(place.archive, found.manifest, Run())
        assert len(list(iter_files(place.manifest))) == found.manifest.totals.files + 1
        assert found.manifest.digest in (old and old.digest, new.digest)
        if not died:
            break
    assert not died
    assert found.manifest.digest == new.digest
    assert finished == {True, False}


def test_a_crash_at_any_step_of_a_group_leaves_the_old_or_the_new_archive_of_each(tmp_path):
    keys = [msgspec.structs.replace(KEY, asset=name) for name in ("first", "changed", "longer")]
    old, new = tmp_path / "old", {}
    for key in keys[1:]:
        publish(make_tree(tmp_path / "before" / key.asset, OLD), old, key)
    for key in keys:
        new[key] = make_tree(tmp_path / "after" / key.asset, MANY if key.asset == "longer" else NEW)
    seen, died = set(), True
    for step in range(1, 60):
        archives = tmp_path / f"archives{step}"
        shutil.copytree(old, archives)
        drafts = [draft_of(folder, archives, key) for key, folder in new.items()]
        died = dies_at(step, lambda drafts=drafts: publish_together(drafts))
        for draft in drafts:
            found = settle(draft.place)
            assert_nothing_partial(draft.place.folder)
            seen.add((draft.place.key.asset, found.presence, found.finished))
            if found.presence is Presence.ABSENT:
                assert draft.place.key.asset == "first"
                continue
            assert found.presence is Presence.PRESENT, found.reason
            prove(draft.place.archive, found.manifest, Run())
            assert died or found.manifest.digest == draft.manifest.digest
        if not died:
            break
    assert not died
    assert {(key.asset, Presence.PRESENT, finished) for key in keys for finished in (True, False)} <= seen


def test_a_crash_at_any_step_of_remove_leaves_it_removed_or_not(tmp_path):
    source = make_tree(tmp_path / "old", OLD)
    seen = set()
    for step in range(1, 50):
        archives = tmp_path / f"archives{step}"
        place = publish(source, archives).place
        died = dies_at(step, lambda place=place: remove(place, at=1.0, by="me", stamp="s", delete_file=True))
        found = settle(place)
        assert_nothing_partial(archives)
        assert found.presence in (Presence.PRESENT, Presence.REMOVED)
        seen.add(found.presence)
        if not died:
            break
    assert not died
    assert seen == {Presence.PRESENT, Presence.REMOVED}


# ------------------------------------------------------------------ a daemon at work

KILLS = 12
"""For each kind of work. Each of the 129 points was tried once."""
WATCHED = frozenset({"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod"})

Work = Callable[[Parts], Awaitable[object]]


async def importing(parts: Parts) -> None:
    await parts.bring(parts.root / "old")


async def importing_foreign(parts: Parts) -> None:
    await parts.bring(parts.root / "foreign")


async def removing(parts: Parts) -> None:
    await parts.reconciler.look_again()
    await Desk(context_of(parts)).ask("archive.remove", path="t7/fasta", delete_file=True)


async def publishing(parts: Parts) -> None:
    await parts.settle()
    await parts.catalog.refresh()


async def publishing_together(parts: Parts) -> None:
    """All at once, by the worker itself."""
    await parts.reconciler.look_again()
    with parts.feed.subscribed("job.succeeded") as events:
        async with anyio.create_task_group() as group:
            async with parts.archive_folder.publishing:  # they are one group in each run, so the changes are as many
                group.start_soon(parts.worker.run)
                while len(parts.worker.publisher.waiting) < 2:
                    await anyio.sleep(0.001)
            while parts.jobs.running or await parts.jobs.due(1):
                await events.take()
            parts.worker.drain()
    await parts.catalog.refresh()


def in_a_child(root: Path, genomes: Genomes, work: Work, kill_at: int | None) -> int:
    """Do it in a process that is killed before its nth change of a file; how many there were, without a kill."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        counted = os.read(reading, 100)
        os.close(reading)
        os.waitpid(child, 0)
        return int(counted or b"0")
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in WATCHED or not str(arguments[0]).startswith(str(root / "archives")):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE):
            return
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def main() -> None:
        async with running(genomes) as parts:
            nonlocal seen
            seen = 0
            await work(parts)

    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.addaudithook(hook)
        anyio.run(main)
        os.write(writing, str(seen).encode())
    finally:
        os._exit(0)


async def settled(genomes: Genomes) -> dict[str, object]:
    """One start: what it leaves behind, in words."""
    async with running(genomes) as parts:
        await parts.reconciler.look_again()
        await parts.tidier.tidy()
        await parts.catalog.refresh()
        async with transaction(parts.store) as tx:
            known, removed = await archives.everything(tx), await archives.removals(tx)
        root = Path(parts.archive_folder.path)
        found = list(find_leftovers(root, print))
        return {
            "hidden": [name for name in hidden(root) if not name.endswith(".tgz")],  # those are kept for a while
            "unfinished": [place for part in found for place in part.unfinished],
            "without a record": [
                place for part in found for place in part.archives if place.key not in {*known, *removed}
            ],
            "another archive": [
                key for key, record in known.items() if read_manifest(Place(root, key).manifest).digest != record.digest
            ],
            "pages without an archive": [
                path.name
                for path in (root / DIGEST).glob("*_*.json")
                if path.name.startswith("asset_dir") and "fasta" in path.name and not known
            ],
            "health": list(parts.health.conditions),
        }


@pytest.mark.parametrize(
    "work",
    [importing, importing_foreign, removing, publishing, publishing_together],
    ids=lambda work: work.__name__,
)
def test_a_kill_anywhere_leaves_nothing_behind_after_one_start(work, genomes, tmp_path):
    for name in ("fasta", "more"):
        genomes.build(name, **{f"f{number}": b"x" * number for number in range(3)})
    archive_folder, state, old, foreign = (tmp_path / name for name in ("archives", "state", "old", "foreign"))

    async def prepared() -> None:
        async with running(genomes) as parts:
            if work not in (publishing, publishing_together):
                await parts.settle()

    anyio.run(prepared)
    if work in (importing, importing_foreign):
        shutil.copytree(archive_folder, old)
        shutil.copytree(archive_folder, foreign)
        for path in foreign.rglob("*__default.json"):
            path.unlink()
        shutil.rmtree(archive_folder)
        shutil.rmtree(state)
        shutil.rmtree(genomes.root / "data")  # nothing is archived by itself
        anyio.run(prepared)
    bases = [(folder, folder.with_name(f"{folder.name}-base")) for folder in (archive_folder, state)]
    for folder, base in bases:
        shutil.copytree(folder, base)

    def anew() -> None:
        for folder, base in bases:
            shutil.rmtree(folder)
            shutil.copytree(base, folder)

    changes = in_a_child(tmp_path, genomes, work, None)
    assert changes > KILLS
    dice = random.Random(work.__name__)
    for kill_at in sorted(dice.sample(range(1, changes + 1), KILLS)):
        anew()
        assert in_a_child(tmp_path, genomes, work, kill_at) == 0
        left_behind = {what: which for what, which in anyio.run(settled, genomes).items() if which}
        assert left_behind == {}, f"killed before change {kill_at} of {changes}"
