"""Saves which parts of archives clients have got. So a download that continues after a restart still counts."""

import json
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import structlog

from refgenied.files.durable import save_atomically
from refgenied.files.regular import read_regular
from refgenied.shared.pulls import Pulls

log = structlog.get_logger("serve")

SAVE_SECONDS = 5.0
"""Seconds between two writes. If the process is killed, newer parts are lost."""
MOST_FILE_BYTES = 64 << 20
BOOT = Path("/proc/sys/kernel/random/boot_id")


class PartialDownloads:
    def __init__(self, folder: Path, pulls: Pulls) -> None:
        self._path = folder / "unfinished.json"
        self._pulls = pulls
        self._said = False

    def open(self) -> None:
        """Read the file. A file that cannot be read is ignored, and replaced later. Blocking."""
        try:
            kept: Any = json.loads(read_regular(self._path, MOST_FILE_BYTES))
            if kept["boot"] == _boot():  # the times in the file count from the start of the machine
                self._pulls.load(kept["pulls"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            log.warning("serve.unfinished_unreadable", path=str(self._path), reason=str(error))

    async def run(self) -> None:
        """Ends only by cancellation. Call `keep` after that."""
        while True:
            await anyio.sleep(SAVE_SECONDS)
            await self.keep()

    async def keep(self) -> None:
        if not self._pulls.changed:
            return
        data = json.dumps({"boot": _boot(), "pulls": self._pulls.states()}).encode()
        try:
            await anyio.to_thread.run_sync(lambda: save_atomically(self._path, data, mode=0o600))
        except OSError as error:
            if not self._said:
                log.warning("serve.unfinished_not_kept", path=str(self._path), reason=error.strerror or str(error))
            self._said = True
        else:
            self._said = False


def _boot() -> str:
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
