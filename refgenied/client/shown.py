"""Commands that show something: status, config, assets, archives, the queue."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from refgenied.client import Client, draw, words

Json = dict[str, Any]

ENDED = 100


def print_json(row: object) -> None:
    print(json.dumps(row))  # ASCII: a name that is not UTF-8 can be printed too


def pages(client: Client, method: str, key: str, cursor: str, **params: Any) -> Iterator[Json]:
    """The rows of all pages."""
    while True:
        page: Json = client.call(method, **params)
        yield from page[key]
        if page["next"] is None:
            return
        params[cursor] = page["next"]


def status(client: Client, arguments: Namespace) -> int:
    info: Json = client.call("server.info")
    if arguments.json:
        print_json(info)
        return 0
    print(f"refgenied {info['version']}, pid {info['pid']}, up {words.span(info['uptime'])}")
    _lines(_status(info))
    for title, rows in (("warnings", _warnings(info)), ("problems in the genome folder", _problems(info))):
        if rows:
            print(f"{title}:")
            print(*(f"  {row}" for row in rows), sep="\n")
    return 0


def _status(info: Json) -> Iterator[tuple[str, str]]:
    genomes, archives, queue, look = (info[key] for key in ("genome_folder", "archive_folder", "queue", "last_look"))
    yield "genome folder", genomes["path"] + (f" ({genomes['layout']})" if genomes["ok"] else " (cannot be read)")
    free = f"{archives['path']} ({words.size(archives['free'])} free)"
    yield "archive folder", free if archives["path"] else "not set: nothing is archived"
    assets, total = info["assets"], info["archives"]
    yield "assets", f"{assets['total']}: {words.counts(assets['states'])}" if assets["total"] else "none"
    stale = f" ({assets['archive']['stale']} stale)" if assets["archive"]["stale"] else ""
    yield "archives", f"{total['count']}, {words.size(total['bytes'])}{stale}"
    failed = f", {queue['failed']} failed" if queue["failed"] else ""
    paused = f"; {queue['paused']}" if queue["paused"] else ""
    yield "queue", f"{queue['running']} running, {queue['queued']} queued{failed}{paused}"
    for job in info["running"]:
        reading = words.progress(job["progress"]) if job["progress"] else "starting"
        yield f"  job {job['job']}", f"{words.name(job)}: {reading}"
    took = f" (took {look['took']:.2f} s), next sweep {words.moment(info['next_sweep_at'])}"
    yield "last look", words.moment(look["at"]) + took if look["at"] else "not yet"
    yield "watching", words.several(len(info["watching"]), "folder") if info["watching"] else "nothing: sweeps only"


def _warnings(info: Json) -> list[str]:
    return [f"{row['name']}: {row['message']} (since {words.moment(row['since'])})" for row in info["health"]]


def _problems(info: Json) -> list[str]:
    rows = [f"{row['path']}: {row['message']}" for row in info["problems"]]
    more = info["problems_total"] - len(rows)
    return [*rows, f"and {more} more"] if more else rows


def _lines(pairs: Iterator[tuple[str, str]]) -> None:
    for name, value in pairs:
        print(f"{name:<15} {value}")


def config_get(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("config.get")
    if arguments.json:
        print_json(found)
        return 0
    refgenie: Json = found["refgenie"]
    rows = [[name, _value(value)] for name, value in refgenie.items()]
    draw.table("refgenie", [draw.Column("Setting"), draw.Column("Value", 20, words.middle)], rows)
    columns = [draw.Column("Setting"), draw.Column("Value", 12, words.middle), draw.Column("From", 10, words.middle)]
    title = f"refgenied ({found['path'] or 'no configuration file'})"
    draw.table(title, columns, [[row["name"], _value(row["value"]), row["origin"]] for row in found["settings"]])
    return 0


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"  # pyright: ignore[reportUnknownArgumentType]
    return "-" if value in ("", None) else str(value)


def asset_list(client: Client, arguments: Namespace) -> int:
    rows = pages(client, "asset.list", "assets", "after", pattern=arguments.pattern, state=arguments.state)
    if arguments.json:
        for row in rows:
            print_json(row)
        return 0
    columns = [
        draw.Column("Asset", 16, words.registry_path),
        draw.Column("State"),
        draw.Column("Archive"),
        draw.Column("Why", 18),
    ]
    lines = sorted([words.name(row), row["state"], row["job"] or row["archive"], _why(row)] for row in rows)
    draw.table("Assets", columns, lines)
    return 0


def _why(row: Json) -> str:
    if row["archive"] != "archived" and row["why_not"] and row["job"] is None:
        return row["why_not"]
    return "" if row["state"] == "complete" else row["reason"]


def archive_list(client: Client, arguments: Namespace) -> int:
    rows = pages(client, "archive.list", "archives", "after", pattern=arguments.pattern)
    if arguments.json:
        for row in rows:
            print_json(row)
        return 0
    lines = [[row["digest"], row["registry_path"], row["path"], words.size(row["size"])] for row in rows]
    draw.table("Asset Archives", [draw.DIGEST, draw.NAME, draw.PATH, draw.SIZE], lines)
    return 0


def archive_show(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("archive.get", path=arguments.path)
    if arguments.json:
        print_json(found)
        return 0
    archive: Json = found["archive"]
    print(words.name(archive))
    _lines(_archive(archive))
    if found["contents"] is None:
        print(f"no manifest: {found['problem']}")
        return 0
    contents: Json = found["contents"]
    _lines(_contents(contents))
    print("contents")
    for entry in contents["files"]:
        detail = f" -> {entry['target']}" if entry["type"] == "link" else ""
        length = words.size(entry.get("size", 0)) if entry["type"] == "file" else entry["type"]
        print(f"  {length:>10}  {entry['path'] or '.'}{detail}")
    if len(contents["files"]) < contents["files_total"]:
        print(f'  … {contents["files_total"]} in all: refgeniectl call archive.files \'{{"path": …, "skip": 1000}}\'')
    print("build commands" if contents["build"]["commands"] else "no build commands are known")
    for command in contents["build"]["commands"]:
        print(f"  {command}")
    return 0


def _archive(row: Json) -> Iterator[tuple[str, str]]:
    yield "registry path", row["registry_path"]
    yield "aliases", ", ".join(row["aliases"]) or "-"
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
    yield "seek keys", ", ".join(f"{key} = {value}" for key, value in row["seek_keys"].items()) or "-"
    yield "parents", ", ".join(row["parents"]) or "-"
    yield "codec", f"{row['codec']['name']} {row['codec']['level']}"
    yield "manifest", row["manifest"]
    yield "members", ", ".join(words.several(row["totals"][f"{word}s"], word) for word in ("file", "folder", "link"))


def queue_list(client: Client, arguments: Namespace) -> int:
    first: Json = client.call("job.list", ended=0, limit=1)
    rows = list(pages(client, "job.list", "jobs", "skip", ended=ENDED if arguments.all else 0))
    if arguments.json:
        for row in rows:
            print_json(row)
        return 0
    columns = [
        draw.Column("Job", right=True),
        draw.Column("Asset", 16, words.registry_path),
        draw.Column("State"),
        draw.Column("By", 6, words.middle),
        draw.Column("Since"),
        draw.Column("What", 12),
    ]
    draw.table("Jobs", columns, [_job(row) for row in rows])
    if first["paused"]:
        print(first["paused"])
    return 0


def _job(row: Json) -> list[str]:
    at = row["ended_at"] or row["started_at"] or row["created_at"]
    what = words.progress(row["progress"]) if row["progress"] else row["error"] or row["outcome"] or ""
    return [str(row["job"]), words.name(row), row["state"], row["requested_by"], words.moment(at), what]
