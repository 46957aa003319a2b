"""The socket: peers and their rights, limits, garbage, slow readers, draining. Real sockets, a registry of toys."""

import grp
import json
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refgenied.config.settings import Control
from refgenied.control import connection as connection_module
from refgenied.control import protocol
from refgenied.control import server as socket_module
from refgenied.control.dispatch import Call, Verb, verbs_of
from refgenied.control.listener import listening
from refgenied.control.peer import identify
from refgenied.control.server import Server
from refgenied.model import AssetNotFoundError, ConfigError, ConflictError

pytestmark = pytest.mark.anyio

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")


class Toys:
    """The context of the toy verbs."""

    def __init__(self) -> None:
        self.wrote = 0
        self.slept = anyio.Event()
        self.may_go_on = anyio.Event()


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Text(msgspec.Struct, forbid_unknown_fields=True):
    text: str


@Verb("toy.echo")
async def echo(context: Toys, call: Call, params: Text) -> dict[str, object]:
    """Say it again."""
    return {"text": params.text, "may_write": call.peer.may_write, "uid": call.peer.uid, "name": call.peer.name}


@Verb("toy.write", writes=True)
async def write(context: Toys, call: Call, params: Nothing) -> int:
    """Change something."""
    context.wrote += 1
    return context.wrote


@Verb("toy.crash")
async def crash(context: Toys, call: Call, params: Nothing) -> None:
    """Have a bug."""
    raise KeyError("secret/path")


@Verb("toy.refuse")
async def refuse(context: Toys, call: Call, params: Nothing) -> None:
    """Raise an error for people."""
    raise AssetNotFoundError("no such toy", hint="look under the bed")


@Verb("toy.big")
async def big(context: Toys, call: Call, params: Nothing) -> str:
    """Answer with too much."""
    return "x" * (2 * protocol.MAX_REPLY)


@Verb("toy.short")
async def short(context: Toys, call: Call, params: Nothing) -> str:
    """Wait a little, and answer all the same when the daemon drains."""
    context.slept.set()
    await context.may_go_on.wait()
    return "done"


@Verb("toy.watch", lasts=True)
async def watch(context: Toys, call: Call, params: Nothing) -> dict[str, str]:
    """Count for ever."""
    await call.begin({"seq": 0})
    for seq in range(1, 10**9):
        await call.notify("event", {"seq": seq, "filler": "x" * 1000})
        await anyio.lowlevel.checkpoint()
    return {"reason": "done"}


@Verb("toy.sleep", lasts=True)
async def sleep(context: Toys, call: Call, params: Nothing) -> None:
    """Sleep for ever."""
    context.slept.set()
    await anyio.sleep_forever()


@pytest.fixture
def toys() -> Toys:
    return Toys()


def control(folder: Path, **changes: object) -> Control:
    fields: dict[str, object] = {"socket": str(folder / "control.sock"), "group": "no-such-group"}
    return msgspec.convert(fields | changes, Control)


@asynccontextmanager
async def serving(folder: Path, toys: Toys, **changes: object) -> AsyncGenerator[Server]:
    wanted = control(folder, **changes)
    with listening(wanted, env={}) as listener:
        async with anyio.create_task_group() as group:
            server = Server(listener, verbs_of(sys.modules[__name__]), toys, lambda: wanted)
            group.start_soon(server.run)
            yield server
            group.cancel_scope.cancel()


class Peer:
    """A plain blocking client; `ask` and `line` run in threads so that the server's loop goes on."""

    def __init__(self, path: str) -> None:
        self.raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.raw.settimeout(60)
        try:
            self.raw.connect(path)
        except OSError:
            self.raw.close()
            raise
        self._file = self.raw.makefile("rb")

    def send(self, data: bytes) -> None:
        self.raw.sendall(data)

    async def line(self) -> dict[str, dict[str, object]] | None:
        """The next line; None when the server hung up."""
        try:
            line = await anyio.to_thread.run_sync(self._file.readline)
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    async def ask(self, method: str, **params: object) -> dict[str, dict[str, object]]:
        self.send(request(method, **params))
        answer = await self.line()
        assert answer is not None
        return answer

    def close(self) -> None:
        self._file.close()
        self.raw.close()


