"""Our shell scripts stop at the first command that fails: nothing in them hides a failure from `set -e`.

What the benchmarks import from refgenied is there. The type checker and the other tests do not look at them.
"""

from __future__ import annotations

import ast
import re
import subprocess
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / ".ci/run", ROOT / "demo/demo.sh", ROOT / "tests/helpers/with-systemd"]
CONDITION = re.compile(r"\s*(?:if|elif|while|until)\b")
HIDDEN = re.compile(r"&&|\b(?:export|local|readonly|declare)\s[^=]+=.*\$\(")
"""`set -e` does not see `a` fail in `a && b`, nor `c` in `export x=$(c)`."""


def test_every_script_is_looked_at() -> None:
    known = [
        path for folder in (".ci", "demo", "tests", "benchmarks", "systemd") for path in (ROOT / folder).rglob("*")
    ]
    scripts = [path for path in known if path.is_file() and re.match(rb"#!.*\b(?:ba)?sh\b", path.read_bytes()[:40])]
    assert sorted(scripts) == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_failure_is_hidden(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert re.search(r"^set -eu", text, re.MULTILINE)
    subprocess.run(["bash", "-n", script], check=True)
    code = re.sub(r'"[^"\n]*"|\'[^\']*\'|(?:^|\s)#.*', "", text, flags=re.MULTILINE)
    wrong = [line for line in code.splitlines() if HIDDEN.search(line) and not CONDITION.match(line)]
    assert not wrong, "write each step on a line of its own, or an `if`"


@pytest.mark.parametrize("script", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.name)
def test_benchmarks_import_what_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("refgenied"):
            import_module(str(node.module))
            for alias in node.names:
                resolve_name(f"{node.module}.{alias.name}")
