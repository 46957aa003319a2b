"""Tar headers, made by hand in GNU's format: always the same bytes for the same member.

The format is GNU's and not PAX, because every program can read GNU's. busybox ignores PAX headers and cuts long names,
GNU tar does not know PAX's `hdrcharset` (names that are not UTF-8), and `refgenieserver archive` makes GNU's format
today. Names are raw bytes, owners are 0 without names, times are whole seconds.
"""

import zlib

from refgenied.genomes.member import Kind

HEADER = 512
"""Headers and contents begin at multiples of this many bytes."""

RECORD = 10240
"""The length of the stream is a multiple of this, as with GNU tar and Python (some programs warn otherwise)."""

_TYPE_FLAG = {Kind.FILE: b"0", Kind.LINK: b"2", Kind.FOLDER: b"5"}
_LONG_NAME = b"L"
_LONG_TARGET = b"K"
_OWNER_ROOT = b"0000000\0" * 2
_NO_CHECKSUM = b"        "
_MAGIC = b"ustar  \0"


def member_name(top: bytes, path: bytes, kind: Kind) -> bytes:
    """The name inside the archive: below the folder `top`; a folder's name ends in `/`. Path b"" is `top` itself."""
    name = top + b"/" + path if path else top
    return name + b"/" if kind is Kind.FOLDER else name


def header(name: bytes, kind: Kind, *, mode: int, size: int, mtime: int, target: bytes = b"") -> bytes:
    """All header blocks of one member. `size` in bytes, `mtime` in whole seconds; a name may have any length."""
    long = b""
    if len(target) > 100:
        long += _long(target, _LONG_TARGET)
        target = target[:100]
    if len(name) > 100:
        long += _long(name, _LONG_NAME)
        name = name[:100]
    return long + _block(name, _TYPE_FLAG[kind], mode, size, mtime, target)


def padding(size: int) -> bytes:
    """The zeros between a file's content of `size` bytes and the next header."""
    return bytes(-size % HEADER)


def ending(length: int) -> bytes:
    """The zeros that end a stream of `length` bytes: at least two empty headers, and then up to a whole record."""
    return bytes(2 * HEADER + -(length + 2 * HEADER) % RECORD)


def _long(name: bytes, flag: bytes) -> bytes:
    """A name that is too long for its field becomes the content of an extra member before the real one."""
    content = name + b"\0"
    return _block(b"././@LongLink", flag, 0, len(content), 0, b"") + content + padding(len(content))


def _block(name: bytes, flag: bytes, mode: int, size: int, mtime: int, target: bytes) -> bytes:
    before = b"%b%07o\0%b%b%b" % (name.ljust(100, b"\0"), mode, _OWNER_ROOT, _number(size), _number(mtime))
    after = flag + target.ljust(100, b"\0") + _MAGIC
    # The sum of all bytes. The low half of Adler-32 is that sum plus 1; no header reaches its modulus of 65521.
    checksum = (zlib.adler32(b"%b%b%b" % (before, _NO_CHECKSUM, after)) & 0xFFFF) - 1
    return (b"%b%06o\0 %b" % (before, checksum, after)).ljust(HEADER, b"\0")


def _number(value: int) -> bytes:
    """Twelve bytes: octal up to 8 GiB or the year 2242; else, and for times before 1970, GNU's base 256."""
    if 0 <= value < 8**11:
        return b"%011o\0" % value
    if value > 0:
        return b"\x80" + value.to_bytes(11, "big")
    return value.to_bytes(12, "big", signed=True)
