"""Editions: the state of `genome_config.yaml` and of the archives in it at one moment. Which edition does a client see?

When an archive is published again, its flat name leads to the new file before the config names it. A server with the
old config must still send the old file. It noted which file this is when it read the config (`served_archive`).

`refgenie pull` asks for the digest first and then for the archive. If the archive is published again between the two,
the client must still get the archive with that digest, or else it refuses the file. So a client that was told a digest
sees the edition with that digest until it has the archive, for two minutes at most.
"""

import os
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import structlog

from refgenied.archive.format.manifest import read_manifest
from refgenied.archive.place import Place
from refgenied.archive_folder.names import ServedNames
from refgenied.catalog import server_config
from refgenied.catalog.sound import ConfigTree, Sound
from refgenied.files.regular import identity, identity_of, is_shortage, read_regular, unreadable
from refgenied.genomes.yaml_reader import MAX_BYTES
from refgenied.model import AssetKey, BadRegistryPathError, RefgeniedError, ShortageError
from refgenied.serve.served_archive import ServedArchive

log = structlog.get_logger("serve")

PROMISE_SECONDS = 120.0
"""A client that was told a digest may ask for the archive within this time."""
SUPERSEDED_SECONDS = 600.0
"""This long after an edition was replaced, no client sees it any more."""
MOST_PROMISES = 10_000


class NotReadyError(Exception):
    """An archive is being published: the config will be rewritten in a moment."""


class ConfigEdition:
    """`rgc` is refgenie's own object for the config, without the entries that cannot be served."""

    def __init__(
        self,
        rgc: Any,
        genomes: ConfigTree,
        archives: dict[AssetKey, ServedArchive],
        identity: tuple[int, ...],
        mended: tuple[str, ...],
    ) -> None:
        self.rgc = rgc
        self.genomes = genomes
        """Digest → genome, as the config has it."""
        self.mended = mended
        """Lines about parts of the config that were changed or left out, because they cannot be served."""
        self.archives = archives
        self.identity = identity
        """The identity of the config's file; empty when there is no config."""
        self.superseded_at: float | None = None
        """When another edition replaced this one, in monotonic seconds."""
        self._by_name = {_shared_name(key): archive for key, archive in archives.items()}

    @property
    def remotes(self) -> dict[str, str]:
        """Name → address."""
        remotes: dict[str, dict[str, str]] = self.rgc["remotes"]
        return {name: remote["prefix"] for name, remote in remotes.items()}

    def named(self, genome: str, name: str) -> ServedArchive | None:
        """The archive with files named `{asset group}__{asset}`; None when it is not served."""
        return self._by_name.get((genome, name))

    def digest_of(self, genome: str) -> str:
        """The genome's digest for a digest or an alias; any other text is returned as it is."""
        try:
            return str(self.rgc.get_genome_alias_digest(alias=genome, fallback=True))
        except Exception:  # noqa: BLE001 - each version of yacman raises another error
            return genome

    def key_of(self, genome: str, group: str, asset: str | None) -> AssetKey:
        """The asset of a request."""
        digest = self.digest_of(genome)
        return AssetKey(digest, group, asset or str(self.rgc.get_default_tag(digest, group)))


in_view: ContextVar[ConfigEdition] = ContextVar("in_view")
"""The edition that the current request sees, from its first line to its last."""


class _Promise:
    def __init__(self, edition: ConfigEdition) -> None:
        self.edition = edition
        self.told: deque[float] = deque()

    @property
    def is_over(self) -> bool:
        now = time.monotonic()
        while self.told and self.told[0] < now - PROMISE_SECONDS:
            self.told.popleft()
        since = self.edition.superseded_at
        return not self.told or (since is not None and since < now - SUPERSEDED_SECONDS)


class Shelf:
    """The current edition, and older editions that were promised to clients."""

    def __init__(self, edition: ConfigEdition) -> None:
        self.current = edition
        self._promises: dict[tuple[str, AssetKey], _Promise] = {}

    def put(self, edition: ConfigEdition) -> None:
        """Make this the current edition, for all new requests."""
        self.current.superseded_at = time.monotonic()
        self.current = edition
        self.tidy()

    def view(self, client: str, key: AssetKey) -> ConfigEdition:
        """The edition that this client sees when it asks for the asset."""
        promise = self._promises.get((client, key))
        if promise is None:
            return self.current
        if promise.is_over:
            del self._promises[client, key]
            return self.current
        promised, now = promise.edition.archives.get(key), self.current.archives.get(key)
        same = promised is None or (now is not None and now.digest == promised.digest)
        return self.current if same else promise.edition

    def told(self, client: str, key: AssetKey, edition: ConfigEdition) -> None:
        """Note that the client was told the digest in this edition."""
        promise = self._promises.get((client, key))
        if promise is None or promise.edition.archives.get(key) is not edition.archives.get(key):
            promise = self._promises[client, key] = _Promise(edition)
        promise.told.append(time.monotonic())
        while len(self._promises) > MOST_PROMISES:
            del self._promises[next(iter(self._promises))]

    def kept(self, client: str, key: AssetKey) -> None:
        """Note that the client has the archive."""
        promise = self._promises.get((client, key))
        if promise is not None:
            promise.told.popleft()
            if not promise.told:
                del self._promises[client, key]

    def forget(self, client: str, key: AssetKey) -> None:
        """The promised archive is gone: drop the promise, so the client is told the current digest next time."""
        self._promises.pop((client, key), None)

    def tidy(self) -> None:
        """Forget the promises whose time is over."""
        self._promises = {who: promise for who, promise in self._promises.items() if not promise.is_over}


