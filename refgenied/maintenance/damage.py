"""Tells the health which archives are damaged, and checks the archives that are in doubt."""

from contextlib import suppress

import anyio
import structlog

from refgenied.maintenance.verifier import Verifier
from refgenied.model import AssetKey, Event, RefgeniedError, Requester, ShortageError, StateError
from refgenied.queue.core import Core
from refgenied.store import archives, proofs

log = structlog.get_logger("damage")


class Damage:
    """The archives that are marked as damaged, and the archives that may be damaged."""

    def __init__(self, core: Core, verifier: Verifier) -> None:
        self._core = core
        self._verifier = verifier
        self._doubtful: set[AssetKey] = set()
        self._doubted = anyio.Event()
        self._told: int | None = None
        """How many damaged archives the health was told of; None: the database has not answered."""

    def doubt(self, keys: frozenset[AssetKey]) -> None:
        """The records, manifests and files of these archives do not agree: check them soon, with a quick check."""
        self._doubtful |= keys
        self._doubted.set()

    async def run(self) -> None:
        """Ends only by cancellation."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            while True:
                await self._doubted.wait()
                self._doubted = anyio.Event()
                with suppress(StateError, ShortageError):  # the next refresh of the catalog reports them again
                    await self.clear_doubts()

    async def clear_doubts(self) -> None:
        """Repair the doubtful archives, or mark them as damaged."""
        while self._doubtful:
            key = self._doubtful.pop()
            record = await self._core.jobs.store.ask(archives.get, key)
            if record is None or record.damaged is not None:  # its damage is known already
                continue
            try:
                await self._verifier.verify(key, Requester(), quick=True)
            except (StateError, ShortageError):
                raise
            except RefgeniedError as error:
                log.warning("archive.not_checked", asset=key.registry_path, error=error.message)

    async def _watch(self) -> None:
        """Tell the health again when an archive was found to be damaged, and while there is one, after each publish,
        proof and removal, because it may be right again.
        """
        with self._core.jobs.feed.subscribed("archive.") as changes:
            while True:
                with suppress(StateError):  # the next change tries again; other parts report the database's error
                    await self.tell()
                while not any(self._may_change(event) for event in await changes.take()) and not changes.lagged:
                    pass
                changes.lagged = False

    def _may_change(self, event: Event) -> bool:
        return self._told is None or bool(self._told) or event.kind == "archive.damaged"

    async def tell(self) -> None:
        """Tell the health which archives are marked as damaged."""
        self._told = None
        first, number = await self._core.jobs.store.ask(proofs.damaged)
        self._told = number
        more = f" (and {number - 1} more)" if number > 1 else ""
        names = f"{first.key.named(first.aliases)}: {first.damaged}{more}" if first else ""
        self._core.health.note("damaged", names)
