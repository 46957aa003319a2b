"""Packs one asset in a process of its own and prints what it took, as one line of JSON.

usage: ours.py FOLDER OUT PRESET THREADS [proved]

The clock runs from the first system call on the asset's folder to the synced archive: as in the daemon, which is
there already. `proved` adds the read-back and the rename.
"""

import json
import resource
import sys
import time
from pathlib import Path

from refgenied.archive.creator import pack_asset
from refgenied.archive.format.codec import Compression, ContentAware
from refgenied.archive.format.manifest import About
from refgenied.archive.packer import pack_tree
from refgenied.archive.place import Place
from refgenied.archive.publisher import make_folders
from refgenied.archive.run import Run
from refgenied.genomes.walk import Tree
from refgenied.model import AssetKey

KEY = AssetKey("0123456789abcdef0123456789abcdef0123456789abcdef", "asset", "default")


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    folder, out, preset, threads = sys.argv[1:5]
    proved = sys.argv[5:] == ["proved"]
    place = Place(out, KEY)
    codec = ContentAware(Compression(preset))
    make_folders(place)
    began, cpu = time.monotonic(), cpu_seconds()
    with Tree(folder) as tree:
        if proved:
            draft = pack_asset(tree, place, About(created_at=0.0), Run(int(threads)), codec=codec)
            draft.publish()
            size = draft.manifest.size
        else:
            size = pack_tree(tree, place, 0, codec=codec, run=Run(int(threads))).size
    seconds, cpu = time.monotonic() - began, cpu_seconds() - cpu
    # Not ru_maxrss: that one begins with what the parent had when it forked.
    lines = Path("/proc/self/status").read_text().splitlines()
    memory = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "cpu": cpu, "size": size, "memory": memory}))


if __name__ == "__main__":
    main()
