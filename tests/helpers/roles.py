"""A configuration whose places are folders of one root, and what two of them clash about."""

from pathlib import Path

from refgenied.config.load import examine
from refgenied.config.roles import clashes
from refgenied.config.settings import Settings


def settings(root: Path, **changed: str) -> Settings:
    """Every place a folder of its own, but for those that are named: `section.key` with `__`."""
    places = {
        "refgenie.genome_folder": "genomes",
        "refgenie.genome_archive_folder": "archives",
        "state.folder": "state",
        "serving.state_folder": "spool",
        "control.socket": "run/control.sock",
    } | {name.replace("__", "."): path for name, path in changed.items()}
    flags = {name: str(root / path) for name, path in places.items()}
    file = root / "etc/config.toml"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    return examine(str(file), flags, {"HOME": str(root)}).settings


def clash(root: Path, **changed: str) -> str:
    """The one thing that is wrong; "" when nothing is."""
    found = clashes(settings(root, **changed))
    assert len(found) <= 1, found
    assert all("\n" not in line and line.endswith("to another path") for line in found), found
    return found[0] if found else ""


def places(root: Path) -> Path:
    """Make these folders."""
    for name in ("genomes/data", "archives", "state", "spool", "run"):
        (root / name).mkdir(parents=True)
    (root / "genomes/genome_config.yaml").write_text("config_version: 0.4\n")
    return root


OF_COMMANDS = """\
[refgenie]
genome_folder = "{root}/genomes"
genome_config = "{root}/etc/genome_config.yaml"
genome_archive_folder = "{root}/archives"
[state]
folder = "{root}/state"
[control]
socket = "{root}/run/control.sock"
"""


def of_refgenie(root: Path) -> Path:
    """Our configuration, where refgenie's own config lies in the archive folder, seen through a link."""
    (root / "archives/genome_config.yaml").write_text(f"config_version: 0.4\ngenome_folder: {root}/genomes\nmine: 1\n")
    (root / "etc").symlink_to("archives")
    file = root / "config.toml"
    file.write_text(OF_COMMANDS.format(root=root))
    return file
