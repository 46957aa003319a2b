"""Settings: what wins over what, what is refused and in which words, and that the docs show every key."""

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from refgenied import logs
from refgenied.__main__ import main
from refgenied.config.checking import check_folders
from refgenied.config.creation import init
from refgenied.config.load import load
from refgenied.config.places import user_config
from refgenied.config.settings import ENVIRONMENT, Settings, changed_fixed, keeping_fixed
from refgenied.config.write import effective
from refgenied.model import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment without anybody's own settings."""
    (tmp_path / "genomes").mkdir()
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state")}


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return str(path)


def origin(settings: Settings, name: str) -> str:
    return settings.origins[name]


def test_flags_over_environment_over_file_over_refgenies_yaml_over_defaults(
    tmp_path: Path, home: dict[str, str]
) -> None:
    (tmp_path / "genomes/genome_config.yaml").write_text(
        f"config_version: 0.4\ngenome_folder: {tmp_path}/genomes\ngenome_archive_folder: {tmp_path}/yaml\n"
        "genome_servers: [http://localhost]\ngenomes: {}\n"
    )
    file = write(tmp_path, f'[refgenie]\ngenome_folder = "{tmp_path}/genomes"\n')
    name = "refgenie.genome_archive_folder"

    settings = load(file, env=home)
    assert settings.refgenie.genome_archive_folder == f"{tmp_path}/yaml"
    assert "genome_config.yaml" in origin(settings, name)
    assert settings.servers == ("http://localhost",)
    assert origin(settings, "archive.threads") == "default"

    file = write(tmp_path, Path(file).read_text() + f'genome_archive_folder = "{tmp_path}/file"\n')
    settings = load(file, env=home)
    assert (settings.refgenie.genome_archive_folder, origin(settings, name)) == (f"{tmp_path}/file", file)

    env = home | {"REFGENIE_GENOME_ARCHIVE_FOLDER": f"{tmp_path}/env"}
    settings = load(file, env=env)
    assert settings.refgenie.genome_archive_folder == f"{tmp_path}/env"
    assert origin(settings, name) == "environment REFGENIE_GENOME_ARCHIVE_FOLDER"

    settings = load(file, {name: f"{tmp_path}/flag"}, env)
    assert (settings.refgenie.genome_archive_folder, origin(settings, name)) == (f"{tmp_path}/flag", "command line")


def test_refgenies_yaml_alone_is_enough(tmp_path: Path, home: dict[str, str]) -> None:
    path = tmp_path / "elsewhere.yaml"
    path.write_text(f"config_version: 0.4\ngenome_folder: {tmp_path}/genomes\ngenomes: {{}}\n")
    settings = load(env=home | {"REFGENIE": str(path)})
    assert settings.refgenie.genome_folder == f"{tmp_path}/genomes"


def test_the_newer_name_of_the_archive_folder(tmp_path: Path, home: dict[str, str]) -> None:
    env = home | {"REFGENIE_GENOME_FOLDER": f"{tmp_path}/genomes", "REFGENIE_GENOME_STAGE_FOLDER": f"{tmp_path}/s"}
    assert load(env=env).refgenie.genome_archive_folder == f"{tmp_path}/s"
    with pytest.raises(ConfigError, match="name different folders"):
        load(env=env | {"REFGENIE_GENOME_ARCHIVE_FOLDER": f"{tmp_path}/other"})


def test_refgenies_home_gives_both_folders_and_the_single_ones_win(tmp_path: Path, home: dict[str, str]) -> None:
    env = home | {"REFGENIE_HOME_PATH": f"{tmp_path}/home"}
    settings = load(env=env)
    assert settings.refgenie.genome_folder == f"{tmp_path}/home/genomes"
    assert settings.refgenie.genome_archive_folder == f"{tmp_path}/home/archives"
    settings = load(env=env | {"REFGENIE_GENOME_FOLDER": f"{tmp_path}/genomes"})
    assert settings.refgenie.genome_folder == f"{tmp_path}/genomes"


