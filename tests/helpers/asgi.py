"""Requests to an ASGI app in the test's own process."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import unquote

import anyio


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(app: Any, path: str, method: str = "GET", **headers: str) -> Answer:
    """The answer to one request; what the app raises is raised. Fields of the head are given as `if_range="…"`."""
    raw, _, query = path.partition("?")
    fields = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"x"), *fields],
        "client": ("127.0.0.1", 1),
        "server": ("x", 80),
    }
    sent: list[dict[str, Any]] = []
    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not asked:
            await anyio.sleep_forever()
        return asked.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    (start,) = [message for message in sent if message["type"] == "http.response.start"]
    head = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], head, b"".join(message.get("body", b"") for message in sent))
