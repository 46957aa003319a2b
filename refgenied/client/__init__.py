"""`Client` talks to the daemon over its socket, and uses only the standard library. `main` is `refgeniectl`.

    from refgenied.client import Client
    with Client.connect() as client:
        print(client.call("archive.create", path="hg38/fasta"))
        watch = client.watch("event.watch")
        for method, params in watch: ...

Each line on the wire is one JSON-RPC 2.0 object. `rpc.describe` describes every verb.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from refgenied.client.sockets import socket_paths

TYPE_CHECKING = False  # an import of `typing` would take a third of the time of this import
if TYPE_CHECKING:
    from typing import Any, Self

    Json = dict[str, Any]
    """A JSON object, as `json` reads it."""
else:
    Json = dict

SILENCE_POLL_MS = 500
"""Milliseconds between two calls of `on_silence`."""


class ClientError(Exception):
    """An error: one line for a person, and a hint that says what to do."""

    kind = "error"
    """The kind never changes, so programs can use it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ClientError):
    """The command line makes no sense."""

    kind = "usage"


class NoDaemonError(ClientError):
    """No daemon answers at the socket."""

    kind = "no_daemon"


class NotPermittedError(ClientError):
    """The socket exists, but this user may not connect to it."""

    kind = "not_permitted"


class HungUpError(NoDaemonError):
    """The daemon closed the connection before it had answered."""

    kind = "hung_up"


class DaemonError(ClientError):
    """The daemon refused. `kind` never changes, e.g. `asset_not_found`."""

    def __init__(self, error: Json) -> None:
        data: Json = error.get("data") or {}
        super().__init__(str(error.get("message")), str(data.get("hint") or ""))
        self.code = int(error.get("code") or 0)
        self.kind = str(data.get("kind") or "")


class Client:
    """One connection with one request at a time. A context manager."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb", 1 << 16)
        self._last = 0
        self.on_silence: Callable[[], bool] | None = None
        """A function that is called repeatedly until the daemon has sent something, or until it returns True. It may
        raise."""

    @classmethod
    def connect(cls, path: str | None = None, *, timeout: float | None = None) -> Self:
        """Connect to the first daemon that answers. NoDaemonError names the tried sockets, NotPermittedError the group.

        A daemon that sends nothing for `timeout` seconds counts as gone. None: the client waits for ever.
        """
        places, problems = socket_paths(path)
        tried: list[str] = []
        forbidden = ""
        for place in places:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(timeout)
            try:
                connection.connect(place)
            except OSError as error:
                connection.close()
                tried.append(f"{place}: {_why(error)}")
                forbidden = forbidden or (place if isinstance(error, PermissionError) else "")
                continue
            return cls(connection)
        if forbidden:
            raise NotPermittedError(
                f"you may not connect to {forbidden}",
                f"the daemon's user, root and its group may: `ls -l {forbidden}` shows the group, "
                "`sudo usermod -aG GROUP USER` and a new login join it",
            )
        raise NoDaemonError(
            f"no daemon answers (tried {'; '.join([*tried, *problems])})",
            "start it with `refgenied run` or `systemctl start refgenied`, or name its socket with --socket",
        )

    def call(self, method: str, on_notice: Callable[[str, Json], None] | None = None, **params: Any) -> Any:
        """Send a request, wait for the result. Earlier notifications go to `on_notice`. DaemonError, HungUpError."""
        return self.request(method, params, on_notice)

    def request(self, method: str, params: Json, on_notice: Callable[[str, Json], None] | None = None) -> Any:
        """The same, with the params as one object."""
        return self.finish(self.begin(method, params), on_notice)

    def begin(self, method: str, params: Json) -> int:
        """Send a request and do not wait. Returns its number, for `finish`."""
        return self._send(method, params)

    def finish(self, number: int, on_notice: Callable[[str, Json], None] | None = None) -> Any:
        """Wait for the result of a request. Answers to other requests are dropped: finish them in order."""
        while True:
            message = self._receive()
            if "method" in message:
                if on_notice:
                    on_notice(message["method"], message["params"])
            elif message.get("id") in (number, None):
                return _result(message)

    def watch(self, method: str, **params: Any) -> Watch:
        """Begin a watch. It has a `state`, and it can be iterated for its notifications."""
        return self.watch_with(method, params)

    def watch_with(self, method: str, params: Json) -> Watch:
        """The same, with the params as one object."""
        state = self.request(method, params)
        return Watch(state, self._notices(self._last))

    def _notices(self, number: int) -> Iterator[tuple[str, Json]]:
        while True:
            message = self._receive()
            if "method" not in message:
                _result(message)
            elif message["params"]["watch"] == number:
                yield message["method"], message["params"]

    def _send(self, method: str, params: Json) -> int:
        self._last += 1
        request = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
        with suppress(OSError):  # the daemon may have sent a reason before it hung up: the caller reads it next
            self._connection.sendall(json.dumps(request).encode() + b"\n")
        return self._last

    def _receive(self) -> Json:
        self._await_first_word()
        try:
            line = self._lines.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise HungUpError("the daemon hung up", "its log says why; `refgeniectl status` tells whether it is back")
        message: Json = json.loads(line)
        return message

    def _await_first_word(self) -> None:
        if self.on_silence is None:
            return
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while not poll.poll(SILENCE_POLL_MS):
            if self.on_silence():
                break
        self.on_silence = None

    def close(self) -> None:
        self._lines.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Watch:
    """A watch that has begun. Iterate it for (method, params). After that, `end` says why it ended."""

    def __init__(self, state: Json, notices: Iterator[tuple[str, Json]]) -> None:
        self.state = state
        self.end: Json = {}
        self._notices = notices

    def __iter__(self) -> Iterator[tuple[str, Json]]:
        for method, params in self._notices:
            if method == "end":
                self.end = params
                if "error" in params and params["reason"] != "shutting_down":
                    raise DaemonError(params["error"])
                return
            yield method, params


def _result(message: Json) -> Any:
    if "error" in message:
        raise DaemonError(message["error"])
    return message["result"]


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "not there"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens"
    return error.strerror or str(error)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `refgeniectl`; returns its exit status."""
    from refgenied.client.cli import main as run  # noqa: PLC0415 (a program that uses the class needs no parser)

    return run(argv)
