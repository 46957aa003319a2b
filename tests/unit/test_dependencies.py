"""What we build upon is declared; what is built into our insides has an upper bound."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = dict(re.match(r"([\w-]+)(.*)", line).groups() for line in PROJECT["dependencies"])
SERVER = dict(re.match(r"([\w-]+)(.*)", line).groups() for line in PROJECT["optional-dependencies"]["server"])
CALLED = {"yaml": "pyyaml", "zlib_ng": "zlib-ng"}
"""Modules whose package has another name."""
BROUGHT = {"fastapi", "jinja2", "yacman", "builtins"}
"""Parts of refgenieserver's own: imported by name only when it is there, to use its exceptions and answers."""


def imported(folder: Path) -> set[str]:
    """Top modules that the code imports, by statement or by `import_module("…")`, without the standard library's."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
                found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    tops = {name.split(".")[0] for name in found} - {"refgenied", "__future__"} - set(sys.stdlib_module_names)
    return {CALLED.get(name, name) for name in tops}


def test_everything_that_is_imported_is_declared() -> None:
    serving = imported(ROOT / "refgenied/serve")
    assert serving <= REQUIRED.keys() | SERVER.keys() | BROUGHT
    assert imported(ROOT / "refgenied") - serving <= REQUIRED.keys()


@pytest.mark.parametrize("name", SERVER)
def test_what_is_replaced_has_an_upper_bound(name: str) -> None:
    """`serve` replaces parts of refgenieserver, sits in uvicorn's protocol, and calls Starlette as it is."""
    assert re.search(r">=[\d.]+,<[\d.]+$", SERVER[name]), SERVER[name]


def test_the_client_needs_nothing_but_rich() -> None:
    assert imported(ROOT / "refgenied/client") <= {"rich"}
