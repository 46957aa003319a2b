"""Servers and who pulls from them: `refgenied serve`, the plain refgenieserver, an empty refgenie at the other end."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from lab import PATIENCE, SCRIPTS, Lab, command_of


def free_port() -> int:
    """A port that is free now, out of those that the kernel itself never gives: other tests run meanwhile."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Process:
    """A server on the loopback address; ready when its port answers."""

    def __init__(self, lab: Lab, name: str, command: list[str], port: int, env: dict[str, str] | None = None) -> None:
        self.port = port
        self.log = lab.root / f"{name}-{port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=lab.environment | (env or {}),
                cwd=lab.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert self.process.poll() is None, self.said
                assert time.monotonic() < deadline, self.said
                time.sleep(0.05)
            else:
                return

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Lines of the JSON log with this event."""
        lines = [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def get(self, path: str, *, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body."""
        request = urllib.request.Request(self.url + path, headers={"User-Agent": "test"} | (headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str) -> Any:
        status, body = self.get(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        sys.stdout.write(f"--- {self.log.name}\n{self.said}\n")
        assert "Traceback" not in self.said


def serve(lab: Lab, port: int | None = None, *, files: int = 0, **env: str) -> Process:
    """`refgenied serve` over the lab's archive folder, with a state folder of its own; `files`: RLIMIT_NOFILE."""
    port = port or free_port()
    command = [*command_of("refgenied", "refgenied"), "serve", "--config", str(lab.config), "--port", str(port)]
    if files:
        command = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
    return Process(lab, "serve", command, port, {"STATE_DIRECTORY": str(lab.root / "serve-state")} | env)


def plain(lab: Lab) -> Process:
    """The real refgenieserver, with the archive folder at /genomes in a mount namespace of its own.

    /genomes is a folder in a throw-away overlay of `/`'s names: nothing is left of it.
    """
    port = free_port()
    root = lab.root / "root"
    script = f"""
        set -e
        mount -t tmpfs none {root}
        for name in $(ls /); do
            if [ -L /$name ]; then
                cp -a /$name {root}/$name
            elif [ -d /$name ] && [ $name != genomes ]; then
                mkdir {root}/$name
                mount --rbind /$name {root}/$name
            fi
        done
        rm -f {root}/genomes
        mkdir {root}/genomes
        mount --bind {lab.archives} {root}/genomes
        exec chroot {root} {SCRIPTS / "refgenieserver"} serve -c /genomes/genome_config.yaml -p {port}
    """
    root.mkdir(exist_ok=True)
    return Process(lab, "plain", ["unshare", "-m", "sh", "-c", script], port)


class Puller:
    """A refgenie with nothing in it but the server's address."""

    def __init__(self, lab: Lab, name: str, server: Process) -> None:
        self.folder = lab.root / name
        self.folder.mkdir()
        self.config = self.folder / "genome_config.yaml"
        self._environment = lab.environment | {"REFGENIE": str(self.config), "HOME": str(self.folder)}
        self("init", "-c", str(self.config), "-s", server.url)

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            ["refgenie", *arguments],
            env=self._environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def pull(self, path: str) -> str:
        """`refgenie pull` exits 0 whatever happens: what it said."""
        return self("pull", path, "--force-overwrite", "--pull-large")

    def seek(self, path: str) -> str:
        done = subprocess.run(
            ["refgenie", "seek", path], env=self._environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def digest(self, alias: str) -> str:
        genomes = yaml.safe_load(self.config.read_text(encoding="utf-8"))["genomes"]
        return next(digest for digest, genome in genomes.items() if alias in genome["aliases"])

    def asset(self, path: str) -> Path:
        """Where the files of `alias/group:asset` are."""
        alias, _, name = path.partition("/")
        group, _, asset = name.partition(":")
        return self.folder / "data" / self.digest(alias) / group / (asset or "default")


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, by its path; without refgenie's build folder. Links are followed."""
    found: dict[str, bytes] = {}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "_refgenie_build"]
        for name in names:
            path = Path(top, name)
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found
