"""What `scale` measures on one genome folder: a generator for each group of rows, with the name and value of each."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import daemons
import inputs
import prepared
import scale_serving
from daemons import Daemon, House, at_rest, until
from genome_folders import GenomeFolder

Row = tuple[str, float]
BUILDS = 20
BUILDS_SECONDS = 15.0
TURNS = 3

ORDER = (
    "first look, s",
    "first look, CPU s since the start",
    "backlog: archives a second",
    "backlog: archives a second, last tenth",
    "backlog: CPU ms an archive",
    "the engine alone: archives a second",
    "new build → archive, s",
    "new archive → served, s",
    "asset list: first row, s",
    "asset list: whole, s",
    "archive list: first row, s",
    "archive list: whole, s",
    "archive show, s",
    "asset list P, s",
    "archive wait, s",
    "scan, nothing changed, s",
    "scan, nothing changed, CPU s",
    "scandir and stat alone, s",
    "verify --all, s",
    "verify: CPU ms an archive",
    "import, s",
    "import: CPU ms an archive",
    "20 builds: CPU s a minute",
    "restart: READY, s",
    "restart: CPU s until at rest",
    "memory after a restart, MB",
    "rebuilt database: READY, s",
    "rebuilt database: served, s",
    "rebuilt database: CPU s until at rest",
)


def measured(folder: GenomeFolder, names: list[str], python: Path, seconds: float) -> Iterator[Row]:
    """All rows of these groups."""
    for name in names:
        if name in APART:
            yield from APART[name](folder, python, seconds)
    shared = [name for name in TOGETHER if name in names or (name == "rebuilt" and set(names) & set(TOGETHER))]
    if not shared:
        return
    with daemons.house(folder.home, folder.root, python) as house:
        copied(folder, house)
        began = time.monotonic()
        daemon = house.start()
        until(lambda: house.archived() == folder.n, 3600, "all archives are recorded")
        if "rebuilt" in names:
            yield "rebuilt database: READY, s", daemon.ready
        if folder.served:
            served = house.wait_served(folder.n, 3600) - began
            if "rebuilt" in names:
                yield "rebuilt database: served, s", served
        at_rest(daemon.process.pid)
        if "rebuilt" in names:
            yield "rebuilt database: CPU s until at rest", daemon.cpu
        for name in shared:
            yield from TOGETHER[name](folder, house, daemon)
            if name == "restart":
                daemon = restarted.pop()


def copied(folder: GenomeFolder, house: House) -> None:
    """The prepared archives, as the whole archive folder."""
    house.archives.rmdir()
    subprocess.run(["cp", "-a", prepared.archives(folder), house.archives], check=True)


# --------------------------------------------------------------------- each with a daemon of its own


def first(folder: GenomeFolder, python: Path, _seconds: float) -> Iterator[Row]:
    with daemons.house(folder.home, folder.root, python) as house:
        daemon = house.start(archive={"automatic": False})
        yield "first look, s", first_look(house)
        yield "first look, CPU s since the start", daemon.cpu


def first_look(house: House) -> float:
    """Seconds that the daemon's first look took."""
    with house.client() as client:
        while not (look := client.call("server.info")["last_look"])["at"]:
            time.sleep(0.5)
    return float(look["took"])


