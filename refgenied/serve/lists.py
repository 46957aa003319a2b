"""Answers that list all genomes or all assets. They depend on the edition alone, so each edition is asked once.

refgenieserver computes such a list anew for each client, a tenth of a second for 10,000 assets, and no other request is
answered meanwhile.
"""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refgenied.serve.editions import ConfigEdition

_LISTS = re.compile(r"(?:/v3)?/(?:assets/list|genomes/list|genomes/alias_dict)|/v[12]/(?:assets|genomes)", re.ASCII)
_QUERIES = (b"", b"includeSeekKeys=True", b"includeSeekKeys=true", b"includeSeekKeys=False", b"includeSeekKeys=false")
"""What refgenie's clients ask. Answers to anything else are not kept, because there is no end to it."""


def is_list(scope: Scope) -> bool:
    """Whether the answer to this request depends on nothing but the edition."""
    asked = scope["method"] == "GET" and _LISTS.fullmatch(scope["path"]) is not None
    return asked and scope["query_string"] in _QUERIES


async def list_all(app: ASGIApp, edition: ConfigEdition, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer such a request: the edition's answer, or the app's, which is kept if it is a good one."""
    asked = f"{scope['path']}?{scope['query_string'].decode('ascii')}"
    kept = edition.lists.get(asked)
    if kept is not None:
        for message in kept:
            await send(message)
        return
    answer: list[Message] = []

    async def note(message: Message) -> None:
        answer.append(message)
        await send(message)

    await app(scope, receive, note)
    if answer and answer[0].get("status") == 200:
        edition.lists[asked] = answer
