"""What a recipe of the tests runs: write an asset's files, each beginning with the number of the round.

usage: write_asset.py FOLDER ROUND FILES BYTES SECONDS [fails]
"""

import random
import sys
import time
from pathlib import Path

CHUNKS = 4


def content(number: int, part: int, size: int) -> bytes:
    """Bytes of one file: `round N`, then what does not compress; the same for the same arguments."""
    head = b"round %d\n" % number
    return head + random.Random(number * 1000 + part).randbytes(size - len(head))


def write(folder: Path, number: int, files: int, size: int, seconds: float) -> None:
    """Write the files one after the other and in pieces, in place, as builds do."""
    pause = seconds / files / CHUNKS
    for part in range(files):
        data = content(number, part, size)
        step = -(-size // CHUNKS)
        with (folder / f"part{part}.bin").open("wb", buffering=0) as out:
            for start in range(0, size, step):
                out.write(data[start : start + step])
                time.sleep(pause)


def main() -> int:
    """The recipe's exit status."""
    folder, number, files, size, seconds = sys.argv[1:6]
    write(Path(folder), int(number), int(files), int(size), float(seconds))
    return 1 if sys.argv[6:] == ["fails"] else 0


if __name__ == "__main__":
    sys.exit(main())
