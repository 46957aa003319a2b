"""`refgenied serve` as a process: what it gives out while archives change, what it counts, how it starts and ends."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import yaml
from lab import Lab, command_of
from parts import Parts, running
from server_lab import Process, free_port, serve
from synthetic import ALIAS, DIGEST, Genomes

from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames
from refgenied.config.settings import Serving
from refgenied.files.durable import save_atomically
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.model import AssetKey, Requester

pytestmark = [pytest.mark.anyio, pytest.mark.needs("refgenieserver")]

ATTRS = f"/v3/assets/attrs/{DIGEST}/fasta?tag=default"
ARCHIVE = f"/v3/assets/archive/{DIGEST}/fasta?tag=default"


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Stand:
    """An archive folder that the daemon's parts keep, and a server of it. No daemon listens."""

    def __init__(self, parts: Parts, genomes: Genomes, server: Process) -> None:
        self.parts = parts
        self.genomes = genomes
        self.server = server

    async def rebuild(self, content: bytes) -> str:
        """The new archive's digest, once the server has it in view."""
        loads = len(self.server.logged("serve.config_loaded"))
        key = self.genomes.build(fasta=content)
        await self.parts.settle()
        wait_for(lambda: len(self.server.logged("serve.config_loaded")) > loads)
        record = await self.parts.record(key)
        assert record
        return record.digest

    def told(self, client: str = "10.0.0.1") -> str:
        """The digest that this client is told of."""
        status, body = self.server.get(ATTRS, headers={"X-Forwarded-For": client})
        assert status == 200, body
        return json.loads(body)["archive_digest"]

    def got(self, client: str = "10.0.0.1", **headers: str) -> str:
        """The md5 of the archive that this client gets."""
        status, body = self.server.get(ARCHIVE, headers={"X-Forwarded-For": client} | headers)
        assert status in (200, 206)
        return hashlib.md5(body).hexdigest()

    @property
    def counted(self) -> int:
        return self.server.json("/health")["downloads_waiting"]


