"""What an archive must be, worked out anew with nothing but the standard library and refgenie's own rules."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

SIDE = "_refgenie_build"


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def files_in(folder: Path) -> dict[str, str]:
    """Relative path → md5 of the regular files, as refgenie counts them: no links, no side folder."""
    return {
        str(path.relative_to(folder)): md5_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and SIDE not in path.relative_to(folder).parts
    }


def refgenie_digest(files: dict[str, str]) -> str:
    """refgenie's `asset_digest`: md5 over the md5s, each with its newline, in the C order of `./path`."""
    ordered = sorted(files, key=lambda path: f"./{path}".encode())
    return hashlib.md5("".join(f"{files[path]}\n" for path in ordered).encode()).hexdigest()


def members_of(archive: Path, top: str) -> dict[str, str]:
    """Relative path → md5 of the files inside; all of it must be in the one folder `top`, safely named."""
    files: dict[str, str] = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = member.name.split("/")
            assert parts[0] == top, f"{member.name} is not in {top}/"
            assert ".." not in parts, member.name
            assert SIDE not in parts, member.name
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", ""), member.name
            if member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                files["/".join(parts[1:])] = hashlib.file_digest(content, "md5").hexdigest()
    return files


def prove(row: dict[str, Any], archives: Path, folder: Path | None = None) -> dict[str, str]:
    """Prove one row of `archive list` against its file, its manifest and (when given) the asset's folder.

    Returns relative path → md5 of the files inside.
    """
    digest, group, asset = row["genome_digest"], row["asset_group"], row["asset"]
    path = archives / digest / group / asset / f"{group}__{asset}.tgz"
    assert row["path"] == str(path)
    assert row["registry_path"] == f"{digest}/{group}:{asset}"
    assert path.stat().st_size == row["size"]
    assert md5_of(path) == row["digest"]
    files = members_of(path, asset)
    assert len(files) == row["files"]
    assert refgenie_digest(files) == row["asset_digest"]

    manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    for name in ("digest", "size", "asset_digest", "content_digest", "genome_digest", "asset_group", "asset"):
        assert manifest[name] == row[name], name
    listed = {entry["path"]: entry["md5"] for entry in manifest["entries"] if entry["type"] == "file"}
    assert listed == files
    if folder is not None:
        assert files == files_in(folder)
    return files
