"""What the README says of commands, events and exit statuses is what the code has."""

import re
from pathlib import Path

from refgenied.client import command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "refgenied").rglob("*.py"))


def section(title: str) -> str:
    return README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_every_event_is_documented_and_every_documented_one_exists():
    said = set(re.findall(r"`((?:job|archive|queue|database)\.[a-z]+)`", section("Events")))
    logged = set(re.findall(r"""\.log\(\s*f?"((?:job|archive|queue|database)\.[a-z]+)\"""", CODE))
    logged -= {"archive.set"}
    assert logged <= said, logged - said
    for kind in said - logged:  # made of a state or an outcome
        word = kind.partition(".")[2]
        assert f'"{word}"' in CODE, f"{kind} is in the README alone"


class Names:
    """Takes the commands of one group, as argparse does."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add(self, name: str, *_: object) -> "Names":
        self.names.append(name)
        return self

    def add_argument(self, *_: object, **__: object) -> None:
        pass


def test_every_command_is_documented():
    table = section("refgeniectl").split("<!-- verbs -->", 1)[1].split("\n\n", 1)[0]
    for group in ("archive", "queue"):
        found = Names()
        getattr(command, f"_fill_{group}")(found)
        assert found.names
        for name in found.names:
            assert f"`{group} {name}" in table, f"{group} {name} is not in the README"


def test_every_exit_status_is_documented():
    rows = re.findall(r"^\| (\d) \|", section("refgeniectl"), re.MULTILINE)
    assert [int(row) for row in rows] == list(range(8))
    assert f"{command.DAMAGED} an archive is damaged" in command.STATUSES