def wait_for(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@asynccontextmanager
async def stand(tmp_path: Path, size: int = 100_000, **serving: object) -> AsyncGenerator[Stand]:
    genomes = Genomes(tmp_path / "genomes")
    genomes.build(fasta=noise(0, size))
    (tmp_path / "lab").mkdir()
    lab = Lab(tmp_path / "lab")
    lab.configure(refgenie={"genome_folder": str(genomes.root), "genome_archive_folder": str(tmp_path / "archives")})
    async with running(genomes) as parts:
        parts.current.settings = msgspec.structs.replace(parts.current.settings, serving=Serving(**serving))
        await parts.settle()
        server = serve(lab)
        try:
            yield Stand(parts, genomes, server)
        finally:
            server.close()


async def test_a_new_archive_comes_without_a_restart(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        first = it.told()
        second = await it.rebuild(noise(1, 100_000))
        assert it.told("10.0.0.2") == it.got("10.0.0.2") == second != first
        assert hashlib.md5(it.server.get(f"/v2/asset/{ALIAS}/fasta/archive")[1]).hexdigest() == second


async def test_who_was_told_of_an_archive_gets_that_one(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        first = it.told()
        second = await it.rebuild(noise(1, 90_000))
        assert it.told("10.0.0.2") == second
        assert it.got("10.0.0.2") == second
        assert it.told() == first, "two of one address must not be told different things"
        assert [it.got(), it.got()] == [first, first]
        ended(it.server, 3)  # the server learns a moment after the client that it has everything
        assert it.told() == it.got() == second, "and now the new one"


async def test_refgenies_two_requests_both_get_what_it_was_told_of(tmp_path: Path) -> None:
    async with stand(tmp_path, size=500) as it:
        first = it.told()
        agent = {"User-Agent": "Python-urllib/3.11"}
        await it.rebuild(noise(1, 400))
        assert [it.got(**agent), it.got(**agent)] == [first, first]
        assert ended(it.server, 2) == [True, True]
        assert it.counted == 1


def request(server: Process, *lines: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    text = "\r\n".join([f"GET {ARCHIVE} HTTP/1.1", "Host: x", "User-Agent: raw", *lines, "", ""])
    connection.sendall(text.encode())
    return connection


def read(connection: socket.socket, number: int) -> bytes:
    found = b""
    while len(found) < number and (chunk := connection.recv(min(65536, number - len(found)))):
        found += chunk
    return found


def ended(server: Process, number: int) -> list[bool]:
    """Wait until so many transfers have ended: whether each was delivered."""
    wait_for(lambda: len([row for row in server.logged("request") if "delivered" in row]) >= number)
    return [row["delivered"] for row in server.logged("request") if "delivered" in row]


@pytest.mark.parametrize("size", [100_000, 20_000_000])
async def test_an_aborted_transfer_is_not_counted(tmp_path: Path, size: int) -> None:
    async with stand(tmp_path, size=size) as it:
        with request(it.server) as connection:
            read(connection, size // 2)
        assert ended(it.server, 1) == [False]
        assert it.counted == 0
        it.got()
        assert ended(it.server, 2) == [False, True]
        assert it.counted == 1


async def test_a_client_that_stays_connected_is_counted(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        with request(it.server) as connection:
            size = (await it.parts.record(AssetKey(DIGEST, "fasta", "default"))).size
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1)
            assert len(read(connection, size)) == size
            assert ended(it.server, 1) == [True]
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b'"downloads_waiting": 1' in read(connection, 10_000)


async def test_ranges_are_one_download(tmp_path: Path) -> None:
    async with stand(tmp_path, size=300_000) as it:
        for span in ("0-99999", "100000-199999", "0-99999"):
            it.got(Range=f"bytes={span}")
        ended(it.server, 3)
        assert it.counted == 0
        it.got(Range="bytes=200000-")
        ended(it.server, 4)
        assert it.counted == 1


async def test_a_config_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        first = it.told("a")
        config = Path(it.parts.archive_folder.path, CONFIG_NAME)
        good = config.read_bytes()
        config.write_text("genomes: [")
        wait_for(lambda: it.server.get("/health")[0] == 503)
        assert it.told("b") == it.got("b") == first
        config.write_bytes(good)
        wait_for(lambda: it.server.get("/health")[0] == 200)
        assert it.told("c") == first


async def test_it_starts_without_a_config_and_waits_for_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.archives.mkdir()
    server = serve(lab)
    try:
        status, body = server.get("/health")
        assert (status, json.loads(body)["archives"]) == (503, 0)
        assert server.get("/")[0] == 200
        (lab.archives / CONFIG_NAME).write_text("config_version: 0.4\ngenomes: {}\n")
        wait_for(lambda: server.get("/health")[0] == 200)
    finally:
        server.close()


async def test_remotes_send_clients_elsewhere(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        assert it.server.json("/v3/remotes/dict") == {}
        it.parts.current.settings = msgspec.structs.replace(
            it.parts.current.settings, serving=Serving(remotes={"http": "http://127.0.0.1:9/x", "s3": "s3://bucket/x"})
        )
        await it.parts.catalog.refresh()
        wait_for(lambda: len(it.server.json("/v3/remotes/dict")) == 2)
        with request(it.server, "Connection: close") as connection:
            assert f"location: http://127.0.0.1:9/x/{DIGEST}/fasta__default.tgz" in read(connection, 10_000).decode()
        path = f"/v3/assets/file_path/{DIGEST}/fasta/fasta"
        assert it.server.get(path)[1].decode() == f"http://127.0.0.1:9/x/{DIGEST}/fasta__default/fasta"
        assert it.server.get(f"{path}?remoteClass=s3")[1].decode() == f"s3://bucket/x/{DIGEST}/fasta__default/fasta"
        assert it.counted == 0


async def test_without_an_http_remote_the_folder_itself_is_served(tmp_path: Path) -> None:
    async with stand(tmp_path, remotes={"s3": "s3://bucket/x"}) as it:
        assert it.server.json("/v3/remotes/dict")["s3"]["prefix"] == "s3://bucket/x"
        assert it.got() == it.told()
        assert it.server.get(f"/v2/asset/{ALIAS}/fasta/archive")[0] == 200
        path = it.server.get(f"/v3/assets/file_path/{DIGEST}/fasta/fasta?remoteClass=s3")[1]
        assert path.startswith(b"s3://bucket/x/")


async def test_file_paths_lead_to_real_files(tmp_path: Path) -> None:
    async with stand(tmp_path, files=True) as it:
        path = it.server.get(f"/v3/assets/file_path/{DIGEST}/fasta/fasta?tag=default")[1].decode()
        assert Path(path).read_bytes() == noise(0, 100_000)


async def test_every_route_answers(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        paths: dict[str, dict[str, object]] = it.server.json("/openapi.json")["paths"]
        assert {path.split("/")[1] for path in paths} >= {"v1", "v2", "v3", "assets", "genomes", "_private_api"}
        names = {"genome": DIGEST, "asset": "fasta", "tag": "default", "seek_key": "fasta", "alias": ALIAS}
        missing = []
        for path in paths:
            genome = ALIAS if path.startswith(("/v1", "/v2")) else DIGEST  # the older routes speak of aliases
            status, body = it.server.get(path.format(**(names | {"genome": genome})))
            if status != 200:
                missing.append((path, status, body))
        assert {path.rsplit("/", 1)[0] for path, _, _ in missing} <= NO_RECIPE_OR_LOG, missing
        for page in ("/static/style.css", "/static/refgenie_logo.svg", "/docs"):
            assert it.server.get(page)[0] == 200


NO_RECIPE_OR_LOG = {
    "/assets/recipe/{genome}",
    "/assets/log/{genome}",
    "/v3/assets/recipe/{genome}",
    "/v3/assets/log/{genome}",
    "/v2/asset/{genome}/{asset}",
}
"""The made-up asset has neither: 404 is right."""


async def test_sigterm_lets_a_download_end(tmp_path: Path) -> None:
    async with stand(tmp_path, size=20_000_000) as it:
        with request(it.server) as connection:
            first = read(connection, 100_000)
            it.server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: it.server.logged("serve.signal"))
            rest = read(connection, 30_000_000)
            head, _, body = (first + rest).partition(b"\r\n\r\n")
            assert f"content-length: {len(body)}" in head.decode().lower()
        assert it.server.process.wait(20) == 0
        assert it.server.logged("serve.stopped")[0]["waiting"] == 1


def test_a_port_that_is_taken_is_one_line_and_78(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.archives.mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [*command_of("refgenied", "refgenied"), "serve", "--config", str(lab.config), "--port", str(port)],
            env=lab.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 78
    assert done.stderr.splitlines()[-2:] == [
        f"refgenied: cannot listen on 127.0.0.1 port {port}: Address already in use",
        "hint: name another with --host and --port, or serving.host and serving.port",
    ]


def test_it_needs_no_genome_folder(tmp_path: Path) -> None:
    archives = tmp_path / "archives"
    archives.mkdir()
    (archives / CONFIG_NAME).write_text("config_version: 0.4\ngenomes: {}\n")
    lab = Lab(tmp_path)
    lab.config.write_text("")
    port = free_port()
    command = [*command_of("refgenied", "refgenied"), "serve", "--config", str(lab.config)]
    command += ["--genome-archive-folder", str(archives), "--port", str(port)]
    server = Process(lab, "alone", command, port, {"STATE_DIRECTORY": str(tmp_path / "state"), "REFGENIE": ""})
    try:
        assert server.json("/health")["status"] == "ok"
        assert sorted(path.name for path in archives.iterdir()) == [CONFIG_NAME], "it writes nothing there"
    finally:
        server.close()


def test_many_more_archives_than_descriptors(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    folder = lab.archives / DIGEST
    folder.mkdir(parents=True)
    assets: dict[str, object] = {}
    for number in range(200):
        content = noise(number, 20_000)
        tag = {"asset_path": "x", "asset_digest": "d", "asset_size": "1", "archive_size": "1", "seek_keys": {"x": "x"}}
        tag |= {"archive_digest": hashlib.md5(content).hexdigest(), "asset_parents": [], "asset_children": []}
        assets[f"a{number}"] = {"default_tag": "default", "tags": {"default": tag}}
        (folder / f"a{number}__default.tgz").write_bytes(content)
    genomes = {DIGEST: {"aliases": ["t7"], "assets": assets}}
    head = {"config_version": 0.4, "genome_folder": "/nowhere", "genome_archive_folder": str(lab.archives)}
    (lab.archives / CONFIG_NAME).write_text(yaml.safe_dump(head | {"genomes": genomes}))
    server = serve(lab, files=64)
    try:
        assert server.json("/health")["archives"] == 200
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        wait_for(lambda: server.logged("serve.connections_wait"))
        for connection in silent:
            connection.close()
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda number: server.get(f"/v3/assets/archive/{DIGEST}/a{number}"), range(200)))
        assert [status for status, _ in answers] == [200] * 200
        assert all(body == noise(number, 20_000) for number, (_, body) in enumerate(answers))
        assert len(server.logged("serve.connections_wait")) == 1
        assert len(server.said) < 200_000
    finally:
        server.close()


def test_systemds_watchdog_is_fed(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.archives.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        server = serve(lab, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
        try:
            assert systemd.recv(1000) == b"READY=1"
            for _ in range(3):
                assert systemd.recv(1000).startswith(b"WATCHDOG=1\nSTATUS=serving 0 archives; ")
        finally:
            server.close()


async def test_a_file_that_another_program_replaced_is_never_given_out(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        first = it.told()
        names = ServedNames(Place(it.parts.archive_folder.path, AssetKey(DIGEST, "fasta", "default")))
        content = names.archive.read_bytes()
        nested = names.place.archive.rename(tmp_path / "aside")
        for data in (b"x" * len(content), None):
            names.archive.unlink()
            if data:
                names.archive.write_bytes(data)
            with request(it.server) as connection:
                answer = read(connection, 200).decode().lower()
            assert answer.startswith("http/1.1 503 ")
            assert "retry-after: 5" in answer
        save_atomically(names.archive, content)  # a backup that was put back: the same bytes in another file
        it.server.get(ARCHIVE)
        wait_for(lambda: it.server.get(ARCHIVE)[0] == 200)
        assert it.got() == first
        nested.rename(names.place.archive)


async def test_the_same_bytes_archived_again_are_given_out_at_once(tmp_path: Path) -> None:
    async with stand(tmp_path) as it:
        first = it.told()
        key = AssetKey(DIGEST, "fasta", "default")
        names = ServedNames(Place(it.parts.archive_folder.path, key))
        before = names.archive.stat().st_ino
        record = await it.parts.record(key)
        await it.parts.jobs.enqueue(key, stamp=record.stamp, priority=1, force=True, requester=Requester("ann", 1, 2))
        await it.parts.work()
        await it.parts.catalog.refresh()
        assert names.archive.stat().st_ino != before
        for hidden in names.folder.glob(".*.tgz"):
            hidden.unlink()
        assert it.got() == it.told() == first


async def test_without_hard_links_a_promise_ends_with_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "link", no_links)
    async with stand(tmp_path) as it:
        first = it.told()
        second = await it.rebuild(noise(1, 90_000))
        assert it.server.get(ARCHIVE, headers={"X-Forwarded-For": "10.0.0.1"})[0] == 503
        assert it.told() == it.got() == second != first


@pytest.mark.parametrize(
    "path",
    [
        f"/v3/genomes/splash/{'0' * 48}",
        f"/v3/assets/splash/{'0' * 48}/fasta",
        f"/v3/assets/splash/{DIGEST}/gone",
        f"/v3/assets/splash/{DIGEST}/fasta?tag=gone",
        "/v2/genome/gone/genome_digest",
        "/v2/asset/gone/fasta/splash",
        f"/v2/asset/{ALIAS}/gone/splash",
        "/v2/asset/gone/fasta/recipe",
        "/v1/asset/gone/fasta/archive",
    ],
)
async def test_what_is_not_there_is_not_found_and_one_short_line(tmp_path: Path, path: str) -> None:
    async with stand(tmp_path) as it:
        before = len(it.server.said)
        assert it.server.get(path)[0] == 404
        wait_for(lambda: len(it.server.logged("request")) == 1)
        assert len(it.server.said) - before < 2_000
