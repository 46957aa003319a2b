"""`archive create`: asks for archives, and follows their jobs to the end."""

from __future__ import annotations

from json import dumps

from refgenied.client import Client, DaemonError, HungUpError, Json, draw, interrupt, words
from refgenied.client.reconnect import Lasting
from refgenied.client.session import JOB_FAILED, Session, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OUTCOMES = {
    "published": "archived",
    "unchanged": "unchanged, the archive stays",
    "adopted": "the archive in place was proved and recorded",
}


MOST_PATHS = 1000
"""The most paths in one request."""
MOST_BYTES = 60_000
"""The most bytes of all paths in one request: the protocol's limit for a request is 64 KiB."""


def create(session: Session, *, paths: list[str], force: bool, no_wait: bool, served: bool) -> int:
    """Archive assets, and wait until their archives are complete and recorded. With --served also until
    refgenieserver's config has them: then `refgenie pull` gets them.
    """
    lasting = Lasting(session)
    unfinished: list[int] = []
    with interrupt.told(lambda: _what_goes_on(unfinished)):
        results: list[Json] = []
        for some in _requests(paths):
            results += _asked_for(lasting, some, force=force)
            unfinished[:] = sorted({wish["job"] for wish in results if wish["job"] is not None})
        status = max(_follow(session, lasting, wish, unfinished, no_wait=no_wait) for wish in results)
        if served:
            _until_served(lasting, results)
    return status


def _until_served(lasting: Lasting, wishes: list[Json]) -> None:
    """Wait once, at the end: then all archives that are recorded are served."""
    jobs = [wish["job"] for wish in wishes if wish["job"] is not None]
    archived = [wish["path"] for wish in wishes if wish["state"] == "archived"]
    if jobs:
        lasting.ask(lambda client: _ended(client, jobs[-1], "", served=True, json=True))
    elif archived:
        lasting.ask(lambda client: client.call("archive.wait", path=archived[-1], served=True))


def _requests(paths: list[str]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for path in paths:
        length = len(dumps(path)) + 2
        if some and (len(some) == MOST_PATHS or size + length > MOST_BYTES):
            yield some
            some, size = [], 0
        some.append(path)
        size += length
    yield some


def _asked_for(lasting: Lasting, paths: list[str], *, force: bool) -> list[Json]:
    return lasting.ask(lambda client: client.call("archive.create", paths=paths, force=force)["results"])


def _what_goes_on(jobs: list[int]) -> str:
    """The text for a person who stops waiting for these jobs."""
    if not jobs:
        return "the request may have queued jobs: `refgeniectl queue list`"
    first, *others = jobs
    if not others:
        return f"job {first} goes on; cancel with: `refgeniectl queue cancel {first}`"
    numbers = words.first([str(job) for job in jobs], len(jobs))
    return f"jobs {numbers} go on; cancel with: `refgeniectl queue cancel {first}` and so on"


def _follow(session: Session, lasting: Lasting, wish: Json, unfinished: list[int], *, no_wait: bool) -> int:
    path, number = wish["path"], wish["job"]
    if wish["error"] is not None:
        session.tell(wish)
        return complain(DaemonError(wish["error"]))
    if number is None:
        return session.tell(wish, f"{path}: archived already, nothing has changed")
    if no_wait:
        again = "" if wish["created"] else " already"
        return session.tell(wish, f"{path}: {wish['state']}{again} (job {number})")
    job = lasting.ask(lambda client: _ended(client, number, path, json=session.json))
    unfinished[:] = [other for other in unfinished if other != number]
    if job["state"] != "succeeded":
        session.tell(wish | job)
        complain(DaemonError({"message": f"{path}: job {job['job']} {job['state']}: {job['error']}"}))
        return JOB_FAILED
    archive: Json = lasting.ask(lambda client: client.call("archive.get", path=job["registry_path"])["archive"])
    outcome = OUTCOMES[job["outcome"]]
    return session.tell(wish | job | {"archive": archive}, f"{path}: {outcome}: {words.archive(archive)}")


def _ended(client: Client, number: int, path: str, *, json: bool, served: bool = False) -> Json:
    """Watch a job until it ends, and return it. HungUpError: the daemon stops before that."""
    more: Json = {"served": True} if served else {}  # refgenied 0.3 does not know it, and always waits for that
    while True:
        with draw.notices(path, json=json) as heard:
            watch = client.watch("job.watch", job=number, waiting=True, **more)
            for method, params in watch:
                heard(method, params)
        reason = watch.end["reason"]
        if reason == "done":
            return watch.end["job"]
        if reason != "lagged":
            raise HungUpError("the daemon is shutting down", f"job {number} goes on when it is back")
