"""The orders in which `sort` puts names: by their bytes, or as a locale of this machine does.

Locales are asked through the C library's own objects (`newlocale`, `strxfrm_l`): `setlocale` would change the
whole process under the feet of its other threads.
"""

from __future__ import annotations

import ctypes
import heapq
import shutil
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LC_COLLATE_MASK = 1 << 3
_LC_CTYPE_MASK = 1 << 0
_PREFIX = b"  ./"
"""What `sort -k 2` sees before the name: md5sum's two blanks (they belong to the field) and find's `./`."""

_PROBE = b"aAbBzZ019._-+~ ,;()[]#@=%&" + "äÄéøåñčžşıÞαжש中".encode()
_LIKELY = ("en_US.UTF-8", "en_GB.UTF-8", "de_DE.UTF-8")
_IN_MEMORY = 20_000
"""Lines sorted at once; more are sorted in parts on disk, so that memory stays bounded."""


class Order:
    """An order of names. A context manager, because a locale's has memory of the C library."""

    name = "C"

    def key(self, path: bytes) -> bytes:
        """Compared by bytes, these keys give the order."""
        return path

    def token_key(self, token: bytes) -> bytes:
        """The order of two sums whose names are equal to this order."""
        return token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


BYTES = Order()
"""The order of the C locale."""


class LocaleOrder(Order):
    """The order of an installed locale. LookupError when it is not installed."""

    def __init__(self, name: str) -> None:
        self._c = _library()
        self._locale = self._c.newlocale(_LC_COLLATE_MASK | _LC_CTYPE_MASK, name.encode(), None)
        if not self._locale:
            raise LookupError(name)
        self._buffer = ctypes.create_string_buffer(4096)
        self.name = name

    def __exit__(self, *_: object) -> None:
        self._c.freelocale(self._locale)

    def key(self, path: bytes) -> bytes:
        return self.token_key(_PREFIX + path)

    def token_key(self, token: bytes) -> bytes:
        needed = self._c.strxfrm_l(self._buffer, token, len(self._buffer), self._locale)
        if needed >= len(self._buffer):
            self._buffer = ctypes.create_string_buffer(needed + 1)
            self._c.strxfrm_l(self._buffer, token, needed + 1, self._locale)
        return self._buffer.raw[:needed]


def _library() -> ctypes.CDLL:
    c = ctypes.CDLL(None)
    c.newlocale.restype = ctypes.c_void_p
    c.newlocale.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    c.freelocale.restype = None
    c.freelocale.argtypes = (ctypes.c_void_p,)
    c.strxfrm_l.restype = ctypes.c_size_t
    c.strxfrm_l.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p)
    return c


def orders() -> Iterator[LocaleOrder]:
    """The different orders of the UTF-8 locales on this machine, likely ones first."""
    seen: set[bytes] = set()
    for name in dict.fromkeys((*_LIKELY, *_installed())):
        try:
            order = LocaleOrder(name)
        except LookupError:
            continue
        signature = b"\0".join(order.token_key(bytes((letter,))) for letter in _PROBE[:26])
        signature += order.token_key(_PROBE)
        if signature not in seen:
            seen.add(signature)
            yield order
        else:
            order.__exit__()


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


def sorted_tokens(lines: Iterable[tuple[bytes, bytes]], order: Order) -> Iterator[bytes]:
    """The tokens of (token, name) lines, in the order of the names. Any number of lines, in bounded
    memory.
    """
    parts: list[IO[bytes]] = []
    keyed: list[tuple[bytes, bytes, bytes]] = []
    try:
        for token, name in lines:
            keyed.append((order.key(name), order.token_key(token), token))
            if len(keyed) == _IN_MEMORY:
                keyed.sort()
                parts.append(_spilled(keyed))
                keyed.clear()
        keyed.sort()
        for _, _, token in heapq.merge(*map(_read_back, parts), keyed):
            yield token
    finally:
        for part in parts:
            part.close()


def _spilled(keyed: list[tuple[bytes, bytes, bytes]]) -> IO[bytes]:
    part = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    for fields in keyed:
        for field in fields:
            part.write(len(field).to_bytes(4, "little"))
            part.write(field)
    part.seek(0)
    return part


def _read_back(part: IO[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    while size := part.read(4):
        key = part.read(int.from_bytes(size, "little"))
        token_key = part.read(int.from_bytes(part.read(4), "little"))
        token = part.read(int.from_bytes(part.read(4), "little"))
        yield key, token_key, token
