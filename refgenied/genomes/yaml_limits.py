"""How much YAML is read at most."""

from typing import NamedTuple


class Limits(NamedTuple):
    """All texts and values count with each alias replaced by its value."""

    max_bytes: int
    """The most bytes of a file, and of all texts in it."""
    max_values: int
    """The most values in a file."""


OF_PEOPLE = Limits(96 << 20, 4_000_000)
"""For files of other people: 100,000 assets in refgenie's config have about 2,600,000 values."""
OF_SERVED = Limits(384 << 20, 16_000_000)
"""For the config in our own archive folder: an entry has 35 values and 800 bytes. What the daemon has written it must
be able to read at the next start, with what people have added, and so must the server."""
MAX_BYTES = OF_PEOPLE.max_bytes
