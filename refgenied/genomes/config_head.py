"""The head of refgenie's config, with its settings: a start need not read 10,000 entries for them."""

import re

_GENOMES = re.compile(rb"^genomes:[ ]*\n", re.MULTILINE)
_MAY_END_THEM = re.compile(rb"^[^ \n#]|\r|\xc2\x85|\xe2\x80[\xa8\xa9]", re.MULTILINE)
"""A line at column 0, or one of the line breaks that only YAML knows."""


def head_of(text: bytes) -> bytes:
    """The text with no genomes, if they are the last of it as refgenie writes it; otherwise the whole text.

    YAML is parsed from left to right, so what stands before `genomes:` means the same without what follows.
    """
    found = _GENOMES.search(text)
    if found is None or _MAY_END_THEM.search(text, found.end()):
        return text
    return text[: found.start()] + b"genomes: {}\n"