def request(method: str, number: int = 1, **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


@contextmanager
def connected(server: Server) -> Iterator[Peer]:
    peer = Peer(server.path)
    try:
        yield peer
    finally:
        peer.close()


def open_to_all(server: Server) -> None:
    """As a socket unit with SocketMode=0666 does."""
    os.chmod(server.path, 0o666)


async def none_left(server: Server) -> None:
    with anyio.fail_after(10):
        while server.connections:
            await anyio.sleep(0.01)


# --------------------------------------------------------------------------- requests


async def test_a_request_is_answered_and_the_peer_is_known(tmp_path: Path, toys: Toys) -> None:
    async with serving(tmp_path, toys) as server:
        with connected(server) as peer:
            answer = await peer.ask("toy.echo", text="ü")
            assert answer["result"]["text"] == "ü"
            assert answer["result"]["uid"] == os.geteuid()
            assert answer["result"]["may_write"] is True
            assert (await peer.ask("toy.write"))["result"] == 1


async def test_errors_are_for_people_and_never_a_traceback(
    tmp_path: Path, toys: Toys, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, toys) as server:
        with connected(server) as peer:
            assert (await peer.ask("toy.refuse"))["error"] == {
                "code": 1001,
                "message": "no such toy",
                "data": {"kind": "asset_not_found", "hint": "look under the bed"},
            }
            crashed = (await peer.ask("toy.crash"))["error"]
            assert (crashed["code"], crashed["message"]) == (-32603, "internal error")
            assert "secret" not in json.dumps(crashed)
            unknown = (await peer.ask("toy.ecko"))["error"]
            assert unknown["code"] == -32601
            assert "toy.echo" in str(unknown["data"])
            assert (await peer.ask("toy.big"))["result"] == "x" * 4095 + "…", "what does not fit is cut"
            assert (await peer.ask("toy.echo", text="still there"))["result"]
    assert "secret/path" in capsys.readouterr().out, "the log has what the peer does not get"


async def test_several_requests_run_at_a_time_and_their_number_is_limited(tmp_path: Path, toys: Toys) -> None:
    async with serving(tmp_path, toys) as server:
        with connected(server) as peer:
            for number in range(connection_module.MAX_REQUESTS):
                peer.send(request("toy.sleep", number))
            await toys.slept.wait()
            refused = await peer.ask("toy.echo", text="one more")
            assert refused["error"]["code"] == 1009
            assert refused["id"] == 1


async def test_a_last_line_without_newline_is_answered(tmp_path: Path, toys: Toys) -> None:
    async with serving(tmp_path, toys) as server:
        with connected(server) as peer:
            peer.send(b"\n \n" + request("toy.echo", text="x").rstrip())
            peer.raw.shutdown(socket.SHUT_WR)
            answer = await peer.line()
            assert answer
            assert answer["result"]["text"] == "x"
            assert await peer.line() is None


async def test_what_lasts_ends_when_its_peer_hangs_up(tmp_path: Path, toys: Toys) -> None:
    async with serving(tmp_path, toys) as server:
        with connected(server) as peer:
            peer.send(request("toy.sleep"))
            await toys.slept.wait()
        await none_left(server)


# --------------------------------------------------------------------------- limits


async def test_a_line_that_is_too_long_gets_one_clear_error_and_the_end(tmp_path: Path, toys: Toys) -> None:
    async with serving(tmp_path, toys) as server:
        with connected(server) as peer:
            peer.send(b"x" * protocol.MAX_REQUEST)
            answer = await peer.line()
            assert answer
            assert "longer than 65536 bytes" in str(answer["error"]["message"])
            assert await peer.line() is None
        with connected(server) as peer:
            longest = request("toy.echo", text="x")[:-1].replace(b'"x"', b'"' + b"x" * 65_000 + b'"')
            peer.send(longest.ljust(protocol.MAX_REQUEST - 1) + b"\n")
            answer = await peer.line()
            assert answer
            assert "result" in answer


async def test_who_asks_nothing_is_told_and_cut(tmp_path: Path, toys: Toys) -> None:
    async with serving(tmp_path, toys, first_line_seconds=0.1) as server:
        with connected(server) as peer:
            peer.send(b'{"half":')
            answer = await peer.line()
            assert answer
            assert "no request came within 0.1 s" in str(answer["error"]["message"])
            assert await peer.line() is None
        with connected(server) as peer:
            await peer.ask("toy.echo", text="in time")
            await anyio.sleep(0.2)
            assert (await peer.ask("toy.echo", text="and later"))["result"], "only the first line is timed"


@as_root
async def test_connections_are_limited_in_all_but_not_for_root(open_folder: Path, toys: Toys) -> None:
    async with serving(open_folder, toys, max_connections=2, group="daemon") as server:
        open_to_all(server)

        async def nobody() -> dict[str, dict[str, object]]:
            [answer] = await anyio.to_thread.run_sync(as_user, NOBODY, [NOBODY], server.path, ["toy.echo"])
            return answer

        with connected(server) as one, connected(server) as two:
            await one.ask("toy.echo", text="1")
            await two.ask("toy.echo", text="2")
            refused = await nobody()
            assert refused["error"]["code"] == 1009
            assert "control.max_connections" in str(refused["error"]["message"])
            with connected(server) as administrator:
                assert (await administrator.ask("toy.echo", text="3"))["result"]
        await none_left(server)
        assert (await nobody())["result"]


async def test_a_reader_that_is_stuck_is_cut(tmp_path: Path, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SEND_SECONDS", 0.2)
    async with serving(tmp_path, toys) as server:
        with connected(server) as peer:
            peer.send(request("toy.watch"))
            begun = await peer.line()
            assert begun
            await none_left(server)
        with connected(server) as other:
            assert (await other.ask("toy.echo", text="x"))["result"]


async def test_a_peer_that_floods_does_not_hold_up_others(tmp_path: Path, toys: Toys) -> None:
    async with serving(tmp_path, toys) as server:
        with connected(server) as flood, connected(server) as other:
            flood.raw.setblocking(False)
            garbage = b"x\n" * 30_000
            try:
                while True:
                    flood.raw.send(garbage)
            except BlockingIOError:
                pass
            with anyio.fail_after(30):
                assert (await other.ask("toy.echo", text="x"))["result"]


# --------------------------------------------------------------------------- garbage


SAMPLES = {  # by name, so that a falsifying example can be printed
    "brackets": b"[" * 50_000,
    "nul": b"\x00" * 100,
    "no UTF-8": b"\xff\xfe",
    "nothing in it": b"{}",
    "no method": b'{"id":1}',
    "too long": b"x" * 70_000,
    "cut": b'{"jsonrpc":"2.0","id":',
}


@given(
    st.lists(
        st.binary(max_size=200)
        | st.sampled_from(sorted(SAMPLES)).map(SAMPLES.__getitem__)
        | st.text(max_size=50).map(lambda text: request("toy.echo", text=text)),
        max_size=6,
    ),
    st.sampled_from([b"\n", b"", b"\r\n"]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_answered_or_the_connection_closed_and_the_server_lives(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ending: bytes
) -> None:
    async def attempt() -> None:
        async with serving(tmp_path_factory.mktemp("s"), Toys()) as server:
            with connected(server) as peer:
                try:
                    peer.send(ending.join(lines) + ending)
                    peer.raw.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                with anyio.fail_after(60):
                    answer = await peer.line()
                    while answer is not None:
                        assert ("result" in answer) != ("error" in answer)
                        answer = await peer.line()
            with connected(server) as sane:
                assert (await sane.ask("toy.echo", text="sane"))["result"]["text"] == "sane"

    anyio.run(attempt)


# --------------------------------------------------------------------------- draining


async def test_draining_ends_watches_lets_short_requests_end_and_takes_nobody_new(tmp_path: Path, toys: Toys) -> None:
    async with serving(tmp_path, toys) as server:
        with connected(server) as peer, connected(server) as waiting, connected(server) as idle:
            await idle.ask("toy.echo", text="x")
            waiting.send(request("toy.sleep", 5))
            peer.send(request("toy.watch", 3))
            begun = await peer.line()
            assert begun
            assert begun["result"] == {"seq": 0}
            idle.send(request("toy.short", 4))
            await toys.slept.wait()
            async with anyio.create_task_group() as group:
                group.start_soon(server.drain)
                last = begun
                while (line := await peer.line()) is not None:
                    last = line
                assert last["method"] == "end"
                assert last["params"]["watch"] == 3
                assert last["params"]["reason"] == "shutting_down"
                refused = await waiting.line()
                assert refused
                assert refused["error"]["code"] == 1008
                toys.may_go_on.set()
                answer = await idle.line()
                assert answer
                assert answer["result"] == "done"
                assert await idle.line() is None
            with pytest.raises(ConnectionRefusedError):
                Peer(server.path)


# --------------------------------------------------------------------------- binding


async def test_the_socket_is_private_when_there_is_no_group(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with listening(control(tmp_path / "deep/er"), env={}):
            mode = os.stat(tmp_path / "deep/er/control.sock").st_mode
            assert stat.S_IMODE(mode) == 0o600
    finally:
        os.umask(old)
    assert not (tmp_path / "deep/er/control.sock").exists(), "removed at the end"


async def test_the_socket_is_given_to_the_group_when_it_exists(tmp_path: Path) -> None:
    group = grp.getgrgid([*os.getgroups(), os.getgid()][0] if os.geteuid() else 1)
    with listening(control(tmp_path, group=group.gr_name), env={}):
        found = os.stat(tmp_path / "control.sock")
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, group.gr_gid)


async def test_a_stale_socket_is_replaced_a_live_one_never(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(control(tmp_path), env={}):
        inode = path.stat().st_ino
        with pytest.raises(ConflictError, match="another daemon listens"), listening(control(tmp_path), env={}):
            pass
        assert path.stat().st_ino == inode


async def test_a_file_in_the_way_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"), listening(control(tmp_path), env={}):
        pass
    assert (tmp_path / "control.sock").read_text() == "precious"


async def test_a_path_that_is_too_long_or_not_ours_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="longer than 107 bytes"), listening(control(tmp_path / ("x" * 100)), env={}):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"), listening(control(tmp_path / "file"), env={}):
        pass


async def test_at_the_end_only_our_own_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with listening(control(tmp_path), env={}):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


INHERIT = """
import os, socket, sys
from refgenied.config.settings import Control
from refgenied.control.listener import listening
from refgenied.model import ConfigError
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "1"
given = socket.socket({kind})
{prepare}
os.dup2(given.fileno(), 3)
try:
    with listening(Control(socket="/nonexistent/never-used")) as listener:
        print(listener.getsockname(), "LISTEN_FDS" in os.environ, os.get_inheritable(3), listener.getblocking())
except ConfigError as error:
    print(error.message)
"""


def inherit(kind: str, prepare: str) -> str:
    code = INHERIT.format(kind=kind, prepare=prepare)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


async def test_a_socket_of_systemd_is_taken_and_left_in_place(tmp_path: Path) -> None:
    path = tmp_path / "systemd.sock"
    out = inherit("socket.AF_UNIX", f"given.bind({str(path)!r}); given.listen()")
    assert out.splitlines()[-1] == f"{path} False False False"
    assert path.exists()
    assert "another kind of socket" in inherit("socket.AF_INET", "given.bind(('127.0.0.1', 0)); given.listen()")


# --------------------------------------------------------------------------- rights

NOBODY = 65534


def as_user(uid: int, groups: list[int], path: str, methods: list[str]) -> list[dict[str, dict[str, object]]]:
    """Ask from a child process of another user."""
    lines = [request(method, text="x") if method == "toy.echo" else request(method) for method in methods]
    code = (
        "import os,socket,sys,json\n"
        f"os.setgroups({groups}); os.setgid({uid}); os.setuid({uid})\n"
        f"s=socket.socket(socket.AF_UNIX); s.connect({path!r}); f=s.makefile('rb')\n"
        f"for line in {lines!r}:\n"
        "    try: s.sendall(line)\n"
        "    except OSError: pass\n"  # refused: the answer is there all the same
        "    sys.stdout.write(f.readline().decode())\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


@as_root
async def test_others_may_read_but_not_write(open_folder: Path, toys: Toys) -> None:
    async with serving(open_folder, toys, group="daemon") as server:
        open_to_all(server)
        read, wrote = await anyio.to_thread.run_sync(as_user, NOBODY, [NOBODY], server.path, ["toy.echo", "toy.write"])
    assert (read["result"]["uid"], read["result"]["may_write"]) == (NOBODY, False)
    assert wrote["error"]["code"] == 1006
    assert "nobody (uid 65534)" in str(wrote["error"]["message"])
    assert "usermod -aG daemon nobody" in str(wrote["error"]["data"])
    assert toys.wrote == 0


@as_root
async def test_a_member_by_a_supplementary_group_may_write(open_folder: Path, toys: Toys) -> None:
    group = grp.getgrnam("daemon")
    many = [*range(5_000_000, 5_000_050), group.gr_gid]
    async with serving(open_folder, toys, group="daemon") as server:
        [wrote] = await anyio.to_thread.run_sync(as_user, NOBODY, many, server.path, ["toy.write"])
    assert wrote["result"] == 1


@as_root
async def test_connections_are_limited_for_each_user_but_not_for_root(open_folder: Path, toys: Toys) -> None:
    async with serving(open_folder, toys, max_connections_per_user=1, group="daemon") as server:
        open_to_all(server)
        with connected(server) as one, connected(server) as two:
            assert (await one.ask("toy.echo", text="x"))["result"]
            assert (await two.ask("toy.echo", text="x"))["result"]
            code = (
                f"import os,socket\nos.setgroups([]); os.setuid({NOBODY})\n"
                f"a=socket.socket(socket.AF_UNIX); a.connect({server.path!r})\n"
                f"a.sendall({request('toy.echo', text='x')!r})\n"
                "a.recv(1000)\n"
                f"b=socket.socket(socket.AF_UNIX); b.connect({server.path!r}); print(b.recv(1000).decode())\n"
            )
            run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
            done = await anyio.to_thread.run_sync(run)
    assert "control.max_connections_per_user" in done.stdout


@as_root
async def test_more_groups_than_fit_fall_back_to_the_user_database(open_folder: Path, toys: Toys) -> None:
    async with serving(open_folder, toys, group="nogroup") as server:
        open_to_all(server)
        [wrote] = await anyio.to_thread.run_sync(
            as_user, NOBODY, list(range(5_000_000, 5_000_400)), server.path, ["toy.write"]
        )
    assert wrote["result"] == 1, "nobody's own group is nogroup, and setgid gave it"


async def test_identify_knows_this_very_process() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = identify(theirs, "no-such-group")
    assert (peer.uid, peer.pid, peer.may_write) == (os.geteuid(), os.getpid(), True)


async def test_without_descriptors_it_waits_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "ACCEPT_RETRY_SECONDS", 0.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(tmp_path, Toys()) as server:
        with connected(server) as peer, structlog.testing.capture_logs() as logged:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                for _ in range(50):
                    await anyio.lowlevel.checkpoint()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert (await peer.ask("toy.echo", text="x"))["result"]
    assert [line["event"] for line in logged if line["event"] == "control.accept_failed"] == ["control.accept_failed"]