def test_the_first_configuration_that_exists_is_read(tmp_path: Path, home: dict[str, str]) -> None:
    own = user_config(home)
    own.parent.mkdir(parents=True)
    own.write_text(f'[refgenie]\ngenome_folder = "{tmp_path}/own"\n')
    assert load(env=home).path == str(own)
    named = write(tmp_path, f'[refgenie]\ngenome_folder = "{tmp_path}/named"\n')
    assert load(env=home | {"REFGENIED_CONFIG": named}).refgenie.genome_folder == f"{tmp_path}/named"
    with pytest.raises(ConfigError, match="from --config"):
        load(str(tmp_path / "absent.toml"), env=home)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[archive]\nthread = 3\n", "archive.thread is not a setting"),
        ("[archiv]\n", "archiv is not a setting"),
        ("[archive]\nthreads = 'x'\n", "archive.threads: "),
        ("[archive]\nthreads = -1\n", "archive.threads: "),
        ("[watch]\nsweep_seconds = 0\n", "watch.sweep_seconds: "),
        ("[log]\nlevel = 'loud'\n", "log.level: "),
        ("[archive]\nexclude = ['']\n", "archive.exclude"),
        ("not toml", "not valid TOML"),
        ("threads = 3\n", "threads"),
        ("[refgenie]\ngenome_folder = 'relative'\n", "must be an absolute path"),
        ("[refgenie]\ngenome_folder = '/g'\ngenome_archive_folder = '/g'\n", "must not be the genome folder"),
        ("[refgenie]\ngenome_folder = '/g'\ngenome_archive_folder = '/g/data/x'\n", "must not lie in"),
        ("", "no genome folder is set"),
        ('[refgenie]\ngenome_folder = "/a\\u0000"\n', "refgenie.genome_folder (from"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(
    tmp_path: Path, home: dict[str, str], text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), env=home)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert "$" not in caught.value.message


def test_a_wrong_value_in_the_environment_names_the_variable(tmp_path: Path, home: dict[str, str]) -> None:
    env = home | {"REFGENIE_GENOME_FOLDER": f"{tmp_path}/genomes", "REFGENIE_LOG_LEVEL": "loud"}
    with pytest.raises(ConfigError, match="environment REFGENIE_LOG_LEVEL"):
        load(env=env)


def test_a_written_configuration_reads_back_as_given(tmp_path: Path, home: dict[str, str]) -> None:
    target = tmp_path / "made/config.toml"
    odd = tmp_path / 'odd "name" \\ ü'
    values = {"refgenie.genome_folder": str(odd), "refgenie.genome_archive_folder": str(tmp_path / "archives")}
    made, _, _ = init(target, values, force=False, env=home)
    assert [str(folder) for folder in made] == list(values.values())
    settings = load(str(target), env=home)
    assert settings.refgenie.genome_folder == str(odd)
    with pytest.raises(ConfigError, match="is there already"):
        init(target, values, force=False, env=home)
    init(target, values, force=True, env=home)


def test_a_reload_keeps_what_needs_a_restart(tmp_path: Path, home: dict[str, str]) -> None:
    old = load(write(tmp_path, f'[refgenie]\ngenome_folder = "{tmp_path}/a"\n'), env=home)
    new = load(write(tmp_path, f'[refgenie]\ngenome_folder = "{tmp_path}/b"\n[archive]\nthreads = 3\n'), env=home)
    assert changed_fixed(old, new) == ["refgenie.genome_folder"]
    kept = keeping_fixed(old, new)
    assert (kept.refgenie.genome_folder, kept.archive.threads) == (f"{tmp_path}/a", 3)


def test_effective_settings_name_every_key_once() -> None:
    names = [name for name, _, _ in effective(Settings())]
    assert len(names) == len(set(names))
    assert set(ENVIRONMENT.values()) <= set(names)
    assert msgspec.to_builtins(Settings())["archive"].keys() <= {name.split(".")[1] for name in names}


def test_the_readme_names_every_environment_variable() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in (*ENVIRONMENT, "REFGENIE_HOME_PATH", "REFGENIED_CONFIG"):
        assert f"`{name}`" in readme


