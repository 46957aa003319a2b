"""`genome_config.yaml` of the archive folder: made from the archives; the parts that a person has written stay.

We write these parts: the head, per genome `aliases` and the archived assets, per asset `default_tag`, per tag the eight
keys. Everything else in the file stays. We change a description only if it is still the text that we wrote last; a hash
of that text is in `refgenied:` at the end of the file.
"""

import re
from pathlib import Path
from typing import cast

import structlog

from refgenied.catalog.parted import Parted
from refgenied.catalog.parts import OURS, Head
from refgenied.catalog.rendering import ConfigTree
from refgenied.files.durable import keep_beside, save_atomically
from refgenied.files.regular import identity, read_regular
from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.genomes.yaml_limits import OF_SERVED
from refgenied.genomes.yaml_reader import GarbledError, read
from refgenied.model import AssetKey, RefgeniedError

log = structlog.get_logger("serving")

_DIGEST = re.compile(r"\w{48}")
_NAME = re.compile(r"\S+")


class UnreadableConfigError(Exception):
    """The existing file is not a refgenie config."""


class EditedError(RefgeniedError):
    """Another program has changed the file since it was read."""


class ConfigFile:
    """The file in one archive folder. Blocking; one call at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CONFIG_NAME
        self.content = Parted()
        """What the file has, or gets with the next `write`."""
        self._identity: tuple[int, ...] | None = None
        """The file's identity when it was written or read last; None: not yet."""

    def read(self) -> bool:
        """Take over the file if another program has written or deleted it since; returns whether it has. OSError.

        Then each of its entries awaits `put`, `stay` or `drop`. A file that is not ours, or that is not a config, is
        copied first.
        """
        found = identity(self.path)
        if found == self._identity:
            return False
        try:
            text = read_regular(self.path, OF_SERVED.max_bytes)
        except FileNotFoundError:
            text = b""
        try:
            tree, left_out = parse_server_config(text)
        except UnreadableConfigError as error:
            tree, left_out = {}, str(error)
        if left_out:
            aside = keep_beside(self.path, "unreadable")
            log.warning("serving.config_unreadable", path=str(self.path), kept_as=str(aside), error=left_out)
        elif tree and OURS not in tree:
            aside = keep_beside(self.path, "before-refgenied")
            log.warning("serving.config_taken_over", path=str(self.path), kept_as=str(aside))
        self.content.take_in(tree)
        self._identity = found
        return True

    def write(self, head: Head) -> bool:
        """Bring the file up to date. Returns whether this changed it. OSError.

        A file that needs no change is not read. EditedError: another program has changed the file since `read`, perhaps
        a moment ago; it is as that program has written it.
        """
        content = self.content
        content.settle(head)
        if not content.changed:
            return False
        changed = save_atomically(self.path, content.joined(), ready=self._ready)
        content.changed = False
        if changed:
            log.info("serving.config_written", path=str(self.path), archives=content.number)
        return changed

    def _ready(self, partial: Path) -> None:
        """Between this and the rename, an edit is lost. A later one gives the file another identity. EditedError."""
        ours = identity(partial)
        if identity(self.path) != self._identity:
            raise EditedError(f"{self.path} was changed by another program a moment ago")
        self._identity = ours


def why_not_served(key: AssetKey) -> str:
    """Why refgenieserver 0.8.0 cannot serve an asset of this name; "" when it can."""
    if not _DIGEST.fullmatch(key.genome_digest):
        length = len(key.genome_digest)
        return f"of genomes with a {length}-character digest (refgenie 1); refgenieserver 0.8.0 takes 48 characters"
    if not (_NAME.fullmatch(key.asset_group) and _NAME.fullmatch(key.asset)):
        return "with a space in their names; refgenieserver takes none"
    return ""


# ----------------------------------------------------------------- reading


def parse_server_config(text: bytes) -> tuple[ConfigTree, str]:
    """The content of a file, with every name as a text; and one line about the parts without meaning that are left out
    ("" when there are none). UnreadableConfigError.
    """
    try:
        found = read(text, OF_SERVED)
    except GarbledError as error:
        raise UnreadableConfigError(str(error)) from error
    left_out = "; ".join(f"line {odd.line}: {odd.message}" for odd in found.odd)
    if found.value is None:
        return {}, left_out
    if not isinstance(found.value, dict):
        raise UnreadableConfigError("it is not a mapping")
    return cast("ConfigTree", found.value), left_out
