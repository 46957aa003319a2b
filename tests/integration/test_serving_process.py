"""`refgenied serve` from its start to its end, in the test's own process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import urllib.request
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
from parts import Parts
from server_lab import free_port
from synthetic import DIGEST, Genomes

from refgenied.config.settings import Control, Refgenie, Serving, Settings
from refgenied.model import ConfigError

pytestmark = [pytest.mark.anyio, pytest.mark.needs("refgenieserver")]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where systemd listens for our words; it wants to hear every 0.8 s that we live."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "800000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listener


def settings_of(root: Path) -> Settings:
    return Settings(
        refgenie=Refgenie(genome_folder=str(root / "genomes"), genome_archive_folder=str(root / "archives")),
        control=Control(socket=str(root / "control.sock")),
        serving=Serving(state_folder=str(root / "serving")),
    )


async def heard(systemd: socket.socket, word: str) -> str:
    """Wait for this word to systemd; all that was said with it."""

    def listen() -> str:
        while word not in (said := systemd.recv(4096).decode()):
            pass
        return said

    return await anyio.to_thread.run_sync(listen)


@asynccontextmanager
async def served(settings: Settings, systemd: socket.socket) -> AsyncGenerator[str]:
    """The address of a process that serves; it gets a SIGTERM at the end."""
    from refgenied.serve.process import ServingProcess  # noqa: PLC0415 - refgenieserver takes a second

    port = free_port()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(ServingProcess(settings, "127.0.0.1", port).run)
            await heard(systemd, "READY=1")
            yield f"http://127.0.0.1:{port}"
            os.kill(os.getpid(), signal.SIGTERM)
            await heard(systemd, "STOPPING=1")


async def test_it_serves_tells_systemd_so_and_ends_on_sigterm(
    parts: Parts, genomes: Genomes, systemd: socket.socket
) -> None:
    key = genomes.build()
    await parts.settle()
    record = await parts.record(key)
    assert record

    def got(address: str) -> bytes:
        with urllib.request.urlopen(address) as answer:
            return answer.read()

    async with served(settings_of(parts.root), systemd) as address:
        archive = f"{address}/v3/assets/archive/{DIGEST}/fasta?tag=default"
        data = await anyio.to_thread.run_sync(got, archive)
        assert hashlib.md5(data).hexdigest() == record.digest
        health = json.loads(await anyio.to_thread.run_sync(got, f"{address}/health"))
        assert health["archives"] == 1, health
        assert "STATUS=serving 1 archives" in await heard(systemd, "WATCHDOG=1")
    assert await anyio.to_thread.run_sync(lambda: list((parts.root / "serving").iterdir())), "what was counted is kept"


async def test_an_address_that_another_program_has_is_refused(tmp_path: Path) -> None:
    from refgenied.serve.process import ServingProcess  # noqa: PLC0415

    (tmp_path / "archives").mkdir()
    with socket.create_server(("127.0.0.1", free_port())) as other:
        process = ServingProcess(settings_of(tmp_path), *other.getsockname())
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1"):
            await process.run()


async def test_a_state_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    from refgenied.serve.process import ServingProcess  # noqa: PLC0415

    (tmp_path / "serving").touch()
    with pytest.raises(ConfigError, match=r"serving\.state_folder: .*/serving"):
        await ServingProcess(settings_of(tmp_path), "127.0.0.1", free_port()).run()


def test_without_an_archive_folder_there_is_nothing_to_serve(tmp_path: Path) -> None:
    from refgenied.serve.process import ServingProcess  # noqa: PLC0415

    settings = settings_of(tmp_path)
    settings = msgspec.structs.replace(
        settings, refgenie=msgspec.structs.replace(settings.refgenie, genome_archive_folder="")
    )
    with pytest.raises(ConfigError, match="nothing to serve"):
        ServingProcess(settings, "127.0.0.1", 1)
