"""`refgeniectl downloads import` for a daemon that once had archives of the sizes that are asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import anyio.to_thread
from controlled import served
from parts import Parts, running
from synthetic import DIGEST, Genomes
from transactions import transaction
from web_servers import SIZES

from refgenied.client import Client
from refgenied.client.commands.downloads import import_log
from refgenied.client.session import Session


class Importer:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.said: dict[str, Any] = {}
        """What the last import printed."""
        self._files = 0

    @property
    def notes(self) -> list[str]:
        return self.said["notes"]

    async def __call__(self, lines: list[bytes] | bytes, name: str = "") -> int:
        """Import a file with these lines; how many downloads are counted in all."""
        self._files += 1
        path = self.parts.root / (name or f"{self._files}.log")
        path.write_bytes(lines if isinstance(lines, bytes) else b"".join(lines))
        await anyio.to_thread.run_sync(self._import, path)
        async with transaction(self.parts.store) as tx:
            rows = await tx.all("SELECT COUNT(*) FROM download")
        return int(rows[0][0])

    def _import(self, path: Path) -> None:
        with Client.connect(str(self.parts.root / "control.sock"), timeout=60) as client, StringIO() as out:
            with redirect_stdout(out):
                import_log(Session(client=client, json=True), log=str(path))
            self.said = json.loads(out.getvalue())


@asynccontextmanager
async def importing(genomes: Genomes) -> AsyncGenerator[Importer]:
    async with running(genomes) as parts:
        async with transaction(parts.store) as tx:
            for group, size in SIZES.items():
                values = (DIGEST, group, "default", f"md5 of {group}", size, 1.0)
                await tx.execute("INSERT INTO edition VALUES (?, ?, ?, ?, ?, ?)", values)
        async with served(parts):
            yield Importer(parts)
