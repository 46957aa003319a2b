"""Fixtures for all tests: a lab with the daemon as a real process, the real refgenie, and what a test needs to run."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import hypothesis
import pytest
from fence import Fence, own_environment, own_folder, set_environment
from genome_trees import Tree013
from lab import REPOSITORY, SCRIPTS, Daemon, Lab
from parts import Parts, running
from refgenie_cli import LAMBDA, Refgenie
from synthetic import Genomes

PACKAGES = {
    "bowtie2-build": "bowtie2",
    "bgzip": "tabix",
    "igzip": "isal",
    "bsdtar": "libarchive-tools",
    "nginx": "nginx-light",
}
"""Commands whose Debian package has another name."""

OF_ONE_WORKER = ("tests/systemd/", "tests/unit/test_digests.py")
"""A machine is booted, locales are compiled: once."""

FENCE = pytest.StashKey[Fence]()
OWN = pytest.StashKey[tuple[Path, int]]()
ENVIRONMENT = pytest.StashKey[dict[str, str | None]]()
"""Of the person who runs the tests."""


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.register_profile("own", deadline=None)  # a busy machine is no fault
    hypothesis.settings.load_profile("own")
    config.addinivalue_line("markers", "needs(*names): commands, `root` or `lambda` that the test cannot run without")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before any test: an environment that is nobody's, and a machine that can only be written where tests may."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would ours
    base: Path = session.config._tmp_path_factory.getbasetemp()
    own, held = own_folder()
    session.stash[OWN] = (own, held)
    session.stash[ENVIRONMENT] = set_environment(own_environment(own))
    # pytest tidies the folders of earlier runs; the repository has its and Python's caches
    one_of_several = hasattr(session.config, "workerinput")
    whole = base.parent if one_of_several else base  # each worker has a folder of its own in it
    temporary = whole.parent if whole.parent.name.startswith("pytest-of-") else whole
    session.stash[FENCE] = Fence([temporary, own, REPOSITORY], in_memory=(base,) if one_of_several else ())
    session.stash[FENCE].raise_()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if FENCE in session.stash:
        session.stash[FENCE].lower()
        set_environment(session.stash[ENVIRONMENT])
        own, held = session.stash[OWN]
        shutil.rmtree(own)
        os.close(held)


@pytest.fixture
def fence(request: pytest.FixtureRequest) -> Fence:
    return request.session.stash[FENCE]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The quick folders come first; with several workers last, so that no long test begins at the end."""
    if hasattr(config, "workerinput"):
        folders = [config.rootpath / folder for folder in config.getini("testpaths")]
        order = {folder: -number for number, folder in enumerate(folders)}
        items.sort(key=lambda item: min((order[up] for up in item.path.parents if up in order), default=0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Each test goes to a worker that is free. Those that share an expensive set-up all go to one, which makes it."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - not needed without workers

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((start for start in OF_ONE_WORKER if nodeid.startswith(start)), nodeid)

    return Scheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            lacking = _lacking(name)
            if lacking and os.environ.get("CI") == "true" and name != "root":
                pytest.fail(f"{lacking} (in CI nothing is skipped for want of a package)")
            if lacking:
                pytest.skip(lacking)


def _lacking(name: str) -> str:
    """Why the test cannot run here; empty when it can."""
    if name == "root":
        return "" if os.geteuid() == 0 else "needs root (to mount a small disk of its own)"
    if name == "lambda":
        return "" if LAMBDA.exists() else f"needs {LAMBDA}: apt-get install bowtie2-examples"
    if name in ("refgenie", "refgenieserver"):
        found = shutil.which(name, path=f"{SCRIPTS}:{os.environ.get('PATH', '')}")
        return "" if found else f"needs {name}: pip install {name} (make test does it)"
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # servers are not in everybody's PATH
    return "" if found else f"needs {name}: apt-get install {PACKAGES.get(name, name)}"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the database and the daemon's signal handling are written for it


@pytest.fixture
def genomes(tmp_path: Path) -> Genomes:
    """An empty genome folder, as refgenie 0.13 has it; a lab's too."""
    return Genomes(tmp_path / "genomes")


@pytest.fixture
def tree(tmp_path: Path) -> Tree013:
    """The same, to be filled flag by flag and entry by entry."""
    return Tree013(tmp_path / "genomes")


@pytest.fixture
async def parts(genomes: Genomes) -> AsyncGenerator[Parts]:
    """The daemon's parts over the genome folder, in the test's own process."""
    async with running(genomes) as parts:
        yield parts


@pytest.fixture
async def archived(genomes: Genomes) -> AsyncGenerator[Parts]:
    """The same with one asset, `t7/fasta`, that is archived."""
    genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        yield parts


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Folders and a configuration; daemons started in it are stopped, and their end is checked."""
    lab = Lab(tmp_path)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def daemon(lab: Lab) -> Daemon:
    """The daemon of the lab, ready."""
    return lab.start()


@pytest.fixture(scope="session")
def _demo_genome(tmp_path_factory: pytest.TempPathFactory) -> Refgenie:
    refgenie = Refgenie(Lab(tmp_path_factory.mktemp("demo")))
    refgenie.init()
    refgenie.genome("demo")
    return refgenie


@pytest.fixture
def refgenie(lab: Lab, _demo_genome: Refgenie) -> Iterator[Refgenie]:
    """The real refgenie, with a genome folder in which it has built `demo/fasta`."""
    refgenie = Refgenie(lab)
    refgenie.take(_demo_genome)
    try:
        yield refgenie
    finally:
        refgenie.close()


@pytest.fixture
def fresh_refgenie(lab: Lab) -> Iterator[Refgenie]:
    """The real refgenie, with a genome folder that it has just made."""
    refgenie = Refgenie(lab)
    refgenie.init()
    try:
        yield refgenie
    finally:
        refgenie.close()