def test_a_dollar_in_a_folders_name_is_kept(tmp_path: Path, home: dict[str, str]) -> None:
    genomes = tmp_path / "$x" / "a$$b"
    target = tmp_path / "config.toml"
    init(target, {"refgenie.genome_folder": str(genomes)}, force=False, env=home)
    assert load(str(target), env=home).refgenie.genome_folder == str(genomes)
    flags = {"refgenie.genome_folder": str(genomes)}
    assert load(None, flags, env=home).refgenie.genome_folder == str(genomes)
    target.write_text('[refgenie]\ngenome_folder = "/data/$x"\n')
    with pytest.raises(ConfigError, match="variable x is not set") as error:
        load(str(target), env=home)
    assert error.value.hint == "`$$` stands for a dollar"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_genome_folder_that_may_not_be_read_is_the_daemons_to_report(tmp_path: Path, home: dict[str, str]) -> None:
    genomes = tmp_path / "closed"
    genomes.mkdir()
    genomes.chmod(0)
    flags = {"refgenie.genome_folder": str(genomes)}
    assert load(None, flags, env=home).refgenie.genome_folder == str(genomes)
    genomes.chmod(0o700)


# --------------------------------------------------------------------------- check-config and init, as commands


Refgenied = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def refgenied(home: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refgenied:
    """A command of `refgenied` in this process: its exit status, stdout, and the lines on stderr."""

    def run(*words: str) -> tuple[int, str, list[str]]:
        own = {"PATH": os.environ["PATH"], "HOME": str(Path(home["XDG_CONFIG_HOME"]).parent)}
        monkeypatch.setattr(os, "environ", own | home)
        code = main(list(words))
        logs.flush()
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


def test_check_config_names_all_that_is_wrong(tmp_path: Path, home: dict[str, str], refgenied: Refgenied) -> None:
    (tmp_path / "file").touch()
    file = write(
        tmp_path,
        f"""\
[archiv]
threads = 3
[archive]
thread = 3
threads = "x"
exclude = [""]
attempts = 3
[watch]
settle_seconds = 20
[refgenie]
genome_folder = "{tmp_path}/genomes"
genome_archive_folder = "{tmp_path}/genomes/data"
[state]
folder = "{tmp_path}/file/state"
[control]
socket = "{tmp_path}/genomes"
""",
    )
    code, out, lines = refgenied("check-config", "--config", file)
    assert code == 78
    assert "archive.attempts" in out
    assert all(line.startswith("refgenied: ") for line in lines), lines
    for message in (
        "archiv is not a setting",
        "archive.thread is not a setting (perhaps archive.threads",
        "archive.threads: expected `int`, got `str`",
        "archive.exclude",
        "watch.settle_max_seconds must not be less",
        "refgenie.genome_archive_folder",
        "state.folder",
        "control.socket",
    ):
        assert any(message in line for line in lines), (message, lines)
    assert not any("no genome folder" in line for line in lines)
    with pytest.raises(ConfigError) as caught:
        load(file, env=home)
    assert "refgenied check-config" in caught.value.hint


def test_check_config_says_of_folders_what_run_would(
    tmp_path: Path, home: dict[str, str], refgenied: Refgenied
) -> None:
    home["XDG_RUNTIME_DIR"] = str(tmp_path)
    genomes, archives = tmp_path / "genomes", tmp_path / "archives"
    file = write(tmp_path, f'[refgenie]\ngenome_folder = "{genomes}"\ngenome_archive_folder = "{archives}"\n')
    code, _, lines = refgenied("check-config", "--config", file)
    assert (code, lines) == (0, [f"refgenied: refgenie.genome_archive_folder: {archives} is not there; it is made"])
    archives.mkdir()
    assert refgenied("check-config", "--config", file)[::2] == (0, [])
    genomes.rmdir()
    code, _, (line,) = refgenied("check-config", "--config", file)
    assert code == 0
    assert f"{genomes} cannot be read by the user" in line
    archives.rmdir()
    archives.touch()
    code, _, lines = refgenied("check-config", "--config", file)
    assert code == 78
    assert any(f"refgenie.genome_archive_folder: {archives} is not a folder" in line for line in lines), lines
    assert not (tmp_path / "state").exists()


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """For root, who may write everything: somebody who may only search the folder."""
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o755)


