"""`archive list` and `archive show`."""

from collections.abc import Iterator
from itertools import chain

from refgenied.client import Json, tables, words
from refgenied.client.session import DONE, Session, print_rows, say_fields
from refgenied.shared import output

NO_ARCHIVES = (
    "no archives yet: assets are archived when their builds finish; `refgeniectl asset list` says what is there, "
    "`refgeniectl archive create P` archives one now"
)


def list_archives(session: Session, *, pattern: str) -> int:
    """List the archives."""
    pages = session.pages("archive.list", "archives", pattern=pattern)
    if session.json:
        return print_rows(pages)
    first = next(pages)
    columns = [tables.DIGEST, tables.ASSET_NAME, tables.PATH, tables.SIZE, tables.PULLS]
    if first.more or any(row["problem"] for row in first.rows):
        columns.append(tables.Column("Problem", 12 if first.more else 18, usual=40))
    none = "no archive fits" if pattern else NO_ARCHIVES
    shown = (
        tables.Page([_cells(row)[: len(columns)] for row in page.rows], page.more) for page in chain([first], pages)
    )
    tables.table("Asset Archives", columns, shown, none=none)
    return DONE


def _cells(row: Json) -> list[str]:
    size, count = words.size(row["size"]), str(row["download_count"])
    return [row["digest"], row["registry_path"], row["path"], size, count, row["problem"]]


def show(session: Session, *, path: str) -> int:
    """Show one archive: record, contents, build commands."""
    found = session.ask("archive.get", path=path, removed=True)
    if session.json:
        return session.tell(found)
    archive: Json = found["archive"]
    output.say(words.name(archive))
    say_fields(_archive(archive))
    if archive["state"] == "removed":
        output.say(f"it comes back with: `refgeniectl archive import {path}`")
    if found["contents"] is None:
        output.say(f"the content is not shown: {found['problem']}")
        return DONE
    contents: Json = found["contents"]
    say_fields(_contents(contents))
    output.say("contents")
    for entry in contents["files"]:
        detail = f" -> {entry['target']}" if entry["type"] == "link" else ""
        length = words.size(entry.get("size", 0)) if entry["type"] == "file" else entry["type"]
        output.say(f"  {length:>10}  {entry['path'] or '.'}{detail}")
    if len(contents["files"]) < contents["files_total"]:
        output.say(
            f'  … {contents["files_total"]} in all: refgeniectl call archive.files \'{{"path": …, "skip": 1000}}\''
        )
    commands = contents["build"]["commands"]
    output.say("build commands" if commands else "no build commands are known")
    for command in commands:
        output.say(f"  {command}")
    return DONE


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
    seek_keys = [f"{key} = {value}" for key, value in row["seek_keys"].items()]
    yield "seek keys", words.first(seek_keys, row["seek_keys_total"])
    yield "parents", ", ".join(row["parents"]) or "-"
    yield "codec", f"{row['codec']['name']} {row['codec']['level']}"
    yield "manifest", row["manifest"]
    yield "members", ", ".join(words.several(row["totals"][f"{word}s"], word) for word in ("file", "folder", "link"))
