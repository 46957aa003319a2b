"""The README and the code say the same: commands, events, exit statuses, states, settings."""

import argparse
import ast
import re
from pathlib import Path

import pytest

from refgenied.client import cli
from refgenied.config.settings import Settings
from refgenied.config.write import effective
from refgenied.genomes.registry_path import check_pattern
from refgenied.model import AssetState, JobState, Outcome

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command of a parser, as its words."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        return [words]
    return [found for name, sub in groups[0].choices.items() for found in commands(sub, (*words, name))]


def event_kinds() -> set[str]:
    """First arguments of every `change.log(…)`, f-strings filled in with what they can hold."""
    kinds: set[str] = set()
    for path in (ROOT / "refgenied").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("change.log", "self._change.log"):
                kind = node.args[0]
                if isinstance(kind, ast.Constant):
                    kinds.add(str(kind.value))
                elif "job." in ast.unparse(kind):
                    kinds |= {f"job.{state}" for state in (JobState.FAILED, JobState.CANCELLED)}
                else:
                    kinds |= {f"archive.{outcome}" for outcome in Outcome}
    return kinds


def all_words() -> list[tuple[str, ...]]:
    names = ["status", "config", "asset", "archive", "queue", "events", "scan", "reload", "call", "downloads"]
    return commands(cli.parser(names))


@pytest.mark.parametrize("words", all_words(), ids=" ".join)
def test_every_command_of_refgeniectl_is_in_the_readme(words: tuple[str, ...]) -> None:
    assert re.search(rf"`{' '.join(words)}\b", README), f"README does not show refgeniectl {' '.join(words)}"


def test_every_command_in_the_readme_is_there() -> None:
    table = README.split("<!-- verbs -->")[1].split("\n\n")[0]
    shown = {
        tuple(re.findall(r"^[a-z]+(?: [a-z]+)?", code)[0].split()) for code in re.findall(r"`([a-z][^`]*)`", table)
    }
    known = set(all_words())
    first = {words[0] for words in known}
    assert {words for words in shown if words[0] in first and words not in known} <= {("call", "rpc")}, (
        "the README shows a command that is not there"
    )


def test_every_event_is_in_the_readme_and_no_other() -> None:
    section = README.split("## Events")[1].split("\n## ")[0]
    listed = set(re.findall(r"`((?:job|archive|queue|database|download)\.[a-z_]+)`", section))
    assert listed == event_kinds()


def test_every_exit_status_is_in_the_readme() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE))
    listed = ", ".join(line.strip(", ") for line in cli.STATUSES.splitlines()[1:]).split(", ")
    assert sorted(rows) == [line.split()[0] for line in listed]
    for line in listed:
        number, _, meaning = line.strip().partition(" ")
        assert meaning.split()[-1].rstrip("s") in rows[number], f"{number}: {meaning} / {rows[number]}"


@pytest.mark.parametrize("state", AssetState)
def test_every_state_of_an_asset_is_in_the_readme(state: AssetState) -> None:
    assert f"| `{state}` |" in README


def test_settings_named_in_the_readme_exist() -> None:
    names = {name for name, _, _ in effective(Settings())}
    sections = {name.split(".")[0] for name in names}
    for found in re.findall(r"`([a-z]+\.[a-z_]+)\b", README):
        if found.split(".")[0] in sections - {"archive"} or found.startswith("archive.pulled"):
            assert found in names or found == "config.toml", found


def test_patterns_named_in_the_readme_are_patterns() -> None:
    for listed in re.findall(r"archive\.exclude = \[(.*?)\]", README):
        for pattern in re.findall(r'"(.*?)"', listed):
            check_pattern(pattern)


def test_every_test_that_architecture_names_is_there() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+\.py|real)`", (ROOT / "ARCHITECTURE.md").read_text()))
    assert named
    for name in named:
        assert list((ROOT / "tests").rglob(name)), name


def test_architecture_is_short_and_names_every_room_as_it_is() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = {path.stem for path in (ROOT / "refgenied").iterdir() if path.stem != "__pycache__" and path.name[0] != "."}
    for room in rooms - {"__init__", "py"}:
        assert re.search(rf"\b{room}\b", text), room
    for named in re.findall(r"`([a-z_]+(?:/[a-z_]+)*/?)`", text):
        if named.split("/")[0] in rooms and "/" in named:
            assert list((ROOT / "refgenied").glob(f"{named.rstrip('/')}*")), named
    lines = text.splitlines()
    assert len(lines) <= 160
    assert [line for line in lines if len(line) > 120] == []


def test_every_file_that_contributing_names_is_there() -> None:
    named = re.findall(r"`((?:refgenied|tests|\.ci)/[\w./]*)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name
