"""Lines in the order of their names: by their bytes, or as `sort -k 2` puts them in a locale of this machine.

As in refgenie, `sort` itself gives the order of a locale: the C library's `strxfrm` disagrees with it about names such
as `1+A-.-+`.
"""

import heapq
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from refgenied.archive.run import Check
from refgenied.model import ShortageError, UnreadableError

Line = tuple[bytes, bytes]
"""A token, and the name that is its sort key."""
C = "C"
"""The name of the locale that sorts by bytes."""
_LIKELY = ("en_US.UTF-8", "en_GB.UTF-8", "de_DE.UTF-8")
MOST_IN_MEMORY = 20_000
"""At most this many lines are sorted in memory. More lines are sorted in parts on the disk."""
_NO_SORT = "the asset digest is not that of C's order of names, and `sort`, which knows the others, is not installed"
_CHECK_SECONDS = 0.2
"""Seconds between two calls of `check` while `sort` works."""


# ----------------------------------------------------------------- by bytes


def sorted_tokens(lines: Iterable[Line]) -> Iterator[bytes]:
    """The tokens of (token, name) lines, in the order of the names' bytes. Any number of lines, in bounded memory."""
    parts: list[IO[bytes]] = []
    keyed: list[Line] = []
    try:
        for token, name in lines:
            keyed.append((name, token))
            if len(keyed) == MOST_IN_MEMORY:
                keyed.sort()
                parts.append(_spilled(keyed))
                keyed.clear()
        keyed.sort()
        for _, token in heapq.merge(*map(_read_back, parts), keyed):
            yield token
    finally:
        for part in parts:
            part.close()


def _spilled(keyed: list[Line]) -> IO[bytes]:
    part = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    for fields in keyed:
        for field in fields:
            part.write(len(field).to_bytes(4, "little"))
            part.write(field)
    part.seek(0)
    return part


def _read_back(part: IO[bytes]) -> Iterator[Line]:
    while size := part.read(4):
        name = part.read(int.from_bytes(size, "little"))
        yield name, part.read(int.from_bytes(part.read(4), "little"))


# ----------------------------------------------------------------- as a locale does


def locales() -> list[str]:
    """The UTF-8 locales of this machine, the likely ones first.

    The likely ones are given even if `locale -a` does not list them, because it leaves out those in `LOCPATH`. For a
    locale that is not installed, `sort` uses the order of bytes.
    """
    return list(dict.fromkeys((*_LIKELY, *_installed())))


def _installed() -> list[str]:
    program = shutil.which("locale")
    if program is None:
        return []
    try:
        done = subprocess.run([program, "-a"], capture_output=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    names = done.stdout.decode(errors="replace").split()
    return [name for name in names if name.lower().replace("-", "").partition("@")[0].endswith("utf8")]


def sorted_as(locale: str, lines: Iterable[Line], check: Check) -> Iterator[bytes]:
    """The tokens in the order in which `sort -k 2` of this locale puts `{token}  ./{name}`; names have no newline.

    Any number of lines, in bounded memory. `check` is called meanwhile and may raise. UnreadableError: there is no
    `sort`, or it fails. ShortageError.
    """
    program = shutil.which("sort")
    if program is None:
        raise UnreadableError(_NO_SORT, hint="install coreutils, or make PATH lead to it")
    with _temporary() as unsorted, _temporary() as ordered:
        for token, name in lines:
            unsorted.write(b"%b  ./%b\n" % (token, name))
        unsorted.seek(0)
        _run([program, "-k", "2"], locale, unsorted, ordered, check)
        ordered.seek(0)
        for line in ordered:
            yield line.partition(b" ")[0]


def _run(command: list[str], locale: str, unsorted: IO[bytes], ordered: IO[bytes], check: Check) -> None:
    environment = os.environ | {"LC_ALL": locale}
    with subprocess.Popen(  # noqa: S603
        command, stdin=unsorted, stdout=ordered, stderr=subprocess.PIPE, env=environment
    ) as process:
        try:
            while True:
                check()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_CHECK_SECONDS)
                    break
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read(300).decode(errors="replace") if process.stderr and process.returncode else ""
    if process.returncode:
        raise UnreadableError(f"the order of names cannot be asked of sort: {' '.join(said.split()) or 'it was ended'}")


@contextmanager
def _temporary() -> Generator[IO[bytes]]:
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        message = f"names cannot be sorted: {tempfile.gettempdir()}: {error.strerror or error}"
        raise ShortageError(message) from error
