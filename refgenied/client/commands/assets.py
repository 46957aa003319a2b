"""`asset list`."""

from refgenied.client import Json, draw, words
from refgenied.client.session import DONE, Session, print_rows

NO_ASSETS = "no assets yet: they appear here when refgenie has built, pulled or added them"


def list_assets(session: Session, *, pattern: str, state: str | None) -> int:
    """List every asset with its state."""
    rows = session.pages("asset.list", "assets", pattern=pattern, state=state)
    if session.json:
        return print_rows(rows)
    columns = [
        draw.Column("Asset", 16, words.registry_path),
        draw.Column("State"),
        draw.Column("Archive"),
        draw.Column("Why", 18),
    ]
    lines = sorted([words.name(row), row["state"], row["job"] or row["archive"], _why(row)] for row in rows)
    draw.table("Assets", columns, lines, none="no asset fits" if pattern or state else NO_ASSETS)
    return DONE


def _why(row: Json) -> str:
    if row["archive"] != "archived" and row["why_not"]:
        return row["why_not"]
    if row["access"] == "owner":
        return "private: only its owner may read some file (archive.publish_private)"
    return "" if row["state"] == "complete" else row["reason"]
