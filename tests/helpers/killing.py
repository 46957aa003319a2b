"""`refgenied` with a pack that kills its own process at one asset group, as memory that runs out would.

python killing.py GROUP run --config …
"""

import os
import signal
import sys

from refgenied import __main__
from refgenied.archive.place import Place
from refgenied.queue import archiver

real = archiver.pack_asset
group = sys.argv.pop(1)


def pack(tree: object, place: Place, *arguments: object, **named: object) -> object:
    if place.key.asset_group == group:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(tree, place, *arguments, **named)  # pyright: ignore


archiver.pack_asset = pack
sys.exit(__main__.main())
