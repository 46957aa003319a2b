"""`config get`."""

from refgenied.client import Json, tables, words
from refgenied.client.session import DONE, Session


def get(session: Session) -> int:
    """Show refgenie's settings, and all others with where each came from."""
    found = session.ask("config.get")
    if session.json:
        return session.tell(found)
    refgenie: Json = found["refgenie"]
    columns = [tables.Column(name, 10, words.middle) for name in refgenie]
    tables.table("Refgenie configuration", columns, [tables.Page([[_value(value) for value in refgenie.values()]])])
    value, origin = tables.Column("Value", 12, words.middle), tables.Column("From", 10, words.middle)
    title = f"refgenied ({found['path'] or 'no configuration file'})"
    rows = [[row["name"], _value(row["value"]), row["origin"]] for row in found["settings"]]
    tables.table(title, [tables.Column("Setting"), value, origin], [tables.Page(rows)])
    return DONE


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items()) or "-"  # pyright: ignore[reportUnknownVariableType]
    return "-" if value in ("", None) else str(value)
