"""The session of a command: the connection to the daemon, the printing of answers, and the exit statuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from refgenied.client import Client, ClientError, Json
from refgenied.client.reconnect import reached
from refgenied.shared import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

DONE, REFUSED, USAGE, NO_DAEMON, NOT_PERMITTED, JOB_FAILED, TIME_OVER, DAMAGED = range(8)
STATUS_OF_KIND = {
    "usage": USAGE,
    "no_daemon": NO_DAEMON,
    "hung_up": NO_DAEMON,
    "not_permitted": NOT_PERMITTED,
    "permission_denied": NOT_PERMITTED,
    "archive_damaged": DAMAGED,
}
"""The exit status for each kind of error; all other kinds have REFUSED."""
FIELD_WIDTH = 15
"""The columns of the names in `say_fields`."""


class Page:
    """One page of a list."""

    def __init__(self, answer: Json, rows: list[Json], *, more: bool) -> None:
        self.answer = answer
        self.rows = rows
        self.more = more
        """Whether another page follows."""


class Session:
    """One run of `refgeniectl`. A context manager that closes the connection."""

    def __init__(self, socket: str | None = None, *, json: bool = False, client: Client | None = None) -> None:
        self.socket = socket
        self.json = json
        """Whether stdout is for programs (JSON)."""
        self._client = client

    @property
    def client(self) -> Client:
        """The connection to the daemon, made at the first use. NoDaemonError, NotPermittedError."""
        if self._client is None:
            self._client = reached(self.socket)
        return self._client

    def replace_client(self, client: Client) -> None:
        """Continue with a new connection."""
        self.client.close()
        self._client = client

    def ask(self, method: str, **params: Any) -> Json:
        return self.client.call(method, **params)

    def pages(self, method: str, key: str, cursor: str = "after", **params: Any) -> Iterator[Page]:
        """All pages of a list. `key`: a page's field with the rows. `cursor`: the parameter for the page's `next`.

        The daemon makes the next page while this one is printed.
        """
        asked = self.client.begin(method, params)
        while True:
            found = self.client.finish(asked)
            more = found["next"] is not None
            if more:
                asked = self.client.begin(method, params | {cursor: found["next"]})
            yield Page(found, found[key], more=more)
            if not more:
                return

    def tell(self, row: Json, *lines: str) -> int:
        """Print the row for programs, or the lines for people."""
        if self.json:
            output.print_json(row)
        else:
            for line in lines:
                output.say(line)
        return DONE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()


def print_rows(pages: Iterable[Page]) -> int:
    """One line of JSON for each row; a page at a time."""
    for page in pages:
        if page.rows:
            output.print_json(*page.rows)
    return DONE


def say_fields(fields: Iterable[tuple[str, str]]) -> None:
    """One line for each name and its value."""
    for name, value in fields:
        output.say(f"{name:<{FIELD_WIDTH}} {value}", indent=FIELD_WIDTH + 1)


def complain(error: ClientError) -> int:
    """Print the error. Returns its exit status."""
    output.complain("refgeniectl", error.message, error.hint, kind=error.kind)
    return STATUS_OF_KIND.get(error.kind, REFUSED)
