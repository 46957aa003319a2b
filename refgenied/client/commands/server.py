"""`status`, `scan`, `reload` and `call`. They draw nothing, so they start fast."""

from __future__ import annotations

import json
from collections.abc import Iterator

from refgenied.client import DaemonError, Json, UsageError, words
from refgenied.client.session import DONE, Session, complain, say_fields
from refgenied.shared import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALL_EXAMPLE = """write it as '{"path": "hg38/fasta"}'"""


def status(session: Session) -> int:
    """Show how the daemon is: folders, counts, queue, health."""
    info = session.ask("server.info")
    if session.json:
        return session.tell(info)
    output.say(f"refgenied {info['version']}, pid {info['pid']}, up {words.span(info['uptime'])}")
    say_fields(_status(info))
    for title, rows in (("warnings", _warnings(info)), ("problems in the genome folder", _problems(info))):
        if rows:
            output.say(f"{title}:")
            for row in rows:
                output.say(f"  {row}", indent=4)
    return DONE


def _status(info: Json) -> Iterator[tuple[str, str]]:
    genomes, archives, queue, look = (info[key] for key in ("genome_folder", "archive_folder", "queue", "last_look"))
    found = genomes["layout"] if genomes["ok"] else "cannot be read" if look["at"] else "not looked at yet"
    yield "genome folder", f"{genomes['path']} ({found})"
    free = f"{archives['path']} ({words.size(archives['free'])} free)"
    yield "archive folder", free if archives["path"] else "not set"
    assets, total = info["assets"], info["archives"]
    yield "assets", f"{assets['total']}: {words.counts(assets['states'])}" if assets["total"] else "none"
    stale = f" ({assets['archive']['stale']} stale)" if assets["archive"]["stale"] else ""
    yield "archives", f"{total['count']}, {words.size(total['bytes'])}{stale}"
    serving = info["serving"]
    if serving["config"]:
        yield "served", f"{serving['archives']} in {serving['config']}"
        for line in serving["left_out"]:
            yield "  not served", line
    failed = f", {queue['failed']} failed" if queue["failed"] else ""
    paused = f"; {queue['paused']}" if queue["paused"] else ""
    yield "queue", f"{queue['running']} running, {queue['queued']} queued{failed}{paused}"
    for job in info["running"]:
        reading = words.progress(job["progress"]) if job["progress"] else "starting"
        yield f"  job {job['job']}", f"{words.name(job)}: {reading}"
    took = f" (took {look['took']:.2f} s), next sweep {words.moment(info['next_sweep_at'])}"
    yield "last look", words.moment(look["at"]) + took if look["at"] else "not yet"
    watched = info.get("watching_total", len(info["watching"]))  # refgenied 0.3 tells only the first
    yield "watching", words.several(watched, "folder") if watched else "nothing: sweeps only"


def _warnings(info: Json) -> list[str]:
    """The health's warnings, without those that the list of problems shows too."""
    said = [f"{row['path']}: {row['message']}" for row in info["problems"][:1]]
    return [
        f"{row['name']}: {row['message']} (since {words.moment(row['since'])})"
        for row in info["health"]
        if not any(row["message"].startswith(line) for line in said)
    ]


def _problems(info: Json) -> list[str]:
    rows = [f"{row['path']}: {row['message']}" for row in info["problems"]]
    more = info["problems_total"] - len(rows)
    return [*rows, f"and {more} more"] if more else rows


def scan(session: Session) -> int:
    """Look at the genome folder now."""
    found = session.ask("server.scan")
    counts = words.counts(found["states"]) or "none"
    queued = f"; queued {found['queued_total']}" if found["queued_total"] else ""
    return session.tell(found, f"looked in {found['took']:.2f} s: {found['assets']} assets ({counts}){queued}")


def reload(session: Session) -> int:
    """Read the configuration again."""
    found = session.ask("server.reload")
    needs = ", ".join(found["restart_needed"])
    return session.tell(found, "reloaded" + (f"; these need a restart: {needs}" if needs else ""))


def call(session: Session, *, method: str, params: str) -> int:
    """Call any verb of the protocol."""
    client = session.client
    given = _object(params)

    def show(value: object) -> None:
        output.print_json(value, indent=None if session.json else 2)

    def heard(name: str, row: Json) -> None:
        show({"method": name, "params": row})

    try:
        if not method.endswith(".watch"):
            show(client.request(method, given, heard))
            return DONE
        watch = client.watch_with(method, given)
        show(watch.state)
        for name, row in watch:
            heard(name, row)
    except DaemonError as error:  # a person chose method and params, so another version is not the reason
        return complain(error)
    heard("end", watch.end)
    return DONE


def _object(text: str) -> Json:
    try:
        given: Any = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the params are not JSON: {error}", CALL_EXAMPLE) from None
    if not isinstance(given, dict):
        raise UsageError("the params must be an object", CALL_EXAMPLE)
    return given  # pyright: ignore[reportUnknownVariableType]
