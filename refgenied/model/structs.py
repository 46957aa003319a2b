"""Makes all structs ready for several threads."""

from collections.abc import Iterator

import msgspec


def prepare_structs() -> None:
    """Let msgspec find out the fields of all structs that are imported by now (2 ms).

    It does so when a struct is first decoded or converted, and two threads that do this at the same time crash the
    process (msgspec 0.22: the second one uses what the first one has only begun). Call it before any thread begins.
    """
    for struct in _below(msgspec.Struct):
        if struct.__module__.partition(".")[0] == __name__.partition(".")[0]:
            msgspec.json.Decoder(struct)


def _below(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for below in struct.__subclasses__():
        yield below
        yield from _below(below)
