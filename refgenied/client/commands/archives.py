"""Commands that show a table: assets, archives, the queue, the configuration."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from refgenied.client import Client, Json, draw, words
from refgenied.shared import output
from refgenied.shared.progress import Progress

ENDED = 100
NO_ASSETS = "no assets yet: they appear here when refgenie has built, pulled or added them"
NO_ARCHIVES = (
    "no archives yet: assets are archived when their builds finish; `refgeniectl asset list` says what is there, "
    "`refgeniectl archive create P` archives one now"
)
NO_JOBS = "no jobs yet: one is queued when a build finishes"
NO_JOBS_NOW = "no jobs now; `refgeniectl queue list --all` shows those that have ended"


def pages(client: Client, method: str, key: str, cursor: str, **params: Any) -> Iterator[Json]:
    """The rows of all pages."""
    while True:
        page: Json = client.call(method, **params)
        yield from page[key]
        if page["next"] is None:
            return
        params[cursor] = page["next"]


def config_get(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("config.get")
    if arguments.json:
        output.print_json(found)
        return 0
    refgenie: Json = found["refgenie"]
    columns = [draw.Column(name, 10, words.middle) for name in refgenie]
    draw.table("Refgenie configuration", columns, [[_value(value) for value in refgenie.values()]])
    columns = [draw.Column("Setting"), draw.Column("Value", 12, words.middle), draw.Column("From", 10, words.middle)]
    title = f"refgenied ({found['path'] or 'no configuration file'})"
    draw.table(title, columns, [[row["name"], _value(row["value"]), row["origin"]] for row in found["settings"]])
    return 0


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items()) or "-"  # pyright: ignore[reportUnknownVariableType]
    return "-" if value in ("", None) else str(value)


def asset_list(client: Client, arguments: Namespace) -> int:
    rows = pages(client, "asset.list", "assets", "after", pattern=arguments.pattern, state=arguments.state)
    if arguments.json:
        for row in rows:
            output.print_json(row)
        return 0
    columns = [
        draw.Column("Asset", 16, words.registry_path),
        draw.Column("State"),
        draw.Column("Archive"),
        draw.Column("Why", 18),
    ]
    lines = sorted([words.name(row), row["state"], row["job"] or row["archive"], _why(row)] for row in rows)
    found_none = "no asset fits" if arguments.pattern or arguments.state else NO_ASSETS
    draw.table("Assets", columns, lines, none=found_none)
    return 0


def _why(row: Json) -> str:
    if row["archive"] != "archived" and row["why_not"]:
        return row["why_not"]
    if row["access"] == "owner":
        return "private: only its owner may read some file (archive.publish_private)"
    return "" if row["state"] == "complete" else row["reason"]


def archive_list(client: Client, arguments: Namespace) -> int:
    rows = pages(client, "archive.list", "archives", "after", pattern=arguments.pattern)
    if arguments.json:
        for row in rows:
            output.print_json(row)
        return 0
    lines = [
        [
            row["digest"],
            row["registry_path"],
            row["path"],
            words.size(row["size"]),
            str(row["download_count"]),
            row["problem"],
        ]
        for row in rows
    ]
    columns = [draw.DIGEST, draw.NAME, draw.PATH, draw.SIZE, draw.PULLS]
    if any(line[-1] for line in lines):
        columns.append(draw.Column("Problem", 18))
    none = "no archive fits" if arguments.pattern else NO_ARCHIVES
    draw.table("Asset Archives", columns, [line[: len(columns)] for line in lines], none=none)
    return 0


def queue_list(client: Client, arguments: Namespace) -> int:
    first: Json = client.call("job.list", ended=0, limit=1)
    rows = list(pages(client, "job.list", "jobs", "skip", ended=ENDED if arguments.all else 0))
    if arguments.json:
        for row in rows:
            output.print_json(row)
        return 0
    columns = [
        draw.Column("Job", right=True),
        draw.Column("Asset", 16, words.registry_path),
        draw.Column("State"),
        draw.Column("By", 6, words.middle),
        draw.Column("Since"),
        draw.Column("What", 12),
    ]
    draw.table("Jobs", columns, [_job(row) for row in rows], none=NO_JOBS if arguments.all else NO_JOBS_NOW)
    if first["paused"]:
        output.say(first["paused"])
    return 0


def _job(row: Json) -> list[str]:
    at = row["ended_at"] or row["started_at"] or row["created_at"]
    what = (
        words.progress(Progress.received(row["progress"])) if row["progress"] else row["error"] or row["outcome"] or ""
    )
    if row["state"] == "queued" and row["error"] and row["not_before"] > time.time():
        what = f"again {words.moment(row['not_before'])}: {what}"
    return [str(row["job"]), words.name(row), row["state"], row["requested_by"], words.moment(at), what]
