"""Renders parts of the config as YAML. Joined, they are byte for byte what PyYAML makes of the whole tree.

PyYAML takes a third of a second for 1,000 archives, so ordinary values are written here: texts that surely need no
quotes, and lists and mappings of them. A part with any other value is rendered by PyYAML, inside as many mappings as
are above it in the config. So its lines are indented and quoted in the same way.
"""

import re
from typing import Any, cast

import yaml

from refgenied.genomes.yaml_scalars import resolved

ConfigTree = dict[str, Any]

_PLAIN = re.compile(r"[A-Za-z0-9_/](?:[A-Za-z0-9_/.+()-]|:(?=[A-Za-z0-9_/])| (?=[A-Za-z0-9_/(]))*")
"""Texts that YAML can have without quotes, unless `resolved` takes them for a number or the like."""
_LONGEST_NAME = 100
"""PyYAML writes a mapping's longer names in another way (after 128 bytes)."""
_HOLE = {"x": "y"}
_HOLE_TEXT = "x: y\n"


def rendered(part: ConfigTree, depth: int = 0) -> bytes:
    """The lines of a mapping that stands inside `depth` other mappings. UnicodeEncodeError: half a character."""
    lines: list[str] = []
    if _write(part, "  " * depth, lines):
        return "".join(lines).encode("ascii")
    whole = part
    for _ in range(depth):
        whole = {"x": whole}
    above = sum(2 * level + len("x:\n") for level in range(depth))
    return render_config(whole)[above:]


def opened(part: ConfigTree, depth: int) -> bytes:
    """The lines of `{name: {…, last: {}}}` without the content of `last`, which follows in other parts."""
    ((name, body),) = part.items()
    last = next(reversed(body))
    text = rendered({name: {**body, last: _HOLE}}, depth)
    return text.removesuffix(("  " * (depth + 2) + _HOLE_TEXT).encode())


def render_config(tree: ConfigTree) -> bytes:
    """The whole file at once: the same content gives the same bytes. Names that look like numbers are quoted."""
    text = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1_000_000
    )
    return text.encode("utf-8", "replace")


def _is_plain(text: object) -> bool:
    return isinstance(text, str) and _PLAIN.fullmatch(text) is not None and resolved(text) is None


def _write(part: ConfigTree, indent: str, lines: list[str]) -> bool:
    """Append the lines of a mapping. False: it has a value that PyYAML must render."""
    for name, value in part.items():
        if not (_is_plain(name) and len(name) <= _LONGEST_NAME):
            return False
        if isinstance(value, str):
            if value and not _is_plain(value):
                return False
            lines.append(f"{indent}{name}: {value or _EMPTY}\n")
        elif isinstance(value, dict):
            lines.append(f"{indent}{name}:\n" if value else f"{indent}{name}: {{}}\n")
            if not _write(cast("ConfigTree", value), indent + "  ", lines):
                return False
        elif isinstance(value, list):
            items = cast("list[object]", value)
            if not all(map(_is_plain, items)):
                return False
            lines.append(f"{indent}{name}:\n" if items else f"{indent}{name}: []\n")
            lines += [f"{indent}- {item}\n" for item in items]
        else:
            return False
    return True


_EMPTY = "''"
_DUMPER = yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper


class _Dumper(_DUMPER):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - equal lists are all written out
        return True
