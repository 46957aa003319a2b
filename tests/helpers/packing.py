"""What the tests of the archive engine share: trees made of plain descriptions, packed in one call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from refgenied.archive.creator import pack_asset
from refgenied.archive.format.manifest import About
from refgenied.archive.place import Place
from refgenied.archive.publisher import Draft
from refgenied.archive.run import Run
from refgenied.archive_folder.generation import NAME
from refgenied.genomes.walk import Tree
from refgenied.model import AssetKey

KEY = AssetKey("0123456789abcdef0123456789abcdef0123456789abcdef", "fasta", "default")
FOLDER = object()


def make_tree(folder: Path, members: Mapping[bytes, object]) -> Path:
    """`{path: bytes}` makes a file, `{path: FOLDER}` a folder, `{path: str}` a link."""
    root = os.fsencode(folder)
    os.makedirs(root, exist_ok=True)
    for path, what in members.items():
        whole = root + b"/" + path
        os.makedirs(whole if what is FOLDER else os.path.dirname(whole), exist_ok=True)
        if isinstance(what, bytes):
            with open(whole, "wb") as file:
                file.write(what)
        elif isinstance(what, str):
            os.symlink(what, whole)
    return folder


def draft_of(folder: Path, archives: Path, key: AssetKey = KEY, **options: object) -> Draft:
    about = options.pop("about", None) or About(created_at=1.5)
    codec = options.pop("codec", None)
    with Tree(folder) as tree:
        return pack_asset(tree, Place(archives, key), about, Run(**options), codec=codec)


def publish(folder: Path, archives: Path, key: AssetKey = KEY, **options: object) -> Draft:
    draft = draft_of(folder, archives, key, **options)
    draft.publish()
    return draft


def below(folder: Path) -> list[str]:
    """Everything in a folder, by name."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def noise(size: int, seed: bytes = b"noise") -> bytes:
    """Bytes that don't compress, the same every time."""
    return hashlib.shake_128(seed).digest(size)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def hidden(folder: Path) -> list[str]:
    """Everything with a dot in front, but for what the archive folder says of itself."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name not in (".refgenied", NAME))