def test_check_config_says_what_this_user_may_not_do(open_folder: Path) -> None:
    (open_folder / "genomes").mkdir()
    home = {"XDG_RUNTIME_DIR": str(open_folder / "run"), "XDG_STATE_HOME": str(open_folder / "state")}
    places = f'genome_folder = "{open_folder}/genomes"\ngenome_archive_folder = "{open_folder}/a"'
    settings = load(write(open_folder, f"[refgenie]\n{places}"), env=home)
    with nobody(open_folder):
        found = check_folders(settings)
    assert [one.refused for one in found] == [True, True, True]
    names = ("refgenie.genome_archive_folder", "state.folder", "control.socket")
    for name, (message, _) in zip(names, found, strict=True):
        assert message.startswith(f"{name}: {open_folder}/")
        assert "not writable for the user" in message


@pytest.mark.parametrize("place", ["REFGENIE", "REFGENIE_GENOME_FOLDER", "REFGENIE_HOME_PATH", "home", "old home"])
def test_init_takes_the_genome_folder_from_refgenies_own_places(
    tmp_path: Path, home: dict[str, str], place: str
) -> None:
    genomes = tmp_path / "of refgenie/genomes"
    if place == "home":
        genomes = tmp_path / ".refgenie/genomes"
    genomes.mkdir(parents=True)
    yaml = f"config_version: 0.4\ngenome_folder: {genomes}\ngenomes: {{}}\n"
    if place == "REFGENIE":
        (tmp_path / "r.yaml").write_text(yaml)
        home["REFGENIE"] = str(tmp_path / "r.yaml")
    elif place == "REFGENIE_GENOME_FOLDER":
        home["REFGENIE_GENOME_FOLDER"] = str(genomes)
    elif place == "REFGENIE_HOME_PATH":
        home["REFGENIE_HOME_PATH"] = str(genomes.parent)
    elif place == "old home":
        (tmp_path / ".refgenie").mkdir()
        (tmp_path / ".refgenie/genome_config.yaml").write_text(yaml)
    file = str(tmp_path / "made.toml")
    values = {"refgenie.genome_archive_folder": str(tmp_path / "archives")}
    made, chosen, _ = init(Path(file), values, force=False, env=home | {"HOME": str(tmp_path)})
    assert made == [tmp_path / "archives"]
    assert chosen[0][0].startswith("refgenie.genome_")
    bare = {name: value for name, value in home.items() if not name.startswith("REFGENIE")}
    assert load(file, env=bare).refgenie.genome_folder == str(genomes)
    assert load(file, env=bare).refgenie.genome_archive_folder == str(tmp_path / "archives")


def test_init_told_refgenies_yaml_as_the_genome_folder_says_how_to_name_it(
    tmp_path: Path, refgenied: Refgenied
) -> None:
    yaml = tmp_path / "genome_config.yaml"
    yaml.touch()
    code, _, lines = refgenied("init", "--genome-folder", str(yaml))
    assert (code, lines[0]) == (78, f"refgenied: {yaml} is not a folder")
    assert "--genome-config" in lines[1]


def test_init_without_any_genome_folder_names_the_places(
    tmp_path: Path, home: dict[str, str], refgenied: Refgenied
) -> None:
    code, out, lines = refgenied("init", "--genome-archive-folder", str(tmp_path / "a"))
    assert (code, out) == (78, "")
    assert "neither REFGENIE, REFGENIE_GENOME_FOLDER nor REFGENIE_HOME_PATH" in lines[0]
    assert f"{tmp_path}/.refgenie/genomes is not there" in lines[0]


def test_a_user_without_a_home_folder_is_told_what_to_name(
    tmp_path: Path, home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)  # a container that runs under a bare number
    flags = {"refgenie.genome_folder": str(tmp_path / "genomes")}
    with pytest.raises(ConfigError, match=r"state.folder is not set, and this user has no home folder"):
        load(None, flags, env={})
    with pytest.raises(ConfigError, match=r"serving.state_folder is not set"):
        load(None, flags, env={}, genomes_needed=False)
    assert load(None, flags | {"state.folder": str(tmp_path / "s")}, env={}).state.folder == f"{tmp_path}/s"
    with pytest.raises(ConfigError, match="neither REFGENIE"):
        init(tmp_path / "c.toml", {}, force=False, env={})
    given = flags | {"state.folder": str(tmp_path / "s"), "control.socket": str(tmp_path / "s/control.sock")}
    init(tmp_path / "c.toml", given, force=False, env={})


