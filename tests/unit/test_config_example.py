"""`config.example.toml` and the settings in the code say the same, both ways."""

import tomllib
from pathlib import Path

from refgenied.config.load import load
from refgenied.config.settings import SETTINGS
from refgenied.config.write import effective, render

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def uncommented(text: str) -> str:
    """The example with every `#key = value` in force."""
    return "\n".join(line[1:] if line.startswith("#") and line[1:2].isalpha() else line for line in text.splitlines())


def test_the_example_is_what_init_writes() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == render(), (
        "python -c 'from refgenied.config.write import render; print(render(), end=\"\")' > config.example.toml"
    )


def test_every_key_of_the_example_is_known_and_has_its_default(tmp_path: Path) -> None:
    tree = tomllib.loads(uncommented(EXAMPLE.read_text(encoding="utf-8")))
    shown = {f"{section}.{key}": value for section, table in tree.items() for key, value in table.items()}
    assert set(shown) == set(SETTINGS)
    written = tmp_path / "config.toml"
    written.write_text(uncommented(EXAMPLE.read_text(encoding="utf-8")), encoding="utf-8")
    settings = load(str(written), {"refgenie.genome_folder": str(tmp_path)}, env={"HOME": str(tmp_path)})
    for name, value, _ in effective(settings):
        if name not in ("refgenie.genome_folder", "control.socket", "state.folder", "serving.state_folder"):
            assert (list(value) if isinstance(value, tuple) else value) == shown[name], name


def test_every_key_has_a_sentence() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("#") and line[1:2].isalpha():
            assert lines[number - 1].startswith("# "), f"{line} has no sentence above it"
