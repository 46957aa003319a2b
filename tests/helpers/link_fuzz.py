"""Random work in a genome folder of refgenie 1, with the notices that the kernel would give of it."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from random import Random

from genome_trees import GENOME

from refgenied.genomes.folder import GenomeFolder
from refgenied.model import ARCHIVABLE, AssetKey, AssetState, Look

ALIASES = {GENOME: ["hg38", "hs"], "a" * 32: ["mm", "mouse"], "b" * 32: ["zz"]}
ASSETS = ["default", "v2", "x"]
STEPS = 8


class Worker:
    """Builds, links and removes assets, as refgenie 1 and people do; `noticed` has what a watch would have seen."""

    def __init__(self, root: Path, variant: str, seed: int) -> None:
        self.root = root
        self.variant = variant
        self.random = Random(seed)
        self.noticed: list[Path] = []
        self.done: list[tuple[str, ...]] = []
        self.version = 0
        for name in ("data", "builds", "alias"):
            (root / name).mkdir(parents=True)

    def place(self, digest: str, group: str, asset: str, version: int = 0) -> Path:
        said = f"{digest}{group}{asset}{version}"
        name = hashlib.sha256(said.encode()).hexdigest() if self.variant == "digest" else asset
        return self.root / "data" / digest / group / name

    def build(self, digest: str, group: str, asset: str, alias: str) -> Path:
        if self.variant == "inside":
            return self.place(digest, group, asset) / "_refgenie_build"
        return self.root / "builds" / alias / group / asset

    def chosen(self) -> tuple[str, str, str, str]:
        digest = self.random.choice(list(ALIASES))
        return (
            digest,
            self.random.choice("fgh"),
            self.random.choice(ASSETS),
            self.random.choice(ALIASES[digest]),
        )

    def make(self, folder: Path) -> None:
        """Make a folder and notice it, as a watch of all that is there would."""
        if not folder.exists():
            self.noticed.append(folder)
            for above in folder.parents:
                if above.exists():
                    break
                self.noticed.append(above)
        folder.mkdir(parents=True, exist_ok=True)

    def flag(self, digest: str, group: str, asset: str, alias: str, flag: str) -> None:
        place, build = self.place(digest, group, asset), self.build(digest, group, asset, alias)
        self.make(place)
        (place / "x.fa").write_text("x")
        self.make(build)
        for old in build.glob("*.flag"):
            old.unlink()
        (build / f"refgenie_{alias}_{group}_{asset}_{flag}.flag").touch()
        self.noticed += [place, build if self.variant != "inside" else place]

    def link(self, digest: str, group: str, asset: str, alias: str, to: Path | None = None) -> None:
        folder = self.root / "alias" / alias / group / asset
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / "x.fa"
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath((to or self.place(digest, group, asset)) / "x.fa", folder))

    def work(self, *, visible: bool) -> None:
        """One random piece of work. `visible`: one that shows in a watched folder; alias/ is none."""
        self.noticed = []
        works = [self.new, self.new, self.start, self.end, self.again, self.remove]
        if not visible:
            works += [self.remove_data, self.remove_name, self.add_name, self.move_name, self.set_alias]
            works += [self.build_under_new_alias]
        chosen, work = self.chosen(), self.random.choice(works)
        build = self.build(*chosen)
        at_work = any(build.glob("*_running.flag"))
        if visible and work in {self.new, self.start, self.end} and not at_work and self.place(*chosen[:3]).exists():
            return  # a build of what is there already shows nowhere until a sweep
        self.done.append((work.__name__, chosen[0][:2], *chosen[1:]))
        work(*chosen)

    def new(self, *chosen: str) -> None:
        self.flag(*chosen, "completed")
        self.link(*chosen)

    def start(self, *chosen: str) -> None:
        self.flag(*chosen, "running")

    def end(self, *chosen: str) -> None:
        if self.build(*chosen).exists() and self.place(*chosen[:3]).exists():
            self.new(*chosen)

    def again(self, digest: str, group: str, asset: str, alias: str) -> None:  # noqa: ARG002
        """A build into another digest folder, under all aliases."""
        place = self.place(digest, group, asset)
        if self.variant != "digest" or not place.exists():
            return
        self.version += 1
        other = self.place(digest, group, asset, self.version)
        self.make(other)
        (other / "x.fa").write_text("y")
        for one in ALIASES[digest]:
            if (self.root / "alias" / one / group / asset).exists():
                self.link(digest, group, asset, one, other)
        if self.random.random() < 0.5:
            shutil.rmtree(place)
            self.noticed.append(place)

    def remove(self, digest: str, group: str, asset: str, alias: str) -> None:
        self.remove_data(digest, group, asset, alias)
        for one in ALIASES[digest]:
            self.remove_name(digest, group, asset, one)
            build = self.build(digest, group, asset, one)
            if build.exists():
                shutil.rmtree(build)
                self.noticed.append(build)

    def remove_data(self, digest: str, group: str, asset: str, alias: str) -> None:  # noqa: ARG002
        place = self.place(digest, group, asset)
        if place.exists():
            shutil.rmtree(place)
            self.noticed.append(place)

    def remove_name(self, digest: str, group: str, asset: str, alias: str) -> None:  # noqa: ARG002
        """The data folders to which it led are noticed."""
        folder = self.root / "alias" / alias / group / asset
        for link in folder.glob("*"):
            self.noticed.append(Path(os.path.normpath(folder / link.readlink())).parent)
        shutil.rmtree(folder, ignore_errors=True)

    def add_name(self, *chosen: str) -> None:
        place = self.place(*chosen[:3])
        if place.exists():
            self.link(*chosen)
            self.noticed.append(place)

    def move_name(self, digest: str, group: str, asset: str, alias: str) -> None:
        places = [self.place(digest, group, one) for one in ASSETS]
        self.link(digest, group, asset, alias, self.random.choice(places))
        self.noticed += places

    def set_alias(self, digest: str, group: str, asset: str, alias: str) -> None:  # noqa: ARG002
        for folder in (self.root / "data" / digest).glob("*/*"):
            name = folder.name if self.variant != "digest" else "default"
            self.link(digest, folder.parent.name, name, alias, folder)
            self.noticed.append(folder)

    def build_under_new_alias(self, digest: str, group: str, asset: str, alias: str) -> None:
        """The alias is set for all assets, which nobody notices, and then one of them is built again under it."""
        place = self.place(digest, group, asset)
        if not place.exists():
            return
        for folder in (self.root / "data" / digest).glob("*/*") if self.variant != "digest" else [place]:
            name = folder.name if self.variant != "digest" else asset
            self.link(digest, folder.parent.name, name, alias, folder)
        self.flag(digest, group, asset, alias, "running")


Facts = dict[AssetKey, tuple[object, ...]]


def facts(look: Look) -> Facts:
    return {key: (one.state.value, one.stamp, one.aliases, one.folder) for key, one in look.assets.items()}


def differences(one: Facts, other: Facts) -> list[object]:
    return [(key, one.get(key), other.get(key)) for key in one.keys() | other.keys() if one.get(key) != other.get(key)]


def entries(folders: Iterable[str]) -> set[tuple[str, int]]:
    """What is in these folders: paths and inodes."""
    found: set[tuple[str, int]] = set()
    for folder in folders:
        with suppress(FileNotFoundError):
            found |= {(entry.path, entry.inode()) for entry in os.scandir(folder)}
    return found


def run(root: Path, variant: str, seed: int, *, watched: bool = False) -> int:
    """Work and look again; each look at a part finds what a look at everything finds. Returns the steps taken.

    `watched`: only what the folders of `Look.watch` show is noticed; otherwise all that has to do with the work.
    """
    worker = Worker(root, variant, seed)
    for _ in range(worker.random.randrange(4)):
        worker.work(visible=watched)
    folder = GenomeFolder(str(root), config=None)
    look = folder.look(time.time())
    for _ in range(STEPS):
        before = entries(look.watch)
        worker.work(visible=watched)
        now = time.time()
        noticed = {str(path) for path in worker.noticed}
        if watched:
            noticed = {path for path, _ in before ^ entries(look.watch)}
        ones = {key: folder.asset(key, now) for key in look.assets}
        again = folder.look_again(look, now, noticed=noticed)
        whole = GenomeFolder(str(root), config=None).look(now)
        said = f"{variant}, seed {seed}: {worker.done}, noticed {noticed}"
        for key, one in ones.items():
            want = whole.assets.get(key)
            if one and one.state in ARCHIVABLE:
                assert want is None or want.state is not AssetState.BUILDING, said
        assert facts(again) == facts(whole), (said, differences(facts(again), facts(whole)))
        assert again.genomes == whole.genomes, said
        assert set(again.watch) >= set(whole.watch), (said, set(whole.watch) - set(again.watch))
        assert all(folder.asset(key, now) == asset for key, asset in whole.assets.items()), said
        look = again
    return STEPS
