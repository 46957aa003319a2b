"""Records the changes of archives that do not come from jobs. Each change and its events are one transaction."""

from collections.abc import Collection, Mapping
from typing import Any

from refgenied.model import Access, ArchiveRecord, AssetKey, Removal, Requester
from refgenied.queue.eventlog import Change, Writer, written
from refgenied.store import archives


class Records(Writer):
    """`generation` is always the number from `ArchiveFolder.changing`. Every method may raise StateError."""

    @written
    async def imported(
        self, change: Change, record: ArchiveRecord, requester: Requester, generation: int, *, maker: str
    ) -> None:
        """Record an archive that was imported. `maker`: the program that made it."""
        await archives.put(change.tx, record)
        await archives.put_generation(change.tx, generation)
        about: dict[str, Any] = {"maker": maker, "digest": record.digest, "size": record.size}
        await change.log("archive.imported", record.key, by=requester.name, **about)

    @written
    async def removed(self, change: Change, removal: Removal, requester: Requester, generation: int) -> None:
        """Forget the archive, and remember that a user removed it."""
        await archives.put_generation(change.tx, generation)
        await archives.forget(change.tx, removal.key)
        await archives.put_removal(change.tx, removal)
        await change.log("archive.removed", removal.key, removed_by=requester.name)

    @written
    async def removed_elsewhere(self, change: Change, removal: Removal, generation: int) -> None:
        """Record a removal by a user of another daemon, of an archive that the database does not know."""
        await archives.put_generation(change.tx, generation)
        if await archives.get(change.tx, removal.key) is None:
            await archives.put_removal(change.tx, removal)

    @written
    async def proved(
        self, change: Change, record: ArchiveRecord, requester: Requester, *, at: float, seconds: float
    ) -> bool:
        """Record that the file was read back and is right. False: another archive is recorded now."""
        known = await archives.mark_proved(change.tx, record, at)
        if known:
            size = record.size
            await change.log("archive.verified", record.key, by=requester.name, size=size, seconds=seconds)
        return known

    @written
    async def damaged(self, change: Change, record: ArchiveRecord, requester: Requester, *, damage: str) -> bool:
        """Record that the file does not agree with its manifest. False: another archive is recorded now."""
        known = await archives.mark_damaged(change.tx, record, damage)
        if known:
            await change.log("archive.damaged", record.key, by=requester.name, error=damage)
        return known

    @written
    async def put_right(
        self, change: Change, old: ArchiveRecord, new: ArchiveRecord, requester: Requester, *, mended: str
    ) -> bool:
        """Replace the wrong record `old`. `mended`: the fault of the archive, or empty. False: `old` is gone by now."""
        known = await archives.put_right(change.tx, old, new)
        if known and mended:
            await change.log("archive.mended", old.key, by=requester.name, what=mended)
        return known

    async def learned(self, access: Mapping[AssetKey, Access]) -> None:
        """Record who may read these assets, after a change or for the first time."""
        await self.log.store.ask(archives.put_accesses, access)

    @written
    async def protected(
        self, change: Change, given: Mapping[AssetKey, tuple[Access, Access]], requester: Requester
    ) -> None:
        """Log that fewer people can read these archives. `given`: who could read them before, and who can now."""
        for key, (before, access) in given.items():
            await change.log("archive.protected", key, by=requester.name, before=before, access=access)

    @written
    async def caught_up(
        self, change: Change, archives_: Collection[ArchiveRecord], removals: Collection[Removal], generation: int
    ) -> None:
        """After a crash: record the few manifests in the archive folder that were newer than the database."""
        await self._take(change, archives_, removals, generation)
        for record in archives_:
            about: dict[str, Any] = {"digest": record.digest, "size": record.size, "path": record.path}
            await change.log("archive.adopted", record.key, **about)
        for removal in removals:
            await change.log("archive.removed", removal.key, removed_by=removal.removed_by)

    @written
    async def rebuilt(
        self,
        change: Change,
        archives_: Collection[ArchiveRecord],
        removals: Collection[Removal],
        generation: int,
        *,
        folder_id: str,
        why: str,
    ) -> None:
        """Record all manifests of the archive folder with this id. `why`: what the database was before."""
        await archives.put_fact(change.tx, archives.READ_FROM, folder_id)
        await self._take(change, archives_, removals, generation)
        if archives_ or removals:
            await change.log("database.rebuilt", archives=len(archives_), removals=len(removals), was=why)

    async def _take(
        self,
        change: Change,
        archives_: Collection[ArchiveRecord],
        removals: Collection[Removal],
        generation: int,
    ) -> None:
        for record in archives_:
            await archives.put(change.tx, record)
        for removal in removals:
            await archives.forget(change.tx, removal.key)
            await archives.put_removal(change.tx, removal)
        await archives.put_generation(change.tx, generation)
