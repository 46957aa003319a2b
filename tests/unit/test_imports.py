"""The house: imports go one way, and the client needs nothing but the standard library."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "refgenied"

# Lower layers first. A module may import from its own layer's package and from lower layers only.
LAYERS = [
    {"refgenied"},
    {"model", "shared"},
    {"files"},
    {"genomes"},
    {"archive"},
    {"config"},
    {"store"},
    {"health", "logs"},
    {"archive_folder"},
    {"policy"},
    {"queue"},
    {"reconciler"},
    {"catalog"},
    {"maintenance", "watcher"},
    {"control"},
    {"systemd"},
    {"daemon", "serve"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ALONE = {"client"}  # talks to the daemon over the socket only
CALLERS = {"__main__", "serve"}  # `refgenied serve` is a client of the daemon, too


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE).with_suffix("")
    return "refgenied" if relative.parts == ("__init__",) else relative.parts[0]


def imports_of(path: Path) -> set[str]:
    """The parts of the package that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "refgenied":
                names = [f"refgenied.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "refgenied":
                found.add(name.split(".")[1] if "." in name else "refgenied")
    return {"refgenied" if name == "__version__" else name for name in found}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    part = part_of(path)
    if part in ALONE:
        return
    for imported in imports_of(path) - {part}:
        assert imported in RANK or imported in ALONE, f"{path.name} imports an unplaced module {imported}"
        if part in CALLERS and imported in ALONE:
            continue
        assert RANK[imported] < RANK[part], f"{path.name} imports {imported}, which is above it or beside it"


def test_the_client_imports_what_it_shares_and_restore_the_archive_engine_too() -> None:
    for path in PACKAGE.glob("client/**/*.py"):
        more = {"archive", "model"} if path.name == "restore.py" else set()
        assert imports_of(path) - {"refgenied", "client", "shared"} <= more, path.name


def test_the_format_of_an_archive_knows_none_of_the_acts() -> None:
    for path in PACKAGE.glob("archive/format/*.py"):
        named = {name for name in re.findall(r"from refgenied\.archive\.(\w+)", path.read_text()) if name != "format"}
        assert named <= {"run"}, f"{path.name} imports {named}"


def test_nobody_but_store_and_queue_opens_a_transaction() -> None:
    for path in files():
        if part_of(path) not in ("store", "queue"):
            text = path.read_text()
            assert ".transaction(" not in text and ".change(" not in text, f"{path.name} opens a transaction"  # noqa: PT018


def test_the_blocking_parts_know_nothing_of_asyncio_sql_or_sockets() -> None:
    for path in [*PACKAGE.glob("genomes/*.py"), *PACKAGE.glob("archive/*.py")]:
        text = path.read_text()
        for word in ("asyncio", "anyio", "sqlite", "socket"):
            assert f"import {word}" not in text, f"{path.name} imports {word}"
