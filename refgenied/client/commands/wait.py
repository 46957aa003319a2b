"""`archive wait`: waits until the archive of an asset exists."""

import time

from refgenied.client import Client, Json, NoDaemonError, draw, interrupt, words
from refgenied.client.reconnect import Lasting
from refgenied.client.session import JOB_FAILED, TIME_OVER, Session
from refgenied.shared import output


def wait(session: Session, *, path: str, timeout: float | None) -> int:
    """Wait until the archive of an asset, as it is now, exists."""
    deadline = None if timeout is None else time.monotonic() + timeout

    def waited(client: Client) -> Json:
        left = {} if deadline is None else {"timeout": max(0.0, deadline - time.monotonic())}
        with draw.notices(path, json=session.json) as heard:
            return client.call("archive.wait", on_notice=heard, path=path, progress=True, waiting=True, **left)

    lasting = Lasting(session, deadline=deadline)
    try:
        with interrupt.told("nothing was cancelled: what is queued goes on (`refgeniectl queue list`)"):
            found: Json = lasting.ask(waited)
    except NoDaemonError as error:
        if deadline is None or time.monotonic() < deadline:
            raise
        found = {"path": path, "state": "timeout", "reason": f"time is over: {error.message}"}
    if found["state"] == "archived":
        return session.tell(found, f"{path}: archived: {words.archive(found['archive'])}")
    session.tell(found)
    status, kind = {"failed": (JOB_FAILED, "job_failed"), "timeout": (TIME_OVER, "timeout")}[found["state"]]
    output.complain("refgeniectl", f"{path}: {found['reason']}", kind=kind)
    return status
