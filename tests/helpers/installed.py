"""The service on a machine: its folders, its configuration, its client."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from machine import Machine, Said
from synthetic import Genomes

from refgenied.model import AssetKey

GENOMES = Path("/srv/genomes")
ARCHIVES = Path("/srv/archives")
CONFIG = "/etc/refgenied/config.toml"
OF_TESTS = ("/srv/late", "/srv/other", "/srv/real", "/srv/pull", "/opt/probe")
SETTINGS = f"""\
[refgenie]
genome_folder = "{GENOMES}"
genome_archive_folder = "{ARCHIVES}"
[watch]
settle_seconds = 0.1
"""
WHOLE = ("etc", "run/refgenied")
NAMES = (
    ".",
    "run",
    "var/lib",
    "var/mail",
    "srv",
    "opt",
    "root",
    "home",
    "usr/lib/systemd/system",
    "usr/lib/sysusers.d",
)
"""Where an installation could leave something: compared in whole, and by the names that are there …"""
NOT_OURS = ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock", "etc/subuid-", "etc/subgid-")
"""… and the copies that the account tools keep of what they change."""

DATA = ("var/lib/refgenied", "etc/refgenied", "srv/demo", "srv/recipe", "srv/restored")


class Service:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run("useradd", "--no-create-home", "alice")
        machine.run("useradd", "--no-create-home", "bob")
        machine.run("useradd", "--create-home", "--home-dir", "/srv/carol", "carol")
        for folder in (*map(str, (GENOMES, ARCHIVES)), *OF_TESTS):
            machine.file(folder).mkdir(parents=True)
        machine.file("/srv/other").chmod(0o777)
        self.genomes = Genomes(machine.file(GENOMES), GENOMES)
        self.genomes.build()
        self.before = self.tree()
        self._bigs: list[AssetKey] = []

    def install(self) -> None:
        """The three commands of the README (the first, pip install, is done), and alice joins the group."""
        folders = ("--genome-folder", GENOMES, "--genome-archive-folder", ARCHIVES)
        self.said = self.machine.run("refgenied", "init", *folders).out
        self.said += self.machine.run("refgenied", "install-units").out
        self.machine.run("systemctl", "enable", "--now", "refgenied.socket", "refgenied.service")
        self.machine.run("usermod", "-aG", "refgenie", "alice")

    def reset(self) -> None:
        """As it was installed; what a test has built to be long at work is gone."""
        while self._bigs:
            self.genomes.remove(self._bigs.pop())
        self.configure()
        self.machine.drop_in("")
        self.machine.run("systemctl", "start", "refgenied.socket", "refgenied.service")

    def configure(self, more: str = "", settings: str = SETTINGS) -> None:
        self.machine.file(CONFIG).write_text(settings + more)

    def install_for(self, genomes: Path) -> None:
        """Name another genome folder, and write the units anew."""
        self.configure(settings=SETTINGS.replace(str(GENOMES), str(genomes)))
        self.machine.run("refgenied", "install-units")
        self.restart()

    def restart(self) -> None:
        self.machine.run("systemctl", "restart", "refgenied.service")

    def ctl(self, *words: str, user: str = "root", check: bool = True) -> Said:
        return self.machine.run("refgeniectl", *words, user=user, check=check)

    def rows(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ctl(*words, "--json").out.splitlines()]

    @property
    def info(self) -> dict[str, Any]:
        return self.rows("status")[0]

    def big(self, group: str, size: int) -> str:
        """A finished asset of so many bytes, all zero and none on the disk; its registry path."""
        key = self.genomes.build(group, tale=b"big")
        self._bigs.append(key)
        os.truncate(self.genomes.folder(key) / "tale", size)
        return f"t7/{group}"

    def tree(self) -> dict[str, tuple[int, int, int, str]]:
        """Path → (mode, owner, group, content) of what an installation could leave behind; without the data."""
        root = self.machine.root
        whole = {path for top in WHOLE for path in (root / top).rglob("*")}
        names = {path for top in NAMES for path in (root / top).iterdir()}
        found: dict[str, tuple[int, int, int, str]] = {}
        for path in whole | names:
            name = str(path.relative_to(root))
            if name in NOT_OURS or name.startswith(DATA):
                continue
            info = path.lstat()
            content = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file() and path in whole:
                content = hashlib.md5(path.read_bytes()).hexdigest()
            found[name] = (info.st_mode, info.st_uid, info.st_gid, content)
        return found
