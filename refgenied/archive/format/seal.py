"""The seal of a manifest: a checksum over everything before it. It shows even one changed digit.

The seal is the manifest's last field, on a separate line. It covers all bytes of the file before that line, so also
fields that only a later refgenied knows.
"""

import hashlib

_BEGIN = b',\n  "seal": "'
_END = b'"\n}\n'


def seal_of(body: bytes) -> str:
    """The seal of a manifest that begins with `body`: a sha256 in hex."""
    return hashlib.sha256(body).hexdigest()


def sealed(body: bytes) -> bytes:
    """The whole text of a manifest. `body`: from the opening brace to the last field before the seal."""
    return body + _BEGIN + seal_of(body).encode("ascii") + _END


def holds(text: bytes, seal: str) -> bool:
    """Whether the text ends with this seal, and the seal is right."""
    body, _, end = text.rpartition(_BEGIN)
    return end == seal.encode() + _END and seal_of(body) == seal
