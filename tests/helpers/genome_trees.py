"""Genome folders made by hand, and the real refgenie, for the tests."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from refgenied.genomes.folder import GenomeFolder
from refgenied.genomes.member import Kind
from refgenied.model import Asset, AssetKey

DIGEST = "e4c17e3f47c39de6855bf677014571ce61f6d38c9313acbe"
LONG_AGO = 1_700_000_000.0
GENOME = "vRAbJ6zXvRGc2EMhmDgFlsyj_hTDj-cX"
CONTENT = "c3" * 32
VARIANTS = ["inside", "builds", "digest"]


def md5_digest(folder: GenomeFolder, asset: Asset) -> str:
    """refgenie's asset digest, computed from the files."""
    sums = []
    with folder.tree(asset) as tree:
        for member in tree:
            if member.kind is Kind.FILE and not member.foreign:
                data = b""
                while chunk := os.read(tree.open(member), 1 << 20):
                    data += chunk
                sums.append((member.path, hashlib.md5(data).hexdigest()))
    return hashlib.md5("".join(f"{md5}\n" for _, md5 in sorted(sums)).encode()).hexdigest()


class Tree013:
    """A genome folder in refgenie 0.13's layout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "genome_config.yaml"
        (root / "data").mkdir(parents=True)
        self.genomes: dict = {}

    def asset(self, group: str = "fasta", tag: str = "default", *, flags: tuple[str, ...] = ("completed",)) -> Path:
        folder = self.root / "data" / DIGEST / group / tag
        build = folder / "_refgenie_build"
        build.mkdir(parents=True)
        (folder / "a.fa").write_text(">a\nACGT\n")
        (build / "refgenie_log.md").write_text("log")
        self.flags(group, tag, *flags)
        return folder

    def flags(self, group: str, tag: str, *flags: str) -> None:
        build = self.root / "data" / DIGEST / group / tag / "_refgenie_build"
        for old in build.glob("*.flag"):
            old.unlink()
        for flag in flags:
            (build / (flag if "." in flag else f"refgenie_DEFAULT_SAMPLE_NAME_{flag}.flag")).touch()

    def entry(self, group: str = "fasta", tag: str = "default", **changes: object) -> None:
        genome = self.genomes.setdefault(DIGEST, {"aliases": ["hg38"], "assets": {}})
        body = genome["assets"].setdefault(group, {"default_tag": tag, "asset_description": "of it", "tags": {}})
        entry = {
            "asset_digest": hashlib.md5(b"").hexdigest(),
            "asset_parents": [],
            "asset_path": group,
            "seek_keys": {"dir": ".", group: "a.fa"},
        } | changes
        body["tags"][tag] = {name: value for name, value in entry.items() if value is not None}

    def text(self) -> bytes:
        return yaml.dump(
            {
                "config_version": 0.4,
                "genome_folder": str(self.root),
                "genome_servers": ["http://refgenomes.databio.org/"],
                "genomes": self.genomes,
            },
            default_flow_style=False,
        ).encode()

    def write(self, text: bytes | None = None) -> None:
        """As a config that was written long ago."""
        self.config.write_bytes(self.text() if text is None else text)
        os.utime(self.config, (LONG_AGO, LONG_AGO))

    def folder(self, **settings: object) -> GenomeFolder:
        return GenomeFolder(str(self.root), config=None, **settings)


class Tree1:
    """A genome folder in one of refgenie 1's variants."""

    def __init__(self, root: Path, variant: str) -> None:
        self.root = root
        self.variant = variant
        root.mkdir()

    def place(self, group: str = "fasta", asset: str = "default", digest: str = GENOME) -> Path:
        return self.root / "data" / digest / group / (CONTENT if self.variant == "digest" else asset)

    def build(self, group: str = "fasta", asset: str = "default", alias: str = "hg38") -> Path:
        if self.variant == "inside":
            return self.place(group, asset) / "_refgenie_build"
        return self.root / "builds" / alias / group / asset

    def asset(self, group: str = "fasta", asset: str = "default", flags: tuple[str, ...] = ("completed",)) -> Path:
        folder = self.place(group, asset)
        folder.mkdir(parents=True)
        (folder / "x.fa").write_text(">x\nACGT\n")
        (folder / "sub").mkdir()
        (folder / "sub" / "y").write_text("y")
        if flags:
            build = self.build(group, asset)
            build.mkdir(parents=True)
            (build / f"refgenie_hg38_{group}_{asset}_log.md").write_text("log")
            (build / "refgenie_commands.sh").write_text("# start\ncp a b\n")
            self.flags(group, asset, *flags)
        return folder

    def flags(self, group: str, asset: str, *flags: str) -> None:
        build = self.build(group, asset)
        for old in build.glob("*.flag"):
            old.unlink()
        (build / f"hg38_{group}__{asset}.flag").touch()
        for flag in flags:
            (build / (flag if "." in flag else f"refgenie_hg38_{group}_{asset}_{flag}.flag")).touch()

    def link(self, group: str = "fasta", asset: str = "default", alias: str = "hg38", digest: str = GENOME) -> Path:
        folder = self.root / "alias" / alias / group / asset
        target = self.place(group, asset, digest)
        (folder / "sub").mkdir(parents=True)
        (folder / "hg38.fa").symlink_to(os.path.relpath(target / "x.fa", folder))
        (folder / "sub" / "y").symlink_to(os.path.relpath(target / "sub" / "y", folder / "sub"))
        return folder

    def folder(self) -> GenomeFolder:
        return GenomeFolder(str(self.root), config=None)

    def only(self, later: float = 0.0) -> Asset:
        look = self.folder().look(time.time() + later)
        assert len(look.assets) == 1, look
        (asset,) = look.assets.values()
        assert self.folder().asset(asset.key, time.time() + later) == asset
        assert asset.reason
        return asset


