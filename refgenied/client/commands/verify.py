"""`archive verify`: the daemon reads archives back, and reports each one."""

from refgenied.client import ClientError, Json, UsageError, draw, interrupt, words
from refgenied.client.session import DAMAGED, DONE, Session, complain
from refgenied.shared import output


def require_paths_or_all(command: str, paths: list[str], *, every: bool) -> None:
    """UsageError unless exactly one of the two is given."""
    if bool(paths) == every:
        raise UsageError("name archives, or give --all", f"refgeniectl archive {command} hg38/fasta")


def verify(session: Session, *, paths: list[str], every: bool, quick: bool) -> int:
    """Read archives back and compare every byte with their manifests."""
    client = session.client
    require_paths_or_all("verify", paths, every=every)
    bad: list[Json] = []

    def tell(row: Json) -> None:
        if row["damage"]:
            bad.append(row)
        else:
            what = "is there, as recorded" if row["quick"] else _speed(row)
            mended = f"; {row['mended']}" if row.get("mended") else ""
            output.say(f"{words.name(row)}: {what}{mended}")

    params = {"paths": paths, "all": every, "quick": quick, "progress": True}
    stopped = "nothing more is read; what was found so far is recorded"
    with interrupt.told(stopped), draw.notices("verify", json=session.json, tell=tell) as heard:
        found: Json = client.request("archive.verify", params, heard)
    for row in bad:
        complain(ClientError(f"{words.name(row)} is damaged: {row['damage']}", row["hint"]))
    if not session.json and found["verified"] != 1:
        sound = found["verified"] - found["damaged_total"]
        rate = f" in {found['seconds']:.1f} s" if not quick else ""
        archives = words.several(found["verified"], "archive")
        output.say(f"{sound} of {archives} sound, {words.size(found['bytes'])}{rate}")
    return DAMAGED if found["damaged_total"] else DONE


def _speed(row: Json) -> str:
    rate = f", {words.size(row['size'] / row['seconds'])}/s" if row["seconds"] > 0.01 else ""
    return f"proved, {words.size(row['size'])} in {row['seconds']:.2f} s{rate}"
