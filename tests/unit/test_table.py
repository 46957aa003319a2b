"""`rpc.describe`, and what holds for every verb. Real parts over a synthetic genome folder."""

import pytest
from controlled import BOB, Desk, context_of
from parts import Parts

from refgenied.control.verbs.table import VERBS

pytestmark = pytest.mark.anyio


async def test_describe_tells_everything_a_client_needs(desk: Desk) -> None:
    found = await desk.ask("rpc.describe")
    verbs = {verb["name"]: verb for verb in found["verbs"]}
    assert set(verbs) == set(VERBS)
    assert verbs["archive.create"]["writes"]
    assert not verbs["archive.list"]["writes"]
    assert verbs["archive.create"]["params"]["properties"]["force"]["default"] is False
    assert verbs["archive.get"]["params"]["required"] == ["path"]
    assert {"code": 1001, "kind": "asset_not_found"} in verbs["archive.create"]["errors"]
    for verb in verbs.values():
        assert verb["summary"].endswith(".")


async def test_every_write_verb_is_refused_to_who_may_only_read(parts: Parts) -> None:
    desk = Desk(context_of(parts), BOB)
    needed: dict[str, dict[str, object]] = {
        "archive.create": {"path": "t7/fasta"}, "archive.remove": {"path": "t7/fasta"},
        "job.cancel": {"job": 1}, "job.retry": {"job": 1},
    }  # fmt: skip
    writing = {name for name, verb in VERBS.items() if verb.writes}
    assert writing >= {*needed, "server.scan", "server.reload", "server.shutdown", "queue.pause", "queue.resume"}
    for name in writing:
        error = await desk.refused(name, **needed.get(name, {}))
        assert error["data"]["kind"] == "permission_denied", error
        assert "bob (uid 1002)" in error["message"]
