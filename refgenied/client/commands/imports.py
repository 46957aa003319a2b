"""`archive import`: the daemon records archives that exist already, and reports each one."""

import os

from refgenied.client import DaemonError, Json, draw, interrupt, words
from refgenied.client.session import DONE, REFUSED, Session, complain
from refgenied.shared import output


def import_archives(session: Session, *, what: str) -> int:
    """Take archives that are there already into the database."""
    where = _where(what)

    def tell(row: Json) -> None:
        if row["taken"] == "refused":
            complain(DaemonError({"message": f"{row['path']}: {row['reason']}"}))
        elif row["taken"] == "imported":
            output.say(f"{row['registry_path']}: imported, made by {row['maker']}, {words.size(row['size'])}")

    stopped = "nothing more is imported; what was taken stays, and the same command goes on from there"
    with interrupt.told(stopped), draw.notices("import", json=session.json, tell=tell) as heard:
        found = session.ask("archive.import", on_notice=heard, **where, progress=True)
    counts: Json = found["counts"]
    if not session.json and (not where.get("path") or counts["known"]):
        output.say(f"{found['folder']}: {words.counts(counts) or 'no archives'}")
    if not session.json and counts["removed"]:
        output.say("an archive that was removed comes back when it is named: refgeniectl archive import P")
    return REFUSED if counts["refused"] else DONE


def _where(what: str) -> dict[str, str]:
    """The params for a folder or for one archive. A text that names no file and no folder is a registry path."""
    if not what or os.path.isdir(what):
        return {"folder": os.path.abspath(what) if what else ""}
    if what.endswith(".tgz") or os.path.isfile(what):
        return {"path": os.path.abspath(what)}
    if "/" in what.strip("/") and not what.startswith(("/", ".")):
        return {"path": what}
    return {"folder": os.path.abspath(what)}