# ----------------------------------------------------------------- reading the config


def load_edition(folder: Path, config: Path, before: ConfigEdition | None, *, patient: bool = True) -> ConfigEdition:
    """Read the config and note which file each archive is. Archives with the same digest are taken from `before`.

    NotReadyError (if `patient`): an archive is newer than the config. If not `patient`, such an archive is left out.
    ShortageError: try again. OSError, UnreadableConfigError, or any error of refgenconf: the config cannot be used.
    """
    from refgenconf import RefGenConf  # noqa: PLC0415 - an extra

    state = identity(config)
    text = _read(config) if state else b"config_version: 0.4\n"
    sound = Sound(server_config.parse_server_config(text)[0])
    archives: dict[AssetKey, ServedArchive] = {}
    tags_of = dict(_tags(sound.tree))
    for key in _of_another_asset(folder, tags_of):
        log.warning("serve.name_of_another_asset", asset=key.registry_path)
        del tags_of.pop(key)[key.asset]
    for key, tags in tags_of.items():
        digest = tags[key.asset]["archive_digest"]
        old = before.archives.get(key) if before else None
        archive = old if old and old.digest == digest else _found(folder, key, digest, patient=patient)
        if archive is not None:
            archives[key] = archive
        else:
            del tags[key.asset]
    for line in sound.lines if before is None or before.mended != sound.lines else ():
        log.warning("serve.config_mended", what=line)
    tree = Sound(sound.tree).tree  # now without the archives that are missing
    tree.setdefault("remotes", {})
    # We do not use from_yaml_file: it takes 20 times as long, and writes lock files where we may have no rights.
    return ConfigEdition(RefGenConf(entries=tree), tree["genomes"], archives, state, sound.lines)


def _read(config: Path) -> bytes:
    try:
        return read_regular(config, MAX_BYTES)
    except OSError as error:
        if is_shortage(error):
            raise unreadable(config, error) from error
        raise


def _shared_name(key: AssetKey) -> tuple[str, str]:
    """Genome and file name. Two assets may have the same (`a__b:c` and `a:b__c`)."""
    return key.genome_digest, f"{key.asset_group}__{key.asset}"


def _of_another_asset(folder: Path, keys: Iterable[AssetKey]) -> list[AssetKey]:
    """Assets whose archive needs the same file name as the archive of another asset, which has it already."""
    by_name: dict[tuple[str, str], list[AssetKey]] = {}
    for key in keys:
        by_name.setdefault(_shared_name(key), []).append(key)

    def is_shown(key: AssetKey) -> bool:
        with suppress(BadRegistryPathError):
            return ServedNames(Place(folder, key)).shows()
        return False

    return [
        key
        for same in by_name.values()
        if len(same) > 1
        for key in sorted(same, key=lambda key: (not is_shown(key), key))[1:]
    ]


def _tags(tree: ConfigTree) -> Iterator[tuple[AssetKey, ConfigTree]]:
    """Each archived asset, and the mapping that its entry is in."""
    for genome, body in tree["genomes"].items():
        for group, asset in body["assets"].items():
            for name in asset["tags"]:
                yield AssetKey(genome, group, name), asset["tags"]


def _found(folder: Path, key: AssetKey, digest: str, *, patient: bool) -> ServedArchive | None:
    """The archive with this digest; None when it is not there. NotReadyError, ShortageError."""
    try:
        names = ServedNames(Place(folder, key))
        flat = names.archive.stat()
    except (OSError, BadRegistryPathError) as error:
        log.warning("serve.archive_unreadable", asset=key.registry_path, error=str(error))
        return None
    if not stat.S_ISREG(flat.st_mode):
        log.warning("serve.archive_unreadable", asset=key.registry_path, error=f"{names.archive} is not a regular file")
        return None
    archive = ServedArchive(folder, key, digest, identity_of(flat))
    try:
        nested = os.stat(names.place.archive)
        manifest = read_manifest(names.place.manifest)
    except ShortageError:
        raise
    except (OSError, RefgeniedError):  # another program made it: only its config has facts about it
        return archive
    if not os.path.samestat(nested, flat) or manifest.digest == digest:
        return archive
    kept = ServedArchive.kept(folder, key, digest)
    if kept is None and patient:
        raise NotReadyError(f"{key.registry_path} was published again a moment ago")
    if kept is None:
        log.warning("serve.archive_is_newer_than_config", asset=key.registry_path)
    return kept
