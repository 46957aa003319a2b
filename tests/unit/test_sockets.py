"""Where the client looks for the daemon's socket."""

from pathlib import Path

import pytest

from refgenied.client import Client, NoDaemonError
from refgenied.client.sockets import socket_paths
from refgenied.shared.paths import SYSTEM_SOCKET

OWN = "home/.config/refgenied/config.toml"


def paths(tmp_path: Path, named: str | None = None, **env: str) -> list[str]:
    found, problems = socket_paths(
        named, {"XDG_CONFIG_HOME": f"{tmp_path}/home/.config"} | env, str(tmp_path / "system.toml")
    )
    assert problems == []
    return found


def write(path: Path, socket: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[control]\nsocket = "{socket}"\n' if socket else "")


def test_flags_and_environment_over_configurations_over_the_usual_places(tmp_path: Path) -> None:
    assert paths(tmp_path) == [SYSTEM_SOCKET]
    assert paths(tmp_path, XDG_RUNTIME_DIR="/r") == ["/r/refgenied/control.sock", SYSTEM_SOCKET]
    write(tmp_path / "system.toml", "/of/system")
    write(tmp_path / OWN, "/own")
    assert paths(tmp_path, XDG_RUNTIME_DIR="/r") == ["/own", "/r/refgenied/control.sock", "/of/system", SYSTEM_SOCKET]
    write(tmp_path / "named.toml", "/named")
    config = str(tmp_path / "named.toml")
    assert paths(tmp_path, REFGENIED_CONFIG=config) == ["/named", SYSTEM_SOCKET]
    assert paths(tmp_path, REFGENIED_CONFIG=config, REFGENIED_SOCKET="/env") == ["/env"]
    assert paths(tmp_path, "/flag", REFGENIED_CONFIG=config, REFGENIED_SOCKET="/env") == ["/flag"]
    write(tmp_path / OWN, "")
    write(tmp_path / "system.toml", SYSTEM_SOCKET)
    assert paths(tmp_path) == [SYSTEM_SOCKET]


def test_a_socket_is_read_as_the_daemon_reads_it(tmp_path: Path) -> None:
    write(tmp_path / OWN, "$RUN/a$$b/${NAME}.sock")
    assert paths(tmp_path, RUN="/run/x", NAME="n") == ["/run/x/a$b/n.sock", SYSTEM_SOCKET]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not toml", "Expected '='"),
        ("control = 3", "no attribute"),
        ("[control]\nsocket = 3", "expected str"),
        ("[control]\nsocket = 'relative'", "not an absolute path"),
        ("[control]\nsocket = '$NOWHERE/x'", "the environment variable NOWHERE is not set"),
        ('[control]\nsocket = "/x\\u0000"', "not an absolute path"),
        (b"\xff", "can't decode"),
    ],
)
def test_a_configuration_that_cannot_be_asked_is_told_and_stops_nothing(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    found, (problem,) = socket_paths(None, {"REFGENIED_CONFIG": str(file)})
    assert found == [SYSTEM_SOCKET]
    assert problem.startswith(f"{file}: ")
    assert message in problem
    assert "\n" not in problem


def test_what_was_tried_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFGENIED_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("REFGENIED_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(NoDaemonError) as missing:
        Client.connect()
    for part in (f"{tmp_path}/run/refgenied/control.sock: not there", f"{tmp_path}/absent.toml: No such file"):
        assert part in missing.value.message
