"""`queue list`, `pause`, `resume`, `cancel`, `retry`."""

import time
from itertools import chain

from refgenied.client import Json, tables, words
from refgenied.client.session import DONE, Session, print_rows
from refgenied.shared import output

MOST_ENDED = 100
NO_JOBS = "no jobs yet: one is queued when a build finishes"
NO_JOBS_NOW = "no jobs now; `refgeniectl queue list --all` shows those that have ended"


def list_jobs(session: Session, *, every: bool) -> int:
    """List running and queued jobs."""
    pages = session.pages("job.list", "jobs", "skip", ended=MOST_ENDED if every else 0)
    if session.json:
        return print_rows(pages)
    columns = [
        tables.Column("Job", right=True, usual=6),
        tables.Column("Asset", 16, words.registry_path, usual=48),
        tables.Column("State", usual=9),
        tables.Column("By", 6, words.middle, usual=12),
        tables.Column("Since", usual=16),
        tables.Column("What", 12, usual=40),
    ]
    first = next(pages)
    shown = (tables.Page([_cells(row) for row in page.rows], page.more) for page in chain([first], pages))
    tables.table("Jobs", columns, shown, none=NO_JOBS if every else NO_JOBS_NOW)
    if first.answer["paused"]:
        output.say(first.answer["paused"])
    return DONE


def _cells(row: Json) -> list[str]:
    at = row["ended_at"] or row["started_at"] or row["created_at"]
    what = row["error"] or row["outcome"] or ""
    if row["progress"]:
        what = words.progress(row["progress"])
    if row["state"] == "queued" and row["error"] and row["not_before"] > time.time():
        what = f"again {words.moment(row['not_before'])}: {what}"
    return [str(row["job"]), words.name(row), row["state"], row["requested_by"], words.moment(at), what]


def pause(session: Session) -> int:
    """Start no more jobs; a running job continues."""
    found = session.ask("queue.pause")
    said = found["paused"] if found["changed"] else f"already {found['paused']}"
    return session.tell(found, said, "it goes on with: `refgeniectl queue resume`")


def resume(session: Session) -> int:
    """Start jobs again."""
    found = session.ask("queue.resume")
    if found["paused"]:
        return session.tell(found, f"{found['paused']}, still: `refgeniectl status` says why")
    return session.tell(found, "the queue goes on" if found["changed"] else "the queue was not paused")


def cancel(session: Session, *, job: int) -> int:
    """Cancel a job."""
    found = session.ask("job.cancel", job=job)
    what = "is cancelled" if found["state"] == "cancelled" else "is asked to stop"
    back = f"it is queued again with: `refgeniectl queue retry {job}`"
    return session.tell(found, f"job {job} ({words.name(found)}) {what}", back)


def retry(session: Session, *, job: int) -> int:
    """Queue an ended job again."""
    found = session.ask("job.retry", job=job)
    return session.tell(found, f"job {job} ({words.name(found)}) is {found['state']} again")
