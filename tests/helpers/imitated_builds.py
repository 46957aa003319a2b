"""Builds one asset again and again in refgenie's exact order on disk, some hundred times faster than refgenie itself.

usage: imitated_builds.py GENOMES DIGEST ALIAS ROUNDS SECONDS

Each round is a `build -N` of `ALIAS/rounds:default`: data overwritten in place, while the config entry and the target
flag of the round before are still there. For each finished round it prints `ROUND NANOSECONDS ASSET_DIGEST`, the time
being that of the completed flag.
"""

import hashlib
import json
import random
import sys
import time
from pathlib import Path

PARTS = 5
SIZE = 200_000
SETTLED = 0.6
"""The share of a build in which its data and its entry are there already, but its completed flag is not."""
TAIL = 20
"""After every TAILth round it waits for a line on stdin, so that archives of many rounds are made."""


def content(number: int, part: int, size: int) -> bytes:
    head = b"round %d\n" % number
    return head + random.Random(number * PARTS + part).randbytes(size - len(head))


class Building:
    """One asset of one genome, in the layout of refgenie 0.13, the only one in the genome folder."""

    def __init__(self, genomes: Path, digest: str, alias: str, size: int = SIZE) -> None:
        self.config = genomes / "genome_config.yaml"
        self.genomes, self.digest, self.alias = genomes, digest, alias
        self.folder = genomes / "data" / digest / "rounds" / "default"
        self.side = self.folder / "_refgenie_build"
        self.size = size
        self.asset_digest = ""
        self.side.mkdir(parents=True)

    def build(self, number: int, seconds: float) -> int:
        """One round; the mtime of its completed flag in nanoseconds."""
        running, completed = (
            self.side / f"refgenie_DEFAULT_SAMPLE_NAME_{word}.flag" for word in ("running", "completed")
        )
        lock = self.side / f"lock.{self.digest}_rounds__default.flag"
        self._log(f"round {number} begins")
        completed.unlink(missing_ok=True)
        running.touch()
        lock.touch()
        hashes: list[str] = []
        for part in range(PARTS):
            data = content(number, part, self.size)
            hashes.append(hashlib.md5(data).hexdigest())
            with (self.folder / f"part{part}.bin").open("wb", buffering=0) as out:
                for start in range(0, self.size, self.size // 2):
                    out.write(data[start : start + self.size // 2])
                    time.sleep(seconds * (1 - SETTLED) / PARTS / 2)
        (self.side / f"{self.digest}_rounds__default.flag").touch()
        lock.unlink()
        (self.side / "build_recipe_rounds__default.json").write_text(json.dumps({"name": "rounds"}), encoding="utf-8")
        self.asset_digest = hashlib.md5("".join(f"{one}\n" for one in hashes).encode()).hexdigest()
        self._write_config()
        time.sleep(seconds * SETTLED)  # all is there and registered, but refgenie has not said so yet
        running.unlink()
        completed.touch()
        at = completed.stat().st_mtime_ns
        self._log(f"round {number} ends")
        self._write_config()
        self._link()
        return at

    def _log(self, text: str) -> None:
        with (self.side / "refgenie_log.md").open("a", encoding="utf-8") as log:
            log.write(f"{text}\n")
        (self.side / "stats.yaml").write_text(f"last: {text}\n", encoding="utf-8")

    def _write_config(self) -> None:
        """In place, empty for some milliseconds, guarded by refgenie's lock file."""
        guard = self.config.with_name(f"lock-{self.config.name}")
        guard.touch()
        text = f"""\
config_version: 0.4
genome_folder: {self.genomes}
genome_servers: [http://127.0.0.1:9]
genomes:
  {self.digest}:
    aliases: [{self.alias}]
    assets:
      rounds:
        default_tag: default
        tags:
          default:
            asset_digest: {self.asset_digest}
            asset_path: rounds
            asset_parents: []
            seek_keys:
              rounds: part0.bin
"""
        with self.config.open("w", encoding="utf-8") as out:
            time.sleep(0.008)
            out.write(text)
        guard.unlink()

    def _link(self) -> None:
        links = self.genomes / "alias" / self.alias / "rounds" / "default"
        links.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            link = links / path.name
            if path.is_file() and not link.is_symlink():
                link.symlink_to(Path("../../../..") / path.relative_to(self.genomes))


def main() -> None:
    """Build all rounds, with rests of changing length between them."""
    genomes, digest, alias, rounds, seconds = sys.argv[1:]
    dice = random.Random(2)
    building = Building(Path(genomes), digest, alias)
    for number in range(1, int(rounds) + 1):
        at = building.build(number, float(seconds))
        sys.stdout.write(f"{number} {at} {building.asset_digest}\n")
        sys.stdout.flush()
        if number % TAIL == 0:
            sys.stdin.readline()
        time.sleep(dice.uniform(0, 0.12))


if __name__ == "__main__":
    main()
