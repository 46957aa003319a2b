"""The seal of a manifest: a checksum over all that stands before it, so that one changed digit is noticed.

It is the manifest's last field, in a line of its own, and covers the bytes of the file up to there, whatever they mean:
fields that only a later refgenied knows are covered too.
"""

from __future__ import annotations

import hashlib

_BEGIN = b',\n  "seal": "'
_END = b'"\n}\n'


def seal_of(body: bytes) -> str:
    """The seal of a manifest whose text is `body` and then the seal: a sha256 in hex."""
    return hashlib.sha256(body).hexdigest()


def sealed(body: bytes) -> bytes:
    """A manifest's whole text. `body`: from the opening brace to its last field but the seal."""
    return body + _BEGIN + seal_of(body).encode("ascii") + _END


def holds(text: bytes, seal: str) -> bool:
    """Whether this is the text that was sealed with `seal`, as the text itself says."""
    body, _, end = text.rpartition(_BEGIN)
    return end == seal.encode() + _END and seal_of(body) == seal
