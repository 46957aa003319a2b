"""`asset list`."""

from collections.abc import Iterator

from refgenied.client import Json, tables, words
from refgenied.client.session import DONE, Page, Session, print_rows

NO_ASSETS = "no assets yet: they appear here when refgenie has built, pulled or added them"


def list_assets(session: Session, *, pattern: str, state: str | None) -> int:
    """List every asset with its state."""
    pages = session.pages("asset.list", "assets", pattern=pattern, state=state)
    if session.json:
        return print_rows(pages)
    columns = [
        tables.Column("Asset", 16, words.registry_path, usual=48),
        tables.Column("State", usual=12),
        tables.Column("Archive", usual=8),
        tables.Column("Why", 18, usual=80),
    ]
    none = "no asset fits" if pattern or state else NO_ASSETS
    tables.table("Assets", columns, _cells(pages), none=none)
    return DONE


def _cells(pages: Iterator[Page]) -> Iterator[tables.Page]:
    """In the order of names if all rows are on one page. Several pages come in the daemon's order."""
    alone = True
    for page in pages:
        rows = [[words.name(row), row["state"], row["job"] or row["archive"], _why(row)] for row in page.rows]
        alone = alone and not page.more
        yield tables.Page(sorted(rows) if alone else rows, page.more)


def _why(row: Json) -> str:
    if row["archive"] != "archived" and row["why_not"]:
        return row["why_not"]
    if row["access"] == "owner":
        return "private: only its owner may read some file (archive.publish_private)"
    return "" if row["state"] == "complete" else row["reason"]
