"""Random work in a genome folder of refgenie 0.13, with the notices that the kernel would give of it."""

import shutil
import time
from pathlib import Path
from random import Random

from genome_trees import DIGEST, Tree013
from link_fuzz import STEPS, differences, facts

from refgenied.genomes.folder import GenomeFolder

GROUPS = "fgh"
TAGS = ["default", "v2"]


class Worker0:
    """Builds, registers and removes assets, as refgenie 0.13 and people do; `noticed` has what a watch would have seen.

    A build of an asset that is there is seen when refgenie writes its config at the end.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.tree = Tree013(root)
        self.random = Random(seed)
        self.noticed: list[str] = []
        self.done: list[tuple[str, ...]] = []
        self.running: set[tuple[str, str]] = set()

    def place(self, group: str, tag: str) -> Path:
        return self.tree.root / "data" / DIGEST / group / tag

    def write(self) -> None:
        """As refgenie does it, at this moment."""
        new = self.tree.config.with_suffix(".new")
        new.write_bytes(self.tree.text())
        new.rename(self.tree.config)
        self.noticed.append(str(self.tree.config))

    def work(self) -> None:
        """One to three random pieces of work."""
        self.noticed = []
        works = (
            self.build,
            self.build,
            self.start,
            self.end,
            self.again,
            self.again,
            self.drop,
            self.remove,
            self.name,
        )
        for _ in range(self.random.choice([1, 1, 2, 3])):
            chosen, work = (self.random.choice(GROUPS), self.random.choice(TAGS)), self.random.choice(works)
            self.done.append((work.__name__, *chosen))
            work(*chosen)

    def start(self, group: str, tag: str) -> None:
        place = self.place(group, tag)
        if not place.exists():
            self.tree.asset(group, tag, flags=("running",))
            self.noticed.append(str(place))
            self.running.add((group, tag))

    def end(self, group: str, tag: str) -> None:
        if (group, tag) in self.running:
            self.running.discard((group, tag))
            self.tree.flags(group, tag, "completed")
            self.tree.entry(group, tag)
            self.write()

    def build(self, group: str, tag: str) -> None:
        self.start(group, tag)
        self.end(group, tag)

    def again(self, group: str, tag: str) -> None:
        """A build between two looks; its result is as before, or not."""
        if self.place(group, tag).exists() and (group, tag) not in self.running:
            self.tree.flags(group, tag, "running")
            self.tree.flags(group, tag, "completed")
            (self.place(group, tag) / "a.fa").write_text(f">a\n{self.random.random()}\n")
            if self.random.random() < 0.3:
                self.tree.entry(group, tag, asset_digest=f"{self.random.randrange(10**9):032}")
            else:
                self.noticed.append("")  # see `run`: a change of other entries hides it until the next write
            self.write()

    def drop(self, group: str, tag: str) -> None:
        """Take the entry out, and leave the files."""
        assets = self.tree.genomes.get(DIGEST, {}).get("assets", {})
        if tag in assets.get(group, {}).get("tags", {}):
            del assets[group]["tags"][tag]
            self.write()

    def remove(self, group: str, tag: str) -> None:
        if self.place(group, tag).exists():
            shutil.rmtree(self.place(group, tag))
            self.noticed.append(str(self.place(group, tag)))
            self.running.discard((group, tag))
        self.drop(group, tag)

    def name(self, group: str, tag: str) -> None:  # noqa: ARG002
        if DIGEST in self.tree.genomes:
            self.tree.genomes[DIGEST]["aliases"] = self.random.sample(["hg38", "human", "hs"], self.random.randrange(4))
            self.write()


def run(root: Path, seed: int, steps: int = STEPS) -> int:
    """Work and look again; each look at a part finds what a look at everything finds. Returns the steps taken."""
    worker = Worker0(root, seed)
    worker.build("f", "default")
    worker.write()
    folder = GenomeFolder(str(root), config=None)
    look = folder.look(time.time())
    for _ in range(steps):
        worker.work()
        now = time.time()
        if "" in worker.noticed:  # two writes in one look: the second one, of an equal text, is seen for itself
            look = folder.look_again(look, now, noticed=[path for path in worker.noticed if path])
            worker.write()
        look = folder.look_again(look, now, noticed=[path for path in worker.noticed if path])
        whole = GenomeFolder(str(root), config=None).look(now)
        said = f"seed {seed}: {worker.done}, noticed {worker.noticed}, full {look.full}"
        assert facts(look) == facts(whole), (said, differences(facts(look), facts(whole)))
        assert look.genomes == whole.genomes, said
        assert set(look.watch) >= set(whole.watch), (said, set(whole.watch) - set(look.watch))
        assert all(folder.asset(key, now) == asset for key, asset in whole.assets.items()), said
    return steps
