"""The content of a config that is written again for each archive: what is the same stays the same object."""

import re

from refgenied.catalog.server_config import OURS, UnreadableConfigError
from refgenied.catalog.sound import ConfigTree, mapping
from refgenied.genomes.config_text import ConfigText, Part
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
            tree = self._tree
            for part in again[1]:
                tree = _with(tree, part)
            self._text, self._tree = again[0], tree
            return tree
        try:
            try:
                read, document = ConfigText.read(short)
            except GarbledError:
                read, document = ConfigText.read(text)
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


def _with(tree: ConfigTree, part: Part) -> ConfigTree:
    """The tree after a part of it was read again. Only the mappings around the part are new."""
    genomes = mapping(tree["genomes"])
    if part.digest is None:
        return tree | {"genomes": _replaced(genomes, part)}
    genome = mapping(genomes[part.digest])
    body = genome | {"assets": _replaced(mapping(genome["assets"]), part)}
    return tree | {"genomes": genomes | {part.digest: body}}


def _replaced(old: ConfigTree, part: Part) -> ConfigTree:
    """In the order of the text. A part is of neighbours; only one before the first name can be of new names alone."""
    now = {name: _same(old.get(name), value) for name, value in part.now.items()}
    if not part.before:
        return now | old
    new: ConfigTree = {}
    for name, value in old.items():
        if name not in part.before:
            new[name] = value
        elif now:
            new, now = new | now, {}
    return new


def _same(old: object, new: object) -> object:
    return old if repr(old) == repr(new) else new  # 1 and True are equal, but not the same
