"""`archive wait`: waits until the archive of an asset exists, or until it can be pulled."""

import time

from refgenied.client import Client, Json, NoDaemonError, draw, interrupt, words
from refgenied.client.reconnect import Lasting
from refgenied.client.session import JOB_FAILED, TIME_OVER, Session
from refgenied.shared import output


def wait(session: Session, *, path: str, timeout: float | None, served: bool) -> int:
    """Wait until the archive of an asset, as it is now, is complete and recorded. With --served also until
    refgenieserver's config has it: then `refgenie pull` gets it.
    """
    deadline = None if timeout is None else time.monotonic() + timeout

    def waited(client: Client) -> Json:
        more: Json = {"served": True} if served else {}  # refgenied 0.3 does not know it, and always waits for that
        left = {} if deadline is None else {"timeout": max(0.0, deadline - time.monotonic())}
        with draw.notices(path, json=session.json) as heard:
            return client.call("archive.wait", on_notice=heard, path=path, progress=True, waiting=True, **left, **more)

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
