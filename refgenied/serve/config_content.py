"""The content of a config that is written again for each archive: what is the same stays the same object."""

import re
from typing import cast

from refgenied.catalog.server_config import OURS, UnreadableConfigError
from refgenied.catalog.sound import ConfigTree, mapping, sequence
from refgenied.genomes.config_text import ConfigText, Part
from refgenied.genomes.yaml_limits import OF_SERVED
from refgenied.genomes.yaml_reader import Document, GarbledError

_MARKS = f"\n{OURS}:\n".encode()
_NOT_IN_MARKS = re.compile(rb"^[^ \n]|\r|\xc2\x85|\xe2\x80[\xa8\xa9]", re.MULTILINE)


class ConfigContent:
    """Blocking; one call at a time."""

    def __init__(self) -> None:
        self._text: ConfigText | None = None
        self._tree: ConfigTree = {}

    def read(self, text: bytes) -> ConfigTree:
        """The content. Genomes and asset groups that are as in the text before are the same objects; nothing in it may
        be changed. UnreadableConfigError: then the next call builds upon the last text that could be read.
        """
        short = _without_marks(text)
        again = self._text.reread(short) if self._text else None
        if again is not None:
            self._tree = _with(self._tree, again[1])
            self._text = again[0]
            return self._tree
        try:
            try:
                read, document = ConfigText.read(short, OF_SERVED)
            except GarbledError:
                read, document = ConfigText.read(text, OF_SERVED)
        except GarbledError as error:
            raise UnreadableConfigError(str(error)) from error
        self._text, self._tree = read, _tree_of(document)
        return self._tree


def _tree_of(document: Document) -> ConfigTree:
    if document.value is not None and not isinstance(document.value, dict):
        raise UnreadableConfigError("it is not a mapping")
    return mapping(document.value)


def _without_marks(text: bytes) -> bytes:
    """The text without the daemon's own part at its end, which no server needs and which changes with descriptions.
    Nobody notices when that part is no YAML.

    A line at column 0 ends all that is open but a quoted text or a flow collection. What comes before the line cannot
    be read alone then, so all of the text is read.
    """
    at = text.rfind(_MARKS) + 1
    return text if not at or _NOT_IN_MARKS.search(text, at + len(_MARKS) - 1) else text[:at]


def _with(tree: ConfigTree, parts: list[Part]) -> ConfigTree:
    """The tree after parts of it were read again. Only the mappings around a part are new."""
    by_digest: dict[str | None, list[Part]] = {}
    for part in parts:
        by_digest.setdefault(part.digest, []).append(part)
    if not parts:
        return tree
    genomes = mapping(tree["genomes"])
    for digest, of_one in by_digest.items():
        if digest is None:
            genomes = _replaced(genomes, of_one)
        else:
            genome = mapping(genomes[digest])
            genomes = genomes | {digest: genome | {"assets": _replaced(mapping(genome["assets"]), of_one)}}
    return tree | {"genomes": genomes}


def _replaced(old: ConfigTree, parts: list[Part]) -> ConfigTree:
    """In the order of the text. A part is of neighbours; only one before the first name can be of new names alone."""
    new: ConfigTree = {}
    part_of = {name: part for part in parts for name in part.before}
    taken: Part | None = None
    for part in parts:
        if not part.before:
            new |= part.now
    for name, value in old.items():
        part = part_of.get(name)
        if part is None:
            new[name] = value
        elif part is not taken:
            taken = part
            new |= {name: _same(old.get(name), value) for name, value in part.now.items()}
    return new


def _same(old: object, new: object) -> object:
    """The old object if it is the same, not only equal as 1 and True are."""
    return old if old == new and _alike(old, new) else new


def _alike(old: object, new: object) -> bool:
    """Whether two equal values have the same types and order everywhere. It takes any value that YAML has."""
    if type(old) is not type(new):
        return False
    if type(old) is dict:
        one, other = mapping(cast("object", old)), mapping(new)
        return list(one) == list(other) and all(map(_alike, one.values(), other.values()))
    if type(old) is list:
        return all(map(_alike, sequence(cast("object", old)), sequence(new)))
    return isinstance(old, str | int) or repr(old) == repr(new)  # 0.0 and -0.0 are equal
