"""The database's part of a status, all at one moment."""

from typing import NamedTuple

from refgenied.model import Job
from refgenied.store import archives, jobs
from refgenied.store.transaction import Transaction


class Overview(NamedTuple):
    jobs: dict[str, int]
    """State → number of jobs."""
    running: list[Job]
    tried_again: list[Job]
    """The first of the queued jobs that were tried before."""
    tried_again_total: int
    archives: int
    archive_bytes: int


async def overview(tx: Transaction, most_tried_again: int) -> Overview:
    tried_again = await jobs.again(tx, most_tried_again)
    return Overview(*await at_work(tx), *tried_again, *await archives.totals(tx))


async def at_work(tx: Transaction) -> tuple[dict[str, int], list[Job]]:
    """The number of jobs in each state, and the running jobs."""
    return await jobs.counts(tx), await jobs.running(tx)