def key(group: str = "fasta", tag: str = "default", digest: str = DIGEST) -> AssetKey:
    return AssetKey(digest, group, tag)


def find_refgenie() -> str | None:
    beside = Path(sys.executable).parent / "refgenie"
    return shutil.which("refgenie") or (str(beside) if beside.exists() else None)


class Refgenie:
    """The real refgenie on a genome folder of its own."""

    def __init__(self, home: Path) -> None:
        found = find_refgenie()
        if found is None:
            pytest.skip("refgenie (PyPI) is neither on PATH nor beside this Python")
        self._program = found
        self.home = home
        self.root = home / "genomes"
        self.root.mkdir(parents=True)
        self.config = self.root / "genome_config.yaml"
        self.run("init", "-c", str(self.config))
        (home / "in.fa.gz").write_bytes(gzip.compress(b">one\n" + b"ACGTACGTTTGACA\n" * 50))

    def command(self, *words: str) -> list[str]:
        return [self._program, *words]

    def environment(self) -> dict[str, str]:
        return os.environ | {"PATH": f"{Path(self._program).parent}:{os.environ['PATH']}"}

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment(),
            cwd=self.home,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def recipe(self, name: str, *commands: str) -> str:
        """A recipe file; it takes the file `fasta` when it is the genome's fasta."""
        seek_keys = {name: "{genome}.fa"} if name == "fasta" else {name: "out.txt"}
        required = [{"key": "fasta", "description": "it"}] if name == "fasta" else []
        path = self.home / f"{name}-{hashlib.md5(repr(commands).encode()).hexdigest()}.json"
        path.write_text(
            json.dumps(
                {
                    "name": name,
                    "description": f"a {name}",
                    "assets": seek_keys,
                    "required_files": required,
                    "required_parameters": [],
                    "required_assets": [],
                    "container": "",
                    "command_list": list(commands),
                }
            )
        )
        return str(path)

    def build_words(self, registry_path: str, *commands: str, options: tuple[str, ...] = ()) -> list[str]:
        group = registry_path.partition("/")[2].partition(":")[0]
        if group == "fasta" and not commands:
            commands = ("gzip -dc {fasta} > {asset_outfolder}/{genome}.fa",)
        files = ["--files", f"fasta={self.home / 'in.fa.gz'}"] if group == "fasta" else []
        recipe = self.recipe(group, *commands)
        return ["build", "-c", str(self.config), registry_path, "--recipe", recipe, *options, *files]

    def build(self, registry_path: str, *commands: str, options: tuple[str, ...] = (), check: bool = True) -> None:
        self.run(*self.build_words(registry_path, *commands, options=options), check=check)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment(),
            cwd=self.home,
            start_new_session=True,
        )

    def folder(self) -> GenomeFolder:
        return GenomeFolder(str(self.root), config=str(self.config))

    def states(self, folder: GenomeFolder | None = None, later: float = 0.0) -> dict[str, str]:
        """Registry path without the genome → state."""
        look = (folder or self.folder()).look(time.time() + later)
        return {f"{k.asset_group}:{k.asset}": asset.state.value for k, asset in look.assets.items()}
