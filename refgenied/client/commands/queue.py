"""Commands that give one order and say what came of it."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any, cast

from refgenied.client import Client, Json, UsageError, words
from refgenied.client.cli import DONE
from refgenied.shared import output


def scan(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("server.scan")
    counts = words.counts(found["states"]) or "none"
    queued = f"; queued {found['queued_total']}" if found["queued_total"] else ""
    return _tell(arguments, found, f"looked in {found['took']:.2f} s: {found['assets']} assets ({counts}){queued}")


def reload(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("server.reload")
    needs = ", ".join(found["restart_needed"])
    return _tell(arguments, found, "reloaded" + (f"; these need a restart: {needs}" if needs else ""))


def pause(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("queue.pause")
    said = found["paused"] if found["changed"] else f"already {found['paused']}"
    return _tell(arguments, found, said, "it goes on with: `refgeniectl queue resume`")


def resume(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("queue.resume")
    if found["paused"]:
        return _tell(arguments, found, f"{found['paused']}, still: `refgeniectl status` says why")
    return _tell(arguments, found, "the queue goes on" if found["changed"] else "the queue was not paused")


def cancel(client: Client, arguments: Namespace) -> int:
    job: Json = client.call("job.cancel", job=arguments.job)
    what = "is cancelled" if job["state"] == "cancelled" else "is asked to stop"
    back = f"it is queued again with: `refgeniectl queue retry {job['job']}`"
    return _tell(arguments, job, f"job {job['job']} ({words.name(job)}) {what}", back)


def retry(client: Client, arguments: Namespace) -> int:
    job: Json = client.call("job.retry", job=arguments.job)
    return _tell(arguments, job, f"job {job['job']} ({words.name(job)}) is {job['state']} again")


def remove(client: Client, arguments: Namespace) -> int:
    found: Json = client.call("archive.remove", path=arguments.path, delete_file=arguments.delete_file)
    group, _, _ = arguments.path.partition("/")
    path = f"{group}/{found['registry_path'].partition('/')[2]}"  # the default asset may be another one later
    if found["there"]:
        fate, back = f"its file stays: {found['path']}", f"it comes back with: `refgeniectl archive import {path}`"
    else:
        fate = f"its file is {'deleted' if found['deleted'] else 'gone'}: {found['path']}"
        back = f"only its asset can bring it back: `refgeniectl archive create {path}`"
    return _tell(arguments, found, f"{path}: the archive is forgotten; {fate}", back)


def call(client: Client, arguments: Namespace) -> int:
    try:
        given: Any = json.loads(arguments.params)
    except ValueError as error:
        raise UsageError(f"the params are not JSON: {error}", _EXAMPLE) from None
    if not isinstance(given, dict):
        raise UsageError("the params must be an object", _EXAMPLE)
    params = cast(Json, given)
    if not arguments.method.endswith(".watch"):
        _print(
            arguments, client.request(arguments.method, params, lambda method, told: _notice(arguments, method, told))
        )
        return DONE
    watch = client.watch_with(arguments.method, params)
    _print(arguments, watch.state)
    for method, told in watch:
        _notice(arguments, method, told)
    _notice(arguments, "end", watch.end)
    return DONE


_EXAMPLE = """write it as '{"path": "hg38/fasta"}'"""


def _notice(arguments: Namespace, method: str, params: Json) -> None:
    _print(arguments, {"method": method, "params": params})


def _print(arguments: Namespace, value: object) -> None:
    output.print_json(value, indent=None if arguments.json else 2)


def _tell(arguments: Namespace, row: Json, *lines: str) -> int:
    if arguments.json:
        output.print_json(row)
    else:
        for line in lines:
            output.say(line)
    return DONE
