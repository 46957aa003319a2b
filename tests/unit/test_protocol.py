"""The wire: what a line may be, and what is said about one that may not."""

import json
from contextlib import suppress
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from refgenied.control import protocol
from refgenied.control.protocol import (
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    ParseError,
    decode_params,
    decode_request,
    encode,
    id_of,
)
from refgenied.control.views import Page
from refgenied.model import AssetNotFoundError, RefgeniedError


class Params(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    limit: Annotated[int, Meta(ge=1, le=10)] = 5


def line(**changes: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {}} | changes).encode()


def test_a_good_request() -> None:
    request = decode_request(line(id="a", params={"path": "x"}))
    assert (request.id, request.method) == ("a", "m")
    assert decode_params("m", request.params, Params) == Params("x", 5)
    assert decode_request(b'{"jsonrpc":"2.0","id":7,"method":"m"}').params == msgspec.Raw(b"{}")


@pytest.mark.parametrize(
    ("given_line", "error", "says"),
    [
        (b"hello", ParseError, "not JSON"),
        (b'{"jsonrpc":"2.0"', ParseError, "not JSON"),
        (b'{"jsonrpc":"2.0","id":1,"method":"\x00"}', ParseError, "not JSON"),
        (b"\xff\xfe", ParseError, "not UTF-8 (byte 0)"),
        (b'{"params":' + b"[" * 60_000, ParseError, "nested too deep"),
        (b"[]", InvalidRequestError, "batches"),
        (b"[" + line() + b"]", InvalidRequestError, "batches"),
        (b"7", InvalidRequestError, "not a request"),
        (b'{"jsonrpc":"2.0","method":"m"}', InvalidRequestError, "needs an `id`"),
        (line(id=None), InvalidRequestError, "`id`"),
        (line(id=True), InvalidRequestError, "`id`"),
        (line(id="x" * 129), InvalidRequestError, "`id`"),
        (line(jsonrpc="1.0"), InvalidRequestError, "`jsonrpc`"),
        (line(method=3), InvalidRequestError, "`method`"),
        (line(extra=1), InvalidRequestError, "unknown field `extra`"),
    ],
)
def test_a_line_that_is_no_request_is_told_what_is_wrong(
    given_line: bytes, error: type[RefgeniedError], says: str
) -> None:
    with pytest.raises(error) as caught:
        decode_request(given_line)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint.startswith("send one object a line")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "there is no field `path`"),
        ({"path": 1}, "expected `str`, got `int` - at `path`"),
        ({"path": "x", "limit": 11}, "at `limit`"),
        ({"path": "x", "force": True}, "unknown field `force`"),
        (["x"], "params go by name"),
        (None, "expected `object`"),
    ],
)
def test_wrong_params_name_the_place_and_the_known_ones(params: object, says: str) -> None:
    with pytest.raises(InvalidParamsError) as caught:
        decode_params("asset.get", decode_request(line(params=params)).params, Params)
    assert says in caught.value.message
    assert caught.value.message.startswith("asset.get: ")
    assert caught.value.hint == "asset.get takes path, limit (optional)"


def test_an_error_belongs_to_its_request_whenever_the_id_can_be_read() -> None:
    assert id_of(line(id=9, method=3)) == 9
    assert id_of(b'{"id": "x", "what": []}') == "x"
    assert id_of(b"{") is None
    assert id_of(b"[1]") is None
    assert id_of(b'{"id": 1.5}') is None


def test_what_is_sent() -> None:
    error = AssetNotFoundError("no genome 'x'", hint="known genomes: t7")
    assert json.loads(protocol.error_reply(None, error)) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {
            "code": 1001,
            "message": "no genome 'x'",
            "data": {"kind": "asset_not_found", "hint": "known genomes: t7"},
        },
    }
    assert json.loads(protocol.reply("a", {"n": 1})) == {"jsonrpc": "2.0", "id": "a", "result": {"n": 1}}
    assert json.loads(protocol.notification("event", 3, {"seq": 1})) == {
        "jsonrpc": "2.0",
        "method": "event",
        "params": {"watch": 3, "seq": 1},
    }


def test_no_reply_is_longer_than_the_limit() -> None:
    with pytest.raises(InternalError, match="limit is 1048576"):
        protocol.reply(1, list(range(1_000_000)))  # a page that was never measured: a part of it would be a lie
    assert json.loads(protocol.reply(1, "x" * protocol.MAX_REPLY))["result"].endswith("x…")
    assert len(protocol.reply(1, "x" * (protocol.MAX_REPLY - 100))) <= protocol.MAX_REPLY


def test_a_name_that_is_not_utf8_survives_the_way() -> None:
    assert json.loads(encode({"path": "a\udcffb", "lines": "1\n2"})) == {"path": "a\udcffb", "lines": "1\n2"}
    assert b"\n" not in encode({"path": "a\udcffb", "lines": "1\n2"})


def test_pages_are_bounded_in_rows_and_bytes() -> None:
    assert (Page(range(5), limit=5).rows, Page(range(5), limit=5).more) == ([0, 1, 2, 3, 4], False)
    assert (Page(range(6), limit=5).rows, Page(range(6), limit=5).more) == ([0, 1, 2, 3, 4], True)
    page = Page(["x" * 100] * 50, room=1000)
    assert (len(page.rows), page.more) == (9, True)
    assert len(Page(["x" * 5000] * 2, room=1000).rows) == 1, "a page always gets on"


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_request_or_an_error_for_people(garbage: bytes) -> None:
    with suppress(ParseError, InvalidRequestError):
        decode_request(garbage)
    assert id_of(garbage) is None or isinstance(id_of(garbage), str | int)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "x"]), json_values | st.just("2.0")))
def test_any_json_is_a_request_or_an_error_for_people(value: dict[str, object]) -> None:
    given_line = json.dumps(value).encode()
    with suppress(ParseError, InvalidRequestError, InvalidParamsError):
        decode_params("m", decode_request(given_line).params, Params)
