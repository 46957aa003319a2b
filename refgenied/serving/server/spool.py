"""Downloads on their way to the daemon: each is a small file until the daemon has recorded it."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import structlog

from refgenied.client import Client, ClientError, DaemonError
from refgenied.files import save_atomically
from refgenied.model import AssetKey

log = structlog.get_logger("serve")

FIELDS = ("id", "genome_digest", "asset_group", "asset", "digest", "at")
BATCH = 200
BATCH_BYTES = 48 * 1024
"""Of the downloads in one request, whose line must not pass 64 KiB: names may be long."""
LONGEST_DIGEST = 64
"""Of those that the daemon takes; another program's config may say anything."""
RETRY_SECONDS = (1.0, 30.0)
"""The first wait and the longest one, when the daemon does not answer."""
ANSWER_SECONDS = 10.0


class Spool:
    """`count` returns at once; `run` writes to disk and reports. Nothing is counted twice: each download has an id."""

    def __init__(self, folder: Path, socket: str) -> None:
        self._folder = folder / "downloads"
        self._socket = socket
        self._new: list[dict[str, Any]] = []
        self._arrived = anyio.Event()
        self.waiting = 0
        """Downloads that the daemon has not recorded yet."""
        self.problem = ""
        """Why not; empty when the last report got through."""

    def open(self) -> None:
        """Make the folder, and count what an earlier process has left. OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.waiting = len(self._names())

    def count(self, key: AssetKey, digest: str, at: float) -> str:
        """Take one download; its id."""
        number = uuid.uuid4().hex
        self._new.append(
            {
                "id": number,
                "genome_digest": key.genome_digest,
                "asset_group": key.asset_group,
                "asset": key.asset,
                "digest": digest if len(digest) <= LONGEST_DIGEST else "",
                "at": at,
            }
        )
        self.waiting += 1
        self._arrived.set()
        return number

    async def run(self) -> None:
        """Ends only by cancellation; `flush` after that."""
        wait = RETRY_SECONDS[0]
        while True:
            reported = await self._step()
            wait = RETRY_SECONDS[0] if reported else min(wait * 2, RETRY_SECONDS[1])
            with anyio.move_on_after(None if reported else wait):
                await self._arrived.wait()

    async def flush(self) -> None:
        """Before the end: nothing is left in memory alone."""
        await self._step()

    async def _step(self) -> bool:
        """Whether nothing is left to report."""
        self._arrived = anyio.Event()
        new, self._new = self._new, []
        try:
            problem = await anyio.to_thread.run_sync(self._write_and_report, new)
        except OSError as error:
            self._new = new + self._new
            problem = f"{self._folder}: {error.strerror or error}"
        self._say(problem)
        return not problem

    def _write_and_report(self, new: list[dict[str, Any]]) -> str:
        for download in new:
            path = self._folder / f"{download['id']}.json"
            save_atomically(path, json.dumps(download).encode())
        names = self._names()
        if not names:
            return ""
        try:
            with Client.connect(self._socket, timeout=ANSWER_SECONDS) as client:
                while names:
                    names = names[self._report(client, names) :]
        except DaemonError as error:
            return f"the daemon does not take them: {error.message}"
        except ClientError as error:
            return error.message
        return ""

    def _report(self, client: Client, names: list[str]) -> int:
        """Report the first of them in one request; how many are done with."""
        downloads: list[dict[str, Any]] = []
        done = size = 0
        for name in names[:BATCH]:
            download = self._read(name)
            size += len(json.dumps(download)) if download else 0
            if downloads and size > BATCH_BYTES:
                break
            if download:
                downloads.append(download)
            done += 1
        client.request("download.record", {"downloads": downloads})
        for name in names[:done]:
            (self._folder / name).unlink(missing_ok=True)
        self.waiting -= done
        return done

    def _read(self, name: str) -> dict[str, Any] | None:
        """None for one that a crash of the machine, or somebody, has garbled: it is put aside for the others."""
        path = self._folder / name
        try:
            found = json.loads(path.read_bytes())
            return {field: found[field] for field in FIELDS}
        except (ValueError, KeyError, TypeError, RecursionError):
            damaged = path.with_suffix(".damaged")
            path.rename(damaged)
            log.warning("serve.download_damaged", path=str(damaged))
            return None

    def _names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._folder) if name.endswith(".json"))

    def _say(self, problem: str) -> None:
        if problem and not self.problem:
            log.warning("serve.downloads_wait", waiting=self.waiting, reason=problem)
        elif self.problem and not problem:
            log.info("serve.downloads_reported")
        self.problem = problem
