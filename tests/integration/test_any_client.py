"""A client that knows nothing but JSON-RPC 2.0 and what `rpc.describe` says."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from lab import PATIENCE, Lab
from synthetic import ALIAS, Genomes

from refgenied.control.description import ANSWERS


class AnyClient:
    """What somebody writes in an afternoon, in a language of his own."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")
        self.number = 0
        self.described = self.ask("rpc.describe", answer="at once")[0]
        self.verbs = {verb["name"]: verb for verb in self.described["verbs"]}

    def ask(self, method: str, answer: str = "", **params: Any) -> tuple[Any, list[dict[str, Any]]]:
        """The result (or the error), and the notifications of this request."""
        answer = answer or self.verbs[method]["answer"]
        self.number += 1
        request = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        reply, notifications = None, []
        for line in self.lines:
            message = json.loads(line)
            if "id" in message:
                reply = message
            else:
                notifications.append(message)
            if reply and (answer != "watch" or "error" in reply or message.get("method") == "end"):
                return reply.get("result", reply.get("error")), notifications
        raise AssertionError(f"{method}: the connection was closed")

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def client(lab: Lab, genomes: Genomes) -> Iterator[AnyClient]:
    genomes.build("fasta")
    lab.start()
    client = AnyClient(lab.socket)
    yield client
    client.close()


def fits(client: AnyClient, value: Any, shape: dict[str, Any]) -> None:
    jsonschema.validate(value, shape | {"types": client.described["types"]}, jsonschema.Draft202012Validator)


def told(client: AnyClient, method: str, **params: Any) -> Any:
    """Ask, and hold everything that comes against its shape."""
    verb = client.verbs[method]
    fits(client, params, {"type": "object", "additionalProperties": False} | verb["params"])
    result, notifications = client.ask(method, **params)
    fits(client, result, verb["result"])
    for message in notifications:
        assert message["method"] in verb["notifications"]
        fits(client, message["params"], client.described["notifications"][message["method"]])
    ends = [message for message in notifications if message["method"] == "end"]
    assert len(ends) == (verb["answer"] == "watch")
    assert ends in ([], notifications[-1:])
    return result


def test_it_does_everything(lab: Lab, client: AnyClient, genomes: Genomes) -> None:
    path = f"{ALIAS}/fasta"
    assert told(client, "archive.wait", path=path, timeout=PATIENCE, progress=True, waiting=True)["state"] == "archived"
    assert told(client, "archive.list")["archives"][0]["files"] == 1
    asked = {
        "server.info": {}, "server.scan": {}, "server.reload": {}, "config.get": {}, "asset.list": {},
        "asset.get": {"path": path}, "archive.get": {"path": path}, "archive.files": {"path": path},
        "archive.read": {"path": path, "file": "fasta"}, "archive.create": {"path": path, "force": True},
        "archive.verify": {"all": True, "progress": True}, "archive.import": {"progress": True},
        "archive.seek_keys": {"path": path}, "asset.seek_keys": {"path": path}, "archive.protect": {"all": True},
        "download.editions": {}, "job.list": {"ended": 9}, "job.get": {"job": 1},
        "job.watch": {"job": 2, "waiting": True}, "queue.pause": {}, "queue.resume": {}, "rpc.describe": {},
        "event.watch": {"since": 0, "follow": False}, "archive.remove": {"path": path},
    }  # fmt: skip
    for method, params in asked.items():
        told(client, method, **params)
    genomes.build("index")
    assert told(client, "queue.pause")["changed"]
    (wish, other) = told(client, "archive.create", paths=[f"{ALIAS}/index", f"{ALIAS}/nothing"])["results"]
    assert (wish["state"], other["error"]["data"]["kind"]) == ("queued", "asset_not_found")
    assert told(client, "archive.wait", path=f"{ALIAS}/index", timeout=0)["state"] == "timeout"
    assert told(client, "job.cancel", job=wish["job"])["state"] == "cancelled"
    assert told(client, "job.retry", job=wish["job"])["state"] == "queued"
    told(client, "server.shutdown")
    assert lab.daemons[0].ended() == 0
    done = {*asked, "archive.wait", "archive.list", "job.cancel", "job.retry", "server.shutdown"}
    assert {name for name in client.verbs if not name.startswith("download.")} <= done


def test_every_verb_says_when_it_answers(client: AnyClient) -> None:
    assert client.described["answers"] == ANSWERS
    assert {verb["answer"] for verb in client.verbs.values()} == set(ANSWERS)
    by_answer = {answer: {name for name, v in client.verbs.items() if v["answer"] == answer} for answer in ANSWERS}
    assert by_answer["late"] == {"archive.wait", "archive.verify", "archive.import"}
    assert by_answer["watch"] == {"event.watch", "job.watch"}
    for verb in client.verbs.values():
        jsonschema.Draft202012Validator.check_schema(verb["result"])
        assert ("end" in verb["notifications"]) == (verb["answer"] == "watch")


def test_every_error_of_a_watch_is_its_answer(client: AnyClient) -> None:
    error, notifications = client.ask("job.watch", job=99)
    assert (error["data"]["kind"], notifications) == ("job_not_found", [])


def test_the_exchange_that_is_shown_is_one(client: AnyClient) -> None:
    request, reply = map(json.loads, client.described["exchange"])
    fits(
        client,
        request["params"],
        {"type": "object", "additionalProperties": False} | client.verbs["archive.list"]["params"],
    )
    fits(client, reply["result"], client.verbs[request["method"]]["result"])
    result, _ = client.ask(request["method"], **request["params"])
    assert result == reply["result"], "the demo genome is not hg38: nothing fits the pattern"


def test_every_reference_leads_somewhere_and_fields_are_explained(client: AnyClient) -> None:
    text = json.dumps(client.described)
    for name in {part.split('"')[0] for part in text.split("#/types/")[1:]} - {"NAME`."}:
        assert name in client.described["types"] or name.startswith("NAME"), name
    waited = client.described["types"]["Waited"]["properties"]
    assert waited["state"]["description"] == "archived, failed (the job has failed), or timeout."
    assert len(text) < 100_000
