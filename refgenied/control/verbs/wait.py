"""`archive.wait`: waits until the archive of an asset, as it is now, exists, and is served if that is asked for."""

from typing import Annotated

import anyio
import msgspec
from msgspec import Meta

from refgenied.control import lookup
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import ASSET_ERRORS, PathParams
from refgenied.control.views import ArchiveView, JobView, View, job_view
from refgenied.control.waiting import JOB_PROGRESS_SECONDS, JobNews, changed, why_waiting
from refgenied.genomes.registry_path import resolve
from refgenied.model import (
    Asset,
    AssetKey,
    AssetNotFoundError,
    AssetNotWantedError,
    AssetState,
    BusyError,
    Job,
    JobState,
    StateError,
)
from refgenied.policy import ArchiveState, Facts, Standing, standing
from refgenied.reconciler.standings import FOLDER_ANSWER_SECONDS


class ArchiveWaitParams(PathParams, frozen=True):
    timeout: (
        Annotated[float, Meta(ge=0, le=31_536_000, description="seconds; without it: as long as it takes")] | None
    ) = None
    progress: Annotated[bool, Meta(description="send `progress` notifications meanwhile")] = False
    waiting: Annotated[bool, Meta(description="send `waiting` notifications that say what it waits for")] = False
    served: Annotated[bool, Meta(description="wait until it is in the served config too, for `refgenie pull`")] = False


class Waited(View, frozen=True):
    registry_path: str
    state: str
    """archived, failed (the job has failed), or timeout."""
    reason: str
    """Why it failed or timed out, in one line."""
    archive: ArchiveView | None = None
    job: JobView | None = None


@Verb(
    "archive.wait", lasts=True, notifies=("progress", "waiting"), errors=(*ASSET_ERRORS, AssetNotWantedError, BusyError)
)
async def archive_wait(context: Context, call: Call, params: ArchiveWaitParams) -> Waited:
    """Wait until there is an archive of the asset as it is now, or its job has failed, or the time is over. With
    `served` also until refgenieserver's config has it.
    """
    looking = anyio.move_on_after(None if params.timeout is None else max(params.timeout, FOLDER_ANSWER_SECONDS))
    with looking:
        await _refresh(context, params.path)
    if looking.cancelled_caught:
        return Waited(params.path, "timeout", "time is over: waiting for a look at the genome folder")
    key = resolve(context.reconciler.look, params.path)
    wait = _Wait(context, call, key, params)
    at_once = await wait.done()  # an existing archive is reported even if no time is left
    left = params.timeout
    if at_once is not None and left is not None:
        left = max(left, FOLDER_ANSWER_SECONDS)
    with anyio.move_on_after(left):
        return await wait.served(at_once or await wait.run())
    return Waited(key.registry_path, "timeout", f"time is over: {await wait.waiting_for()}")


async def _refresh(context: Context, path: str) -> None:
    """Look at the asset now. If the database takes no writes, wait for it, as the queue does."""
    try:
        await context.reconciler.refreshed([path])
    except StateError as error:
        await context.pause.caused(error)


class _Wait:
    def __init__(self, context: Context, call: Call, key: AssetKey, params: ArchiveWaitParams) -> None:
        self._context = context
        self._asked = params.path
        self._key = key
        self._until_served = params.served
        self._news = JobNews(context, call, progress=params.progress, waiting=params.waiting)
        self._job: Job | None = None
        self._without_job = "the first look"
        """The reason for waiting while there is no job."""

    async def waiting_for(self) -> str:
        """One plain line."""
        return (await why_waiting(self._context, self._job)).reason if self._job else self._without_job

    async def served(self, waited: Waited) -> Waited:
        """The same, when refgenieserver's config has the archive, if that was asked for."""
        if self._until_served and waited.state == ArchiveState.ARCHIVED:
            self._without_job = "its archive is not in the served config yet"
            await self._context.catalog.catch_up()
        return waited

    async def run(self) -> Waited:
        with self._context.jobs.feed.subscribed() as subscription:
            looked = False
            while True:
                done = await self.done(looked=looked)
                if done is not None:
                    return done
                looked_at = self._context.reconciler.last.at
                looked = False
                while not looked and not await changed(subscription, self._key, JOB_PROGRESS_SECONDS):
                    await self._news.tell(self._job, self._without_job)
                    looked = self._context.reconciler.last.at != looked_at

    async def done(self, *, looked: bool = True) -> Waited | None:
        """The result, if there is one already. AssetNotWantedError: there will never be one."""
        asset, facts, stands = await self._standing()
        if stands.due and not looked:  # a job has just ended, or is not queued yet, after the last look
            await _refresh(self._context, self._key.registry_path)
            asset, facts, stands = await self._standing()
        self._job = stands.job
        record = facts.archives.get(self._key)
        if record is not None and stands.archive is ArchiveState.ARCHIVED:
            return Waited(self._key.registry_path, "archived", "", archive=lookup.view(self._context, record, facts))
        if stands.job is not None:
            return None
        newest = facts.jobs.get(self._key)
        if newest and newest.state is JobState.FAILED and newest.stamp == asset.stamp and not stands.wanted:
            view = job_view(self._context, newest)
            return Waited(self._key.registry_path, "failed", newest.error or "the job failed", job=view)
        self._require_wanted(asset, facts, stands)
        self._without_job = self._context.pause.reason or asset.reason
        return None

    def _require_wanted(self, asset: Asset, facts: Facts, stands: Standing) -> None:
        why_not = stands.why_not
        if asset.state is AssetState.BUILDING:  # judge the asset as it will be after the build
            finished = msgspec.structs.replace(asset, state=AssetState.COMPLETE, stamp="the build's result")
            why_not = standing(finished, facts, self._context.current.settings.archive).why_not
        if why_not:
            raise AssetNotWantedError(f"{self._asked} will not be archived by itself: {why_not}")

    async def _standing(self) -> tuple[Asset, Facts, Standing]:
        asset = self._context.reconciler.look.assets.get(self._key)
        if asset is None:
            raise AssetNotFoundError(f"{self._asked} is no longer in the genome folder")
        facts = await self._context.reconciler.standings.facts(self._key)
        return asset, facts, standing(asset, facts, self._context.current.settings.archive)
