"""No two uses of one place: what a configuration must not name twice, and which nested folders are right."""

import os
from pathlib import Path

import pytest
from roles import OF_COMMANDS, clash, of_refgenie, places, settings

from refgenied.config.load import examine, load
from refgenied.config.roles import clashes
from refgenied.config.settings import Current, Settings
from refgenied.files.mounts import origin
from refgenied.model import ConfigError
from refgenied.systemd.reload import Reload


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return places(tmp_path)


A, G, C = "refgenie__genome_archive_folder", "refgenie__genome_folder", "refgenie__genome_config"
S, V, K = "state__folder", "serving__state_folder", "control__socket"

REFUSED = [
    ({A: "genomes"}, "must not be the genome folder"),
    ({A: "genomes/data"}, "must not lie in refgenie's own part of the genome folder"),
    ({A: "genomes/data/x/y"}, "must not lie in refgenie's own part"),
    ({A: "genomes/alias/made/later"}, "must not lie in refgenie's own part"),
    ({A: "genomes/builds"}, "must not lie in refgenie's own part"),
    ({G: "archives/genomes"}, "must not lie in the archive folder"),
    ({C: "archives/genome_config.yaml"}, "must not be refgenie's config"),
    ({A: "etc", C: "etc/genome_config.yaml"}, "must not be refgenie's config"),
    ({S: "genomes"}, "must not be the genome folder"),
    ({S: "genomes/data/state"}, "must not lie in refgenie's own part"),
    ({V: "genomes/alias"}, "must not lie in refgenie's own part"),
    ({K: "genomes/data/control.sock"}, "must not lie in refgenie's own part"),
    ({S: "archives"}, "must not be the archive folder"),
    ({S: "archives/.refgenied"}, "must not be the archive folder's id"),
    ({S: "archives/.refgenied/state"}, "must not lie in the archive folder's id"),
    ({V: "archives"}, "must not be the archive folder"),
    ({V: "state"}, "must not be the daemon's state folder"),
    ({V: "state/lock"}, "must not be the daemon's lock"),
    ({K: "archives"}, "must not be the archive folder"),
    ({K: "."}, "must not be a folder above"),
    ({K: "archives/genome_config.yaml"}, "must not be the server's config"),
    ({K: "state/refgenied.sqlite3"}, "must not be the daemon's database"),
    ({K: "etc/config.toml"}, "must not be our own configuration"),
    ({K: "genomes/genome_config.yaml"}, "must not be refgenie's config"),
    ({C: "etc/config.toml"}, "must not be refgenie's config"),
    ({S: "etc/config.toml"}, "must not be our own configuration"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED, ids=str)
def test_places_that_must_not_be_one_are_refused(root: Path, changed: dict[str, str], message: str) -> None:
    found = clashes(settings(root, **changed))
    assert found
    assert message in found[0]
    assert all("\n" not in line for line in found), found


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {A: "genomes/archives"},  # refgenie allows it
        {A: "genomes/archive", C: "genomes/genome_config.yaml"},
        {A: "genomes/data2"},
        {G: "."},  # refgenie init -c ~/genome_config.yaml
        {A: "state/archives"},
        {S: "archives/.state"},
        {G: "state/genomes"},
        {K: "state/control.sock"},
        {K: "archives/control.sock"},
        {V: "state/spool"},
        {C: "etc/genome_config.yaml"},
        {C: "archives/refgenie.yaml"},
    ],
    ids=str,
)
def test_folders_that_people_put_into_one_another_go_on_working(root: Path, changed: dict[str, str]) -> None:
    assert clash(root, **changed) == ""


def test_both_settings_and_the_path_are_named(root: Path) -> None:
    said = clash(root, **{A: "etc", C: "etc/genome_config.yaml"})
    assert said.count("refgenie.genome_archive_folder") == 2
    assert "refgenie.genome_config" in said
    assert f"{root}/etc/genome_config.yaml" in said
    assert "one would overwrite the other" in said


def test_refgenies_config_that_nobody_told_of_is_known_by_what_it_holds(root: Path) -> None:
    (root / "genomes/genome_config.yaml").unlink()
    config_of = "config_version: 0.4\ngenomes:\n  d:\n    assets:\n      fasta:\n        tags:\n          default:\n"
    path = root / "archives/genome_config.yaml"
    path.write_text(f"{config_of}            asset_path: fasta\n")
    assert "looks like refgenie's own config" in clash(root)
    path.write_text(f"{config_of}            asset_path: fasta\n            archive_digest: 00\n")
    assert clash(root) == "", "a server's, of refgenieserver"
    path.write_text(f"{config_of}            asset_path: fasta\nrefgenied: {{}}\n")
    assert clash(root) == "", "ours"
    path.write_text(f"{config_of}            asset_path: fasta\n")
    (root / "genomes/genome_config.yaml").write_text("config_version: 0.4\n")
    assert clash(root) == "", "a copy, with which refgenieserver begins"


