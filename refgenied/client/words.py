"""Writes numbers, times and events for people. It uses only the standard library."""

from __future__ import annotations

from refgenied.shared import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from refgenied.client import Json


def size(number: float) -> str:
    """`8.6 MB`: base 1024, as refgenie counts."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if abs(number) < 1024 or unit == "TB":
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return ""


def moment(at: float | None) -> str:
    """Local time, as `output.moment` writes it; `-` for no time."""
    return output.moment(at) if at else "-"


def span(seconds: float) -> str:
    """`3 d 4 h`, `2 h 3 min`, `45 s`: the two largest units."""
    seconds = max(0, round(seconds))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")]
    first = next((n for n, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


def name(row: Json) -> str:
    """The asset as people call it: `hg38/fasta:default`, with the digest when there is no alias."""
    path = str(row.get("registry_path") or "-")
    aliases: list[str] = row.get("aliases") or []
    return f"{aliases[0]}/{path.partition('/')[2]}" if aliases else path


def archive(row: Json) -> str:
    """`8.6 MB, md5 …, /archives/….tgz`."""
    return f"{size(row['size'])}, md5 {row['digest']}, {row['path']}"


def without_watch(row: Json) -> Json:
    """A notification's row, without the number of its request."""
    return {name: value for name, value in row.items() if name != "watch"}


def middle(text: str, width: int) -> str:
    """Cut the middle out of a digest or a path; both ends stay. `width`: columns of a terminal."""
    if output.columns(text) <= width:
        return text
    head = max(1, (width - 1) // 3) if "/" in text else width // 2
    return f"{output.head(text, head)}…{output.tail(text, width - 1 - head)}"


def registry_path(text: str, width: int) -> str:
    """Cut the genome digest of a registry path. If this is not enough, cut the rest too."""
    genome, _, rest = text.partition("/")
    room = width - output.columns(rest) - 1
    if room >= 3 or output.columns(text) <= width:
        return f"{middle(genome, room)}/{rest}"
    return f"…{output.tail(text, width - 1)}"


def counts(numbers: Json) -> str:
    """`10 complete, 1 failed`."""
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number)


def first(texts: list[str], total: int, most: int = 20) -> str:
    """`3, 4, 5 and 2 more`. `total`: the number of all texts."""
    shown = texts[:most]
    more = f" and {total - len(shown)} more" if total > len(shown) else ""
    return ", ".join(shown) + more or "-"


def several(number: int, word: str) -> str:
    """`1 folder`, `3 folders`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def progress(row: Json) -> str:
    """`packing 45 % of 8.6 MB, 120.0 MB/s`."""
    share = f" {100 * row['done'] // row['total']} % of {size(row['total'])}" if row["total"] else ""
    return f"{row['phase']}{share}, {size(row['rate'])}/s"


def event(row: Json) -> str:
    """One line: time, kind, asset and details."""
    data: Json = row["data"]
    details = [f"job {row['job']}"] if row.get("job") else []
    if "size" in data:
        details.append(size(data["size"]))
    details += [f"{word} {data[key]}".lstrip() for key, word in _TOLD.items() if data.get(key)]
    asset = name(row) if row.get("registry_path") else ""
    return "  ".join(part for part in (moment(row["at"]), f"{row['kind']:<17}", asset, ", ".join(details)) if part)


_TOLD = {
    "outcome": "",
    "digest": "md5",
    "attempt": "attempt",
    "requested_by": "asked by",
    "removed_by": "by",
    "by": "by",
    "maker": "made by",
    "error": "·",
    "what": "·",
    "was": "the database was",
}
"""The parts of an event's data that are shown, and the word before each."""
