"""Archives as no honest program makes them, written member by member."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

Made = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Made:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    return info, content


def folder(name: str, mode: int = 0o755) -> Made:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info, b""


def link(name: str, target: str) -> Made:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


def odd(name: str, kind: bytes, target: str = "") -> Made:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.devmajor, info.devminor = 1, 3
    return info, b""


def stream_of(members: Iterable[Made], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive(path: Path, members: Iterable[Made], form: int = tarfile.GNU_FORMAT) -> Path:
    path.write_bytes(gzip.compress(stream_of(members, form)))
    return path


def bomb(path: Path, size: int) -> Path:
    """One file of so many zeros."""
    info = tarfile.TarInfo("default/zeros")
    info.size = size
    zeros = bytes(1 << 20)
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(stream_of([folder("default")])[:512])
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 20):
            out.write(zeros)
        out.write(bytes(10240))
    return path
