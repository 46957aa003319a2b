"""Keeps archives as private as their assets: reports archives that more people can read, and closes them on request."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import anyio
import anyio.to_thread
import msgspec
import structlog

from refgenied.archive.publisher import access_inside, access_of_archive, give_access
from refgenied.archive_folder.names import ServedNames
from refgenied.files.durable import allow
from refgenied.maintenance import DAY
from refgenied.model import Access, ArchiveRecord, Asset, AssetKey, RefgeniedError, Requester, StateError
from refgenied.policy import readers
from refgenied.queue.core import Core
from refgenied.reconciler import Reconciler
from refgenied.store import archives

log = structlog.get_logger("rights")


class Given(msgspec.Struct, frozen=True):
    """The change of one archive's permission bits."""

    key: AssetKey
    before: Access
    """Who could read the archive before."""
    access: Access
    """Who may read its asset, and so may read the archive too."""
    changed: bool
    problem: str = ""
    """Why the bits could not be changed, in one line."""


class Rights:
    """Checks after the first look, after a change of an asset's rights, each day, and on request (after the settings
    were read again).
    """

    def __init__(self, core: Core, reconciler: Reconciler) -> None:
        self._core = core
        self._reconciler = reconciler
        self._asked = False
        self._seen: dict[AssetKey, Access] = {}
        """Who could read each asset at the last check. Only assets at rest are in it."""

    def look_again(self) -> None:
        """Check after the next look."""
        self._asked = True

    async def run(self) -> None:
        """Ends only by cancellation."""
        await self._reconciler.first_look.wait()
        while True:
            self._asked = False
            with suppress(StateError):  # the database cannot be written now; other parts report this
                await self.check()
            with anyio.move_on_after(DAY):
                while not self._asked and not self._others_may_read():
                    await self._reconciler.looked.wait()

    def _others_may_read(self) -> bool:
        """Whether the last look shows new readers of an asset, because the rights of a folder above it have changed."""
        assets = self._reconciler.look.assets
        at_rest = ((assets[key], access) for key, access in self._seen.items() if key in assets)
        return any(asset.stamp and asset.access is not access for asset, access in at_rest)

    async def check(self) -> list[Given]:
        """Learn who may read each asset, and note in the health which archives more people can read than their assets.

        A private archive is opened when its asset is private no more: its owner has opened the asset, or
        `archive.publish_private` was set. An archive that somebody has closed by hand stays closed.
        """
        self._seen = {key: asset.access for key, asset in self._reconciler.look.assets.items() if asset.stamp}
        recorded = await self._core.jobs.store.ask(archives.everything)
        learned = await anyio.to_thread.run_sync(self._learned, recorded, self._reconciler.look.assets)
        records = recorded | {
            key: msgspec.structs.replace(recorded[key], access=access) for key, access in learned.items()
        }
        found = await anyio.to_thread.run_sync(partial(self._compared, records))
        wide = [given for given in found if given.before.file_mode > given.access.file_mode]
        for given in found:
            was_private = recorded[given.key].access is Access.OWNER
            if was_private and given.before.private and not given.access.private:
                await anyio.to_thread.run_sync(self._give, given)
        if learned:  # this comes last: after a crash before it, the next check opens the archives again
            await self._core.jobs.records.learned(learned)
            self._reconciler.hint()  # the catalog is refreshed after the next look
        self._core.health.note("access", _line(wide, records))
        return wide

    async def protect(self, keys: Sequence[AssetKey] | None, requester: Requester) -> list[Given]:
        """Let no more people read these archives (None: all) than their assets. Returns the change of each archive."""
        wide = [given for given in await self.check() if keys is None or given.key in keys]
        done = [await anyio.to_thread.run_sync(self._give, given) for given in wide]
        changed = {given.key: (given.before, given.access) for given in done if given.changed}
        await self._core.jobs.records.protected(changed, requester)
        await self.check()
        return done

    def _learned(
        self, records: Mapping[AssetKey, ArchiveRecord], assets: Mapping[AssetKey, Asset]
    ) -> dict[AssetKey, Access]:
        """Who can read each asset whose record does not say so yet, or differs from the last look."""
        learned: dict[AssetKey, Access] = {}
        for key, record in records.items():
            asset = assets.get(key)
            if asset is not None and asset.stamp == record.stamp:
                if asset.access is not record.access:
                    learned[key] = asset.access
            elif record.access is None:
                with suppress(RefgeniedError):  # the verifier reports a damaged manifest
                    learned[key] = access_inside(self._core.archive_folder.place(key))
        return learned

    def _compared(self, records: Mapping[AssetKey, ArchiveRecord]) -> list[Given]:
        """The archives that other people can read than the people who can read their assets."""
        found: list[Given] = []
        for key, record in records.items():
            if record.access is None:
                continue
            wanted = readers(record.access, self._core.current.settings.archive)
            with suppress(RefgeniedError):  # a missing file is reported as lost elsewhere
                before = access_of_archive(self._core.archive_folder.place(key))
                if before is not wanted:
                    found.append(Given(key, before, wanted, changed=False))
        return found

    def _give(self, given: Given) -> Given:
        names = ServedNames(self._core.archive_folder.place(given.key))
        try:
            changed = give_access(names.place, given.access)
            for path in (names.contents, names.recipe, names.log):
                with suppress(FileNotFoundError):
                    allow(path, given.access.file_mode)
        except (OSError, RefgeniedError) as error:
            log.warning("archive.not_protected", asset=given.key.registry_path, error=str(error))
            return msgspec.structs.replace(given, problem=str(error))
        return msgspec.structs.replace(given, changed=changed)


def _line(wide: Sequence[Given], records: Mapping[AssetKey, ArchiveRecord]) -> str:
    if not wide:
        return ""
    name = wide[0].key.named(records[wide[0].key].aliases)
    number = "1 archive" if len(wide) == 1 else f"{len(wide)} archives"
    return (
        f"{number} can be read by more people than the files inside ({name}{' and others' if len(wide) > 1 else ''}); "
        f"`refgeniectl archive protect --all` changes that"
    )
