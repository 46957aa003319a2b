"""`archive protect`: closes archives to people who may not read their assets."""

from refgenied.client import ClientError, words
from refgenied.client.commands.verify import require_paths_or_all
from refgenied.client.session import DONE, REFUSED, Session, complain
from refgenied.shared import output

READERS = {"everyone": "everyone", "group": "its group", "owner": "the daemon's user only"}


def protect(session: Session, *, paths: list[str], every: bool) -> int:
    """Let no more people read archives than may read their assets."""
    client = session.client
    require_paths_or_all("protect", paths, every=every)
    found = client.request("archive.protect", {"paths": paths, "all": every})
    if session.json:
        output.print_json(found)
        return REFUSED if found["failed"] else DONE
    for row in found["archives"]:
        name = words.name(row)
        if row["problem"]:
            complain(ClientError(f"{name}: {row['problem']}"))
        else:
            output.say(f"{name}: may be read by {READERS[row['access']]}; before, by {READERS[row['before']]}")
    if not found["archives"]:
        output.say("each archive is open only to people who may read its asset: nothing to change")
    return REFUSED if found["failed"] else DONE
