"""`archive create` and `archive wait`: ask, and follow the job to its end."""

from __future__ import annotations

import time
from argparse import Namespace
from functools import partial

from refgenied.client import Client, DaemonError, HungUpError, Json, NoDaemonError, draw, interrupt, words
from refgenied.client.cli import DONE, JOB_FAILED, TIME_OVER, complain, status_of
from refgenied.client.reconnect import Lasting
from refgenied.shared import output
from refgenied.shared.progress import Progress


def create(client: Client, arguments: Namespace) -> int:
    lasting = Lasting(client, arguments.socket)
    going: list[int] = []
    with interrupt.told(lambda: _still(going)):
        wishes: Json = lasting.ask(lambda c: c.call("archive.create", paths=arguments.paths, force=arguments.force))
        going += sorted({wish["job"] for wish in wishes["results"] if wish["job"] is not None})
        return max(_follow(lasting, wish, arguments, going) for wish in wishes["results"])


def _still(going: list[int]) -> str:
    """What goes on when nobody waits any more."""
    if not going:
        return "what was asked for may be queued: `refgeniectl queue list`"
    first, *others = going
    what = (
        f"job {first} goes on" if not others else f"jobs {words.first([str(job) for job in going], len(going))} go on"
    )
    return f"{what}; cancel with: `refgeniectl queue cancel {first}`{' and so on' if others else ''}"


def _follow(lasting: Lasting, wish: Json, arguments: Namespace, going: list[int]) -> int:
    if wish["error"] is not None:
        error = DaemonError(wish["error"])
        if arguments.json:
            output.print_json(wish)
        complain(error)
        return status_of(error)
    path = wish["path"]
    if wish["job"] is None:
        return _tell(arguments, wish, f"{path}: archived already, nothing has changed")
    if arguments.no_wait:
        again = "" if wish["created"] else " already"
        return _tell(arguments, wish, f"{path}: {wish['state']}{again} (job {wish['job']})")
    job = lasting.ask(lambda c: _job_ended(c, wish["job"], path, quiet=arguments.json))
    going[:] = [number for number in going if number != wish["job"]]
    if job["state"] != "succeeded":
        _tell(arguments, wish | job)
        complain(DaemonError({"message": f"{path}: job {job['job']} {job['state']}: {job['error']}"}))
        return JOB_FAILED
    archive: Json = lasting.ask(lambda c: c.call("archive.get", path=job["registry_path"])["archive"])
    return _tell(arguments, wish | job | {"archive": archive}, f"{path}: {_OUTCOMES[job['outcome']]}: {_what(archive)}")


_OUTCOMES = {
    "published": "archived",
    "unchanged": "unchanged, the archive stays",
    "adopted": "the archive in place was proved and recorded",
}


def _job_ended(client: Client, number: int, label: str, *, quiet: bool) -> Json:
    """Watch a job to its end. HungUpError when the daemon stops before."""
    with draw.progress(label, quiet=quiet) as show:
        watch = client.watch("job.watch", job=number, waiting=True)
        for method, params in watch:
            _heard(label, show, method, params)
    if watch.end["reason"] == "lagged":
        return _job_ended(client, number, label, quiet=quiet)
    if watch.end["reason"] != "done":
        raise HungUpError("the daemon is shutting down", f"job {number} goes on when it is back")
    job: Json = watch.end["job"]
    return job


def _heard(label: str, show: draw.Show, method: str, row: Json) -> None:
    """A notification of something that lasts."""
    if method == "progress":
        show(Progress.received(row))
    elif method == "waiting":
        output.note("refgeniectl", f"{label} waits: {row['reason']}")


def wait(client: Client, arguments: Namespace) -> int:
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    lasting = Lasting(client, arguments.socket, deadline=deadline)
    stopped = "nothing was cancelled: what is queued goes on (`refgeniectl queue list`)"
    try:
        with interrupt.told(lambda: stopped):
            found: Json = lasting.ask(lambda c: _waited(c, arguments, deadline))
    except NoDaemonError as error:
        if deadline is None or time.monotonic() < deadline:
            raise
        found = {"path": arguments.path, "state": "timeout", "reason": f"time is over: {error.message}"}
    if arguments.json:
        output.print_json(found)
    elif found["state"] == "archived":
        output.say(f"{arguments.path}: archived: {_what(found['archive'])}")
    if found["state"] != "archived":
        kind = "timeout" if found["state"] == "timeout" else "job_failed"
        output.complain("refgeniectl", f"{arguments.path}: {found['reason']}", kind=kind)
    return {"archived": DONE, "failed": JOB_FAILED, "timeout": TIME_OVER}[found["state"]]


def _waited(client: Client, arguments: Namespace, deadline: float | None) -> Json:
    left = {} if deadline is None else {"timeout": max(0.0, deadline - time.monotonic())}
    with draw.progress(arguments.path, quiet=arguments.json) as show:
        found: Json = client.call(
            "archive.wait",
            on_notice=partial(_heard, arguments.path, show),
            path=arguments.path,
            progress=True,
            waiting=True,
            **left,
        )
    return found


def _what(archive: Json) -> str:
    return f"{words.size(archive['size'])}, md5 {archive['digest']}, {archive['path']}"


def _tell(arguments: Namespace, row: Json, line: str = "") -> int:
    if arguments.json:
        output.print_json(row)
    elif line:
        output.say(line)
    return DONE