def test_a_name_that_toml_cannot_hold_is_refused_before_anything_is_made(tmp_path: Path, home: dict[str, str]) -> None:
    values = {"refgenie.genome_folder": f"{tmp_path}/\udcff"}
    with pytest.raises(ConfigError, match="is not UTF-8"):
        init(tmp_path / "c.toml", values, force=False, env=home)
    assert os.listdir(tmp_path) == ["genomes"]


def test_a_mark_that_an_editor_puts_before_the_text_is_passed_over(tmp_path: Path, home: dict[str, str]) -> None:
    file = write(tmp_path, f'\ufeff[refgenie]\r\ngenome_folder = "{tmp_path}/genomes"\r\n')
    assert load(file, env=home).refgenie.genome_folder == f"{tmp_path}/genomes"


def test_init_writes_nothing_for_which_run_would_refuse(tmp_path: Path, home: dict[str, str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    target = tmp_path / "new/config.toml"
    values = {"refgenie.genome_folder": str(tmp_path / "g"), "refgenie.genome_archive_folder": str(tmp_path / "g")}
    with pytest.raises(ConfigError, match="must not be the genome folder"):
        init(target, values, force=False, env=home)
    yaml = tmp_path / "genomes/genome_config.yaml"
    yaml.write_text("config_version: 0.4\n")
    values = {"refgenie.genome_folder": str(tmp_path / "genomes")}
    with pytest.raises(ConfigError, match=r"our own configuration.*must not be refgenie's config"):
        init(yaml, values, force=True, env=home)
    assert yaml.read_text() == "config_version: 0.4\n"
    yaml.unlink()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("uid", [0, 1000])
def test_init_chooses_a_socket_that_can_be_made_at_any_time(
    tmp_path: Path, home: dict[str, str], monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    values = {"refgenie.genome_folder": str(tmp_path / "genomes")}
    (tmp_path / "file").touch()
    own = f"{tmp_path}/state/refgenied/control.sock"

    home["XDG_RUNTIME_DIR"] = str(tmp_path / "run")
    chosen = init(tmp_path / "usual.toml", values, force=False, env=home).chosen
    assert [row[1] for row in chosen] == ([] if uid == 0 else [own]), "cron has no runtime folder"

    home["XDG_RUNTIME_DIR"] = str(tmp_path / "file/run")  # after `su`: somebody else's
    chosen = init(tmp_path / "chosen.toml", values, force=False, env=home).chosen
    assert chosen == [("control.socket", own, f"{tmp_path}/file/run/refgenied/control.sock cannot be made here")]
    assert load(str(tmp_path / "chosen.toml"), env=home).control.socket == own

    home["XDG_STATE_HOME"] = str(tmp_path / ("s" * 100))
    with pytest.raises(ConfigError, match="longer than 107 bytes"):
        init(tmp_path / "long.toml", values, force=False, env=home)
    home["XDG_RUNTIME_DIR"] = str(tmp_path / "run")
    assert init(tmp_path / "long.toml", values, force=False, env=home).chosen == []


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path)]
)
@pytest.mark.parametrize("named", [True, False])
def test_something_else_than_a_file_in_the_configurations_place_is_said_and_not_passed_over(
    make: Callable[[Path], object], tmp_path: Path, home: dict[str, str], *, named: bool
) -> None:
    path = tmp_path / "c.toml" if named else Path(home["XDG_CONFIG_HOME"], "refgenied/config.toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    with pytest.raises(ConfigError, match=f"{path}: cannot be read: "):
        load(str(path) if named else None, env=home | {"REFGENIE_GENOME_FOLDER": str(tmp_path)})


def test_a_number_of_5000_digits_is_an_error_of_the_file(tmp_path: Path, home: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(write(tmp_path, f"[watch]\nsweep_seconds = {'9' * 5000}\n"), env=home)