def backlog(folder: GenomeFolder, python: Path, seconds: float) -> Iterator[Row]:
    """From READY to the last archive, and until all are served. Cut off after `seconds`.

    The CPU time is that of the whole process, less that of a daemon which only starts and looks.
    """
    with daemons.house(folder.home, folder.root, python) as house:
        looking = house.start(archive={"automatic": False})
        first_look(house)
        look = looking.cpu
    with daemons.house(folder.home, folder.root, python) as house:
        daemon = house.start()
        began, done = time.monotonic(), 0
        points = [(began, done)]
        while done < folder.n and points[-1][0] - began < seconds:
            time.sleep(0.02 if folder.n <= 1000 else 0.2)
            done = house.archived()
            points.append((time.monotonic(), done))
        whole = done == folder.n
        if whole and folder.served:
            house.wait_served(folder.n, 3600)
        elif whole:
            at_rest(daemon.process.pid)
        yield "backlog: archives a second", done / (points[-1][0] - began)
        yield "backlog: CPU ms an archive", 1000 * (daemon.cpu - look) / done
        tenth = next(point for point in reversed(points) if point[1] <= done - max(1, done // 10))
        yield "backlog: archives a second, last tenth", (done - tenth[1]) / (points[-1][0] - tenth[0])
        if not whole:
            yield f"backlog: archives in {seconds:.0f} s", done


def engine(folder: GenomeFolder, _python: Path, _seconds: float) -> Iterator[Row]:
    out = folder.home / "archives.again"
    yield "the engine alone: archives a second", prepared.pack_all(folder, out)
    shutil.rmtree(out)


def import_(folder: GenomeFolder, python: Path, _seconds: float) -> Iterator[Row]:
    with daemons.house(folder.home, folder.root, python) as house:
        copied(folder, house)
        elsewhere = house.archives.with_name("elsewhere")
        house.archives.rename(elsewhere)
        house.archives.mkdir()
        daemon = house.start(archive={"automatic": False})
        first_look(house)
        before = daemon.cpu
        yield "import, s", house.run("archive", "import", str(elsewhere)).whole
        yield "import: CPU ms an archive", 1000 * (daemon.cpu - before) / folder.n


def peer(folder: GenomeFolder, _python: Path, _seconds: float) -> Iterator[Row]:
    """The real `refgenieserver archive`, over a copy: it writes into the genome folder."""
    if folder.layout == "0":
        yield "refgenieserver archive: seconds", scale_serving.peer(folder)


# --------------------------------------------------------------------- on one daemon that has done its work


def rebuilt(_folder: GenomeFolder, _house: House, _daemon: Daemon) -> Iterator[Row]:
    """It was measured when the shared daemon began."""
    yield from ()


def lists(_folder: GenomeFolder, house: House, _daemon: Daemon) -> Iterator[Row]:
    for noun in ("asset", "archive"):
        took = house.run(noun, "list")
        turns = [took] + [house.run(noun, "list") for _ in range(TURNS - 1) if took.whole < 3]
        yield f"{noun} list: first row, s", statistics.median(turn.first for turn in turns)
        yield f"{noun} list: whole, s", statistics.median(turn.whole for turn in turns)


def one(folder: GenomeFolder, house: House, _daemon: Daemon) -> Iterator[Row]:
    path = folder.path(folder.n * 2 // 3)
    for name, words in (
        ("archive show, s", ("archive", "show", path)),
        ("asset list P, s", ("asset", "list", path)),
        ("archive wait, s", ("archive", "wait", path)),
    ):
        yield name, repeated(lambda words=words: house.run(*words).whole)


def repeated(take: Callable[[], float]) -> float:
    """The median of a few; of one when it takes long."""
    values = [take()]
    while len(values) < 2 * TURNS - 1 and sum(values) < 3:
        values.append(take())
    return statistics.median(values)


def scan(folder: GenomeFolder, house: House, daemon: Daemon) -> Iterator[Row]:
    before, turns = daemon.cpu, 0

    def once() -> float:
        nonlocal turns
        turns += 1
        return house.run("scan").whole

    yield "scan, nothing changed, s", repeated(once)
    yield "scan, nothing changed, CPU s", (daemon.cpu - before) / turns
    yield "scandir and stat alone, s", repeated(lambda: walked(folder.root))


def walked(root: Path) -> float:
    began = time.monotonic()
    pending = [str(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return time.monotonic() - began


def new(folder: GenomeFolder, house: House, daemon: Daemon) -> Iterator[Row]:
    """New builds, one after another: each begins when the daemon is at rest again."""
    archived: list[float] = []
    served: list[float] = []
    for number in range(folder.n, folder.n + TURNS):
        group, count = folder.names(number).group, house.archived()
        before = house.served() if folder.served else 0
        folder.build(number)
        began = time.monotonic()
        at = until(lambda count=count: house.archived() > count, 300, f"the archive of {group}", 0.005)
        archived.append(max(0.0, at - began - daemons.SETTLE_SECONDS))
        if folder.served:
            served.append(house.wait_served(before + 1, 300) - at)
        at_rest(daemon.process.pid)
    yield "new build → archive, s", statistics.median(archived)
    if served:
        yield "new archive → served, s", statistics.median(served)


def builds(folder: GenomeFolder, house: House, daemon: Daemon) -> Iterator[Row]:
    """20 builds whose logs and files grow each second."""
    numbers = range(folder.n + 100, folder.n + 100 + BUILDS)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(1.0):
            for number in numbers:
                folder.work(number)

    for number in numbers:
        folder.start(number)
    worker = threading.Thread(target=work)
    worker.start()
    house.run("scan")
    with house.client() as client:
        if client.call("server.info")["assets"]["states"].get("building") != BUILDS:
            raise inputs.Missing("the daemon does not see the builds")
    time.sleep(5.0)
    before, began = daemon.cpu, time.monotonic()
    time.sleep(BUILDS_SECONDS)
    yield "20 builds: CPU s a minute", (daemon.cpu - before) / (time.monotonic() - began) * 60
    stop.set()
    worker.join()
    folder.remove(*numbers)
    at_rest(daemon.process.pid)


def verify(folder: GenomeFolder, house: House, daemon: Daemon) -> Iterator[Row]:
    before = daemon.cpu
    yield "verify --all, s", house.run("archive", "verify", "--all").whole
    yield "verify: CPU ms an archive", 1000 * (daemon.cpu - before) / folder.n


restarted: list[Daemon] = []


def restart(_folder: GenomeFolder, house: House, daemon: Daemon) -> Iterator[Row]:
    daemon.stop()
    began = house.start()
    restarted.append(began)
    yield "restart: READY, s", began.ready
    first_look(house)
    at_rest(began.process.pid)
    yield "restart: CPU s until at rest", began.cpu
    yield "memory after a restart, MB", began.memory


def serve(folder: GenomeFolder, house: House, _daemon: Daemon) -> Iterator[Row]:
    if folder.served:
        yield from scale_serving.rows(folder, house)


APART: dict[str, Callable[[GenomeFolder, Path, float], Iterator[Row]]] = {
    "first": first,
    "backlog": backlog,
    "engine": engine,
    "import": import_,
    "peer": peer,
}
TOGETHER: dict[str, Callable[[GenomeFolder, House, Daemon], Iterator[Row]]] = {
    "rebuilt": rebuilt,
    "restart": restart,
    "lists": lists,
    "one": one,
    "scan": scan,
    "builds": builds,
    "serve": serve,
    "new": new,
    "verify": verify,
}
ROWS = (*APART, *TOGETHER)
