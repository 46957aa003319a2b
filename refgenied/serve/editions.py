"""One reading of `genome_config.yaml`, and the archives that it names.

The flat name of a republished archive leads to the new file before the config says so. Who has the old config in force
must still give out the old file: which file that is was noted when the config was read (`held`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from refgenied.archive import Place, read_manifest
from refgenied.archive_folder.names import ServedNames
from refgenied.catalog import server_config
from refgenied.catalog.sound import Sound, Tree
from refgenied.files.regular import SHORTAGE_ERRNOS, read_regular, unreadable
from refgenied.genomes.yaml_reader import MAX_BYTES
from refgenied.model import AssetKey, BadRegistryPathError, RefgeniedError, ShortageError
from refgenied.serve.served_archive import Held, Identity, kept_for

log = structlog.get_logger("serve")


class NotReadyError(Exception):
    """A publish is under way: the config will be rewritten in a moment."""


class Edition:
    """`rgc` is refgenie's own object over the config, without what cannot be served."""

    def __init__(
        self,
        rgc: Any,
        genomes: Tree,
        archives: dict[AssetKey, Held],
        identity: Identity | None,
        mended: tuple[str, ...],
    ) -> None:
        self.rgc = rgc
        self.genomes = genomes
        """Digest → genome, as the config has it."""
        self.mended = mended
        """What of the config was changed or left out, so that it can be served."""
        self.archives = archives
        self.identity = identity
        self._by_name = {(key.genome_digest, f"{key.asset_group}__{key.asset}"): held for key, held in archives.items()}
        self.superseded_at: float | None = None
        """Monotonic; when another took its place."""

    @property
    def remotes(self) -> dict[str, str]:
        """Name → address."""
        remotes: dict[str, dict[str, str]] = self.rgc["remotes"]
        return {name: remote["prefix"] for name, remote in remotes.items()}

    def named(self, genome: str, name: str) -> Held | None:
        """The archive whose files are named so (`{asset group}__{asset}`); None when it is not served."""
        return self._by_name.get((genome, name))

    def digest_of(self, genome: str) -> str:
        """The genome's digest, for a digest or an alias; the same text when it is neither."""
        try:
            return str(self.rgc.get_genome_alias_digest(alias=genome, fallback=True))
        except Exception:  # noqa: BLE001 - yacman has an error of its own for each of its versions
            return genome

    def key_of(self, genome: str, group: str, asset: str | None) -> AssetKey:
        """The asset that a request means."""
        digest = self.digest_of(genome)
        return AssetKey(digest, group, asset or str(self.rgc.get_default_tag(digest, group)))


def load(folder: Path, config: Path, before: Edition | None, *, patient: bool = True) -> Edition:
    """Read the config and note which files its archives are; those with the digest of `before` are taken over from it.

    NotReadyError (when `patient`) for an archive that is newer than the config; without patience it is left out.
    ShortageError: try again. OSError, UnreadableConfigError, or whatever refgenconf raises for what it cannot take.
    """
    from refgenconf import RefGenConf  # noqa: PLC0415 - an extra

    identity = Identity.at(config)
    text = _read(config) if identity else b"config_version: 0.4\n"
    sound = Sound(server_config.parse(text).tree)
    archives: dict[AssetKey, Held] = {}
    entries = dict(_tags(sound.tree))
    for key in _of_another_asset(folder, entries):
        log.warning("serve.name_of_another_asset", asset=key.registry_path)
        del entries.pop(key)[key.asset]
    for key, tags in entries.items():
        digest = tags[key.asset]["archive_digest"]
        old = before.archives.get(key) if before else None
        held = old if old and old.digest == digest else _held(folder, key, digest, patient=patient)
        if held is not None:
            archives[key] = held
        else:
            del tags[key.asset]
    for line in sound.lines if before is None or before.mended != sound.lines else ():
        log.warning("serve.config_mended", what=line)
    tree = Sound(sound.tree).tree  # without the files that are not there
    # not from_yaml_file: that writes lock files beside the config, where we may not write, and takes 20 times as long
    tree.setdefault("remotes", {})
    rgc: Any = RefGenConf(entries=tree)
    return Edition(rgc, tree["genomes"], archives, identity, sound.lines)


def _read(config: Path) -> bytes:
    try:
        return read_regular(config, MAX_BYTES)
    except OSError as error:
        if error.errno in SHORTAGE_ERRNOS:
            raise unreadable(config, error) from error
        raise


def _of_another_asset(folder: Path, keys: Iterable[AssetKey]) -> list[AssetKey]:
    """Assets whose archive would have the file name of another one's (`a__b:c` and `a:b__c`), which it is."""
    by_name: dict[tuple[str, str], list[AssetKey]] = {}
    for key in keys:
        by_name.setdefault((key.genome_digest, f"{key.asset_group}__{key.asset}"), []).append(key)

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


def _tags(tree: Tree) -> Iterator[tuple[AssetKey, Tree]]:
    """Each archived asset, and the mapping that its entry is in."""
    for genome, body in tree["genomes"].items():
        for group, asset in body["assets"].items():
            for name in asset["tags"]:
                yield AssetKey(genome, group, name), asset["tags"]


def _held(folder: Path, key: AssetKey, digest: str, *, patient: bool) -> Held | None:
    try:
        names = ServedNames(Place(folder, key))
        flat = names.archive.stat()
    except (OSError, BadRegistryPathError) as error:
        log.warning("serve.archive_unreadable", asset=key.registry_path, error=str(error))
        return None
    if not stat.S_ISREG(flat.st_mode):
        log.warning("serve.archive_unreadable", asset=key.registry_path, error=f"{names.archive} is not a regular file")
        return None
    try:
        nested = os.stat(names.place.archive)
        manifest = read_manifest(names.place.manifest)
    except ShortageError:
        raise
    except (OSError, RefgeniedError):  # made by another program: its config is all there is to know
        return Held(folder, key, digest, Identity.of(flat))
    if not os.path.samestat(nested, flat) or manifest.digest == digest:
        return Held(folder, key, digest, Identity.of(flat))
    held = kept_for(folder, key, digest)
    if held is None and patient:
        raise NotReadyError(f"{key.registry_path} was published again a moment ago")
    if held is None:
        log.warning("serve.archive_is_newer_than_config", asset=key.registry_path)
    return held
