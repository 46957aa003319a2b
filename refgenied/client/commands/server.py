"""Commands that show one thing in full: the daemon, an archive. They draw nothing, and so start fast."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from refgenied.client import Client, words
from refgenied.shared import output
from refgenied.shared.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from refgenied.client import Json


def status(client: Client, arguments: Namespace) -> int:
    info: Json = client.call("server.info")
    if arguments.json:
        output.print_json(info)
        return 0
    output.say(f"refgenied {info['version']}, pid {info['pid']}, up {words.span(info['uptime'])}")
    _lines(_status(info))
    for title, rows in (("warnings", _warnings(info)), ("problems in the genome folder", _problems(info))):
        if rows:
            output.say(f"{title}:")
            for row in rows:
                output.say(f"  {row}", indent=4)
    return 0


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
        reading = words.progress(Progress.received(job["progress"])) if job["progress"] else "starting"
        yield f"  job {job['job']}", f"{words.name(job)}: {reading}"
    took = f" (took {look['took']:.2f} s), next sweep {words.moment(info['next_sweep_at'])}"
    yield "last look", words.moment(look["at"]) + took if look["at"] else "not yet"
    yield "watching", words.several(len(info["watching"]), "folder") if info["watching"] else "nothing: sweeps only"


def _warnings(info: Json) -> list[str]:
    """What is wrong; what the list of problems says is not said here too."""
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


def _lines(pairs: Iterator[tuple[str, str]]) -> None:
    for name, value in pairs:
        output.say(f"{name:<15} {value}", indent=16)


def archive_show(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("archive.get", path=arguments.path, removed=True)
    if arguments.json:
        output.print_json(found)
        return 0
    archive: Json = found["archive"]
    output.say(words.name(archive))
    _lines(_archive(archive))
    if archive["state"] == "removed":
        output.say(f"it comes back with: `refgeniectl archive import {arguments.path}`")
    if found["contents"] is None:
        output.say(f"what is inside is not shown: {found['problem']}")
        return 0
    contents: Json = found["contents"]
    _lines(_contents(contents))
    output.say("contents")
    for entry in contents["files"]:
        detail = f" -> {entry['target']}" if entry["type"] == "link" else ""
        length = words.size(entry.get("size", 0)) if entry["type"] == "file" else entry["type"]
        output.say(f"  {length:>10}  {entry['path'] or '.'}{detail}")
    if len(contents["files"]) < contents["files_total"]:
        output.say(
            f'  … {contents["files_total"]} in all: refgeniectl call archive.files \'{{"path": …, "skip": 1000}}\''
        )
    output.say("build commands" if contents["build"]["commands"] else "no build commands are known")
    for command in contents["build"]["commands"]:
        output.say(f"  {command}")
    return 0


def _archive(row: Json) -> Iterator[tuple[str, str]]:
    yield "registry path", row["registry_path"]
    yield "aliases", words.first(row["aliases"], row["aliases_total"])
    yield "state", row["state"] + (f" ({row['problem']})" if row["problem"] else "")
    yield "path", row["path"]
    yield "size", f"{words.size(row['size'])} ({row['size']} bytes), from {words.size(row['source_size'])}"
    yield "md5", row["digest"]
    yield "asset digest", row["asset_digest"]
    yield "content digest", row["content_digest"]
    yield "made", f"{words.moment(row['created_at'])}, asked by {row['requested_by']}"
    yield "proved", words.moment(row["proved_at"])
    yield "downloads", str(row["download_count"])


def _contents(row: Json) -> Iterator[tuple[str, str]]:
    if row["description"]:
        yield "description", row["description"]
    yield (
        "seek keys",
        words.first([f"{key} = {value}" for key, value in row["seek_keys"].items()], row["seek_keys_total"]),
    )
    yield "parents", ", ".join(row["parents"]) or "-"
    yield "codec", f"{row['codec']['name']} {row['codec']['level']}"
    yield "manifest", row["manifest"]
    yield "members", ", ".join(words.several(row["totals"][f"{word}s"], word) for word in ("file", "folder", "link"))