def test_a_server_config_that_is_not_kept_overwrites_nothing(root: Path) -> None:
    file = root / "etc/config.toml"
    file.parent.mkdir()
    file.write_text("[serving]\nenabled = false\n")
    flags = {
        "refgenie.genome_folder": str(root / "genomes"),
        "refgenie.genome_config": str(root / "archives/genome_config.yaml"),
        "refgenie.genome_archive_folder": str(root / "archives"),
    }
    assert examine(str(file), flags, {"HOME": str(root)}).problems == []
    file.write_text("")
    assert len(examine(str(file), flags, {"HOME": str(root)}).problems) == 1


@pytest.mark.parametrize("kind", ["folder", "folder to be", "config to archives", "config to refgenie's", "hard link"])
def test_links_do_not_hide_that_two_places_are_one(root: Path, kind: str) -> None:
    (root / "etc").mkdir()
    yaml = root / "etc/genome_config.yaml"
    yaml.write_text("config_version: 0.4\n")
    changed = {C: "etc/genome_config.yaml"}
    if kind == "folder":
        (root / "link").symlink_to("etc")
        changed[A] = "link"
    elif kind == "folder to be":
        (root / "link").symlink_to("archives/to/be")
        changed = {A: "link", S: "archives/to/be"}
    elif kind == "config to archives":
        yaml.rename(root / "archives/genome_config.yaml")
        yaml.symlink_to("../archives/genome_config.yaml")
    elif kind == "config to refgenie's":
        (root / "archives/genome_config.yaml").symlink_to(yaml)
    else:
        (root / "archives/genome_config.yaml").hardlink_to(yaml)
    assert "must not be" in clash(root, **changed)


def test_data_on_another_disk_is_still_refgenies(root: Path) -> None:
    (root / "genomes/data").rmdir()
    (root / "big/sub").mkdir(parents=True)
    (root / "genomes/data").symlink_to(root / "big")
    assert "refgenie's own part" in clash(root, **{A: "big/sub/archives"})


def test_defaults_of_two_processes_may_be_one_folder_and_what_is_named_may_not(root: Path) -> None:
    """Under systemd each process takes $STATE_DIRECTORY for its own."""
    flags = {"refgenie.genome_folder": str(root / "genomes")}
    env = {"HOME": str(root), "STATE_DIRECTORY": str(root / "state")}
    assert examine(None, flags, env).problems == []
    flags["state.folder"] = str(root / "state")
    assert examine(None, flags, env).problems == []
    flags["serving.state_folder"] = str(root / "state")
    assert len(examine(None, flags, env).problems) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({C: "archives/refgenie.yaml"}, "refgenie could not write it any more"),
        ({V: "archives/spool"}, "it belongs to the server's"),
        ({S: "spool/state"}, "given to the server's user"),
    ],
    ids=str,
)
def test_a_service_gives_its_folders_away(root: Path, changed: dict[str, str], message: str) -> None:
    assert clash(root, **changed) == ""
    (found,) = clashes(settings(root, **changed), service=True)
    assert message in found


def test_every_case_is_found_where_nothing_exists_yet(tmp_path: Path) -> None:
    for changed, _ in REFUSED:
        assert clashes(settings(tmp_path, **changed)), changed


# --------------------------------------------------------------------- a reload


@pytest.mark.anyio
async def test_a_reload_refuses_too_and_the_old_settings_hold(root: Path) -> None:
    file = of_refgenie(root)

    def read() -> Settings:
        return load(str(file), env={"HOME": str(root)})

    good = OF_COMMANDS.format(root=root).replace(f'genome_config = "{root}/etc/genome_config.yaml"', "")
    file.write_text(good)
    current = Current(read())
    file.write_text(OF_COMMANDS.format(root=root))
    with pytest.raises(ConfigError, match="must not be refgenie's config"):
        await Reload(current, read, lambda path: [path]).run()
    assert current.settings.refgenie.genome_config == ""


# --------------------------------------------------------------------- bind mounts


def test_where_in_its_disk_a_folder_is(tmp_path: Path) -> None:
    number = os.stat(tmp_path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    table = tmp_path / "mountinfo"
    lines = [
        f"1 0 {device} / / rw - ext4 /dev/a rw",
        f"2 1 {device} /srv/a\\040b {tmp_path}/m rw - ext4 /dev/a rw",
        f"3 1 9:9 / {tmp_path}/hidden rw - ext4 /dev/b rw",
        f"4 1 {device} /over {tmp_path}/hidden rw - ext4 /dev/a rw",
    ]
    table.write_text("\n".join(lines))
    assert origin(f"{tmp_path}/m/x/y", table) == (device, "/srv/a b/x/y")
    assert origin(f"{tmp_path}/m", table) == (device, "/srv/a b")
    assert origin(f"{tmp_path}/mm", table) == (device, f"{tmp_path}/mm")
    assert origin(f"{tmp_path}/hidden/x", table) == (device, "/over/x")
    assert origin(str(tmp_path), tmp_path / "absent") is None
