"""Keeps archives as private as their assets: reports archives that more people can read, and closes them on request."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from refgenied.reconciler.key_order import EVERYTHING, successor
from refgenied.reconciler.last_look import NO_LOOK
from refgenied.store import archives

log = structlog.get_logger("rights")

MOST_RECORDS = 1000
"""So many records are in memory at one time."""


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

    def __init__(
        self, core: Core, reconciler: Reconciler, learned: Callable[[Iterable[AssetKey]], None] = lambda _: None
    ) -> None:
        self._core = core
        self._reconciler = reconciler
        self._tell_learned = learned
        """It is called with the assets whose access was recorded, because no event tells the catalog."""
        self._asked = False
        self._look = NO_LOOK
        """The newest look whose assets were compared."""
        self._seen: Mapping[AssetKey, Asset] = {}
        """The assets at the last check."""

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
        """Whether the last look shows new readers of an asset, because the rights of a folder above it have changed.

        An asset that is the same object as at the last check has not changed.
        """
        before, look = self._look, self._reconciler.look
        if look is before:
            return False
        self._look = look
        changed = self._reconciler.last.differing(before)
        return any(
            seen.stamp and asset.stamp and asset.access is not seen.access
            for seen, asset in ((self._seen.get(key), look.assets.get(key)) for key in changed)
            if seen is not None and asset is not None
        )

    async def check(self) -> list[Given]:
        """Learn who may read each asset, and note in the health which archives more people can read than their assets.

        A private archive is opened when its asset is private no more: its owner has opened the asset, or
        `archive.publish_private` was set. An archive that somebody has closed by hand stays closed.
        """
        self._look = self._reconciler.look
        self._seen = assets = self._look.assets
        wide: list[Given] = []
        first, begin = "", EVERYTHING.begin
        while page := await self._core.jobs.store.ask(archives.within, begin, None, MOST_RECORDS):
            begin = successor(page[-1].key)
            records = {record.key: record for record in page}
            found = await self._checked(records, assets)
            wide += found
            first = first or (found[0].key.named(records[found[0].key].aliases) if found else "")
        self._core.health.note("access", _line(first, len(wide)))
        return wide

    async def _checked(self, recorded: dict[AssetKey, ArchiveRecord], assets: Mapping[AssetKey, Asset]) -> list[Given]:
        """Learn about the assets of some archives. Returns the archives that more people can read."""
        learned = await anyio.to_thread.run_sync(self._learned, recorded, assets)
        records = recorded | {
            key: msgspec.structs.replace(recorded[key], access=access) for key, access in learned.items()
        }
        found = await anyio.to_thread.run_sync(partial(self._compared, records))
        for given in found:
            was_private = recorded[given.key].access is Access.OWNER
            if was_private and given.before.private and not given.access.private:
                await anyio.to_thread.run_sync(self._give, given)
        if learned:  # this comes last: after a crash before it, the next check opens the archives again
            await self._core.jobs.records.learned(learned)
            self._tell_learned(learned)
        return [given for given in found if given.before.file_mode > given.access.file_mode]

    async def protect(self, keys: Sequence[AssetKey] | None, requester: Requester) -> list[Given]:
        """Let no more people read these archives (None: all) than their assets. Returns the change of each archive."""
        wanted = None if keys is None else set(keys)
        wide = [given for given in await self.check() if wanted is None or given.key in wanted]
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


def _line(first: str, count: int) -> str:
    """`first`: the name of one of them."""
    if not count:
        return ""
    number = "1 archive" if count == 1 else f"{count} archives"
    return (
        f"{number} can be read by more people than the files inside ({first}{' and others' if count > 1 else ''}); "
        f"`refgeniectl archive protect --all` changes that"
    )
