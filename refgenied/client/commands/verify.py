"""`archive verify` and `archive import`: long orders, whose results are told one by one."""

from __future__ import annotations

import os
from argparse import Namespace

from refgenied.client import Client, ClientError, DaemonError, Json, UsageError, draw, interrupt, words
from refgenied.client.cli import DAMAGED, DONE, REFUSED, complain
from refgenied.shared import output
from refgenied.shared.progress import Progress


def verify(client: Client, arguments: Namespace) -> int:
    if bool(arguments.paths) == arguments.all:
        raise UsageError("name archives, or give --all", "refgeniectl archive verify hg38/fasta")
    bad: list[Json] = []

    def told(method: str, row: Json) -> None:
        if method == "progress":
            show(Progress.received(row))
        elif arguments.json:
            output.print_json({name: value for name, value in row.items() if name != "watch"})
        elif row["damage"]:
            bad.append(row)
        else:
            what = "is there, as recorded" if row["quick"] else _speed(row)
            mended = f"; {row['mended']}" if row.get("mended") else ""
            output.say(f"{words.name(row)}: {what}{mended}")

    stopped = "nothing more is read; what was found so far is recorded"
    with interrupt.told(lambda: stopped), draw.progress("verify", quiet=arguments.json) as show:
        found: Json = client.request(
            "archive.verify",
            {"paths": arguments.paths, "all": arguments.all, "quick": arguments.quick, "progress": True},
            told,
        )
    for row in bad:
        complain(ClientError(f"{words.name(row)} is damaged: {row['damage']}", row["hint"]))
    if not arguments.json and found["verified"] != 1:
        sound = found["verified"] - found["damaged_total"]
        rate = f" in {found['seconds']:.1f} s" if not arguments.quick else ""
        output.say(
            f"{sound} of {words.several(found['verified'], 'archive')} sound, {words.size(found['bytes'])}{rate}"
        )
    return DAMAGED if found["damaged_total"] else DONE


def protect(client: Client, arguments: Namespace) -> int:
    if bool(arguments.paths) == arguments.all:
        raise UsageError("name archives, or give --all", "refgeniectl archive protect hg38/fasta")
    found: Json = client.call("archive.protect", paths=arguments.paths, all=arguments.all)
    if arguments.json:
        output.print_json(found)
        return REFUSED if found["failed"] else DONE
    for row in found["archives"]:
        if row["problem"]:
            complain(ClientError(f"{words.name(row)}: {row['problem']}"))
        else:
            output.say(
                f"{words.name(row)}: may be read by {_READERS[row['access']]}; before, by {_READERS[row['before']]}"
            )
    if not found["archives"]:
        output.say("nobody may read more of these archives than of their assets: nothing to change")
    return REFUSED if found["failed"] else DONE


_READERS = {"everyone": "everyone", "group": "its group", "owner": "the daemon's user only"}


def _speed(row: Json) -> str:
    rate = f", {words.size(row['size'] / row['seconds'])}/s" if row["seconds"] > 0.01 else ""
    return f"proved, {words.size(row['size'])} in {row['seconds']:.2f} s{rate}"


def bring(client: Client, arguments: Namespace) -> int:
    where = _where(arguments.what)

    def told(method: str, row: Json) -> None:
        if method == "progress":
            show(Progress.received(row))
        elif arguments.json:
            output.print_json({name: value for name, value in row.items() if name != "watch"})
        elif row["taken"] == "refused":
            complain(DaemonError({"message": f"{row['path']}: {row['reason']}"}))
        elif row["taken"] == "imported":
            output.say(f"{row['registry_path']}: imported, made by {row['maker']}, {words.size(row['size'])}")

    stopped = "nothing more is imported; what was taken stays, and the same command goes on from there"
    with interrupt.told(lambda: stopped), draw.progress("import", quiet=arguments.json) as show:
        found: Json = client.call("archive.import", on_notice=told, **where, progress=True)
    counts: Json = found["counts"]
    if not arguments.json and (not where.get("path") or counts["known"]):
        output.say(f"{found['folder']}: {words.counts(counts) or 'no archives'}")
    if not arguments.json and counts["removed"]:
        output.say("an archive that was removed comes back when it is named: refgeniectl archive import P")
    return REFUSED if counts["refused"] else DONE


def _where(what: str) -> dict[str, str]:
    """A folder, or the one archive that is meant. A registry path is what is not there as a file or folder."""
    if not what or os.path.isdir(what):
        return {"folder": os.path.abspath(what) if what else ""}
    if what.endswith(".tgz") or os.path.isfile(what):
        return {"path": os.path.abspath(what)}
    if "/" in what.strip("/") and not what.startswith(("/", ".")):
        return {"path": what}
    return {"folder": os.path.abspath(what)}
