"""Times as people write them: `2h`, `yesterday`, `14:03`, `2025-11-21 14:03`. In local time."""

import re
from datetime import datetime, timedelta

HOW = "an event's number, or a time: 2h, 3d, yesterday, 14:03, 2025-11-21, '2025-11-21 14:03', @1763733780"

_UNITS = {"s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"(\d+)\s*(s|min|m|h|d|w)(?![a-z])\s*")


def since(text: str) -> int | float:
    """An event's number as an int, or a time as a float in Unix seconds. ValueError: it is neither."""
    return int(text) if text.isdecimal() else moment(text.strip().lower(), datetime.now().astimezone())


def moment(text: str, now: datetime) -> float:
    """Unix seconds. ValueError. `now` in local time."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("now", "today", "yesterday"):
        return {"now": now, "today": today, "yesterday": _days_before(today, 1)}[text].timestamp()
    if text.startswith("@"):
        return float(text[1:])
    spans = text.removesuffix("ago").strip()
    if re.fullmatch(rf"(?:{_SPAN.pattern})+", spans):
        back = timedelta()
        for number, unit in _SPAN.findall(spans):
            back += timedelta(**{_UNITS[unit]: int(number)})
        return (now - back).timestamp()
    if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text):  # the last moment with this time of day
        clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M")  # noqa: DTZ007
        at = today.replace(hour=clock.hour, minute=clock.minute, second=clock.second)
        return (at if at <= now else _days_before(at, 1)).timestamp()
    return datetime.fromisoformat(text.upper()).timestamp()


def _days_before(at: datetime, days: int) -> datetime:
    """The same time of day, even if the clocks were changed in between (summer time)."""
    return (at.replace(tzinfo=None) - timedelta(days=days)).astimezone()
