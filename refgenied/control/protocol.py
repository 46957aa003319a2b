"""The wire format: JSON-RPC 2.0, one object a line, UTF-8. No sockets here.

A *watch*, and a request that asked for progress, send notifications. Each notification has the `id` of its request as
`watch`, so several may run on one connection. The last notification of a watch is always `end`.
"""

import json
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Annotated, Literal, TypeVar, cast

import msgspec
from msgspec import Meta

from refgenied.model import RefgeniedError

MAX_REQUEST = 64 * 1024
"""The most bytes of a request line, with its newline."""
MAX_REPLY = 1024 * 1024
"""The most bytes of a line from the daemon, with its newline."""

Id = Annotated[str, Meta(max_length=128)] | int
P = TypeVar("P", bound=msgspec.Struct)


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request as it came. Its params are decoded later, when the verb is known."""

    jsonrpc: Literal["2.0"]
    id: Id
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class ParseError(RefgeniedError):
    code, kind = -32700, "parse_error"


class InvalidRequestError(RefgeniedError):
    code, kind = -32600, "invalid_request"


class UnknownVerbError(RefgeniedError):
    code, kind = -32601, "unknown_verb"


class InvalidParamsError(RefgeniedError):
    code, kind = -32602, "invalid_params"


class InternalError(RefgeniedError):
    """An error in the daemon itself. The traceback goes to the daemon's log, never to the client."""

    code, kind = -32603, "internal_error"


PROTOCOL_ERRORS = (ParseError, InvalidRequestError, UnknownVerbError, InvalidParamsError, InternalError)


_FORM = 'send one object a line: {"jsonrpc": "2.0", "id": 1, "method": "server.info", "params": {}}'


def decode_request(line: bytes) -> Request:
    """Decode a line. ParseError: it is not JSON. InvalidRequestError: it is JSON, but not a request."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"the line is not UTF-8 (byte {error.start})", hint=_FORM) from None
    try:
        return msgspec.json.decode(text, type=Request)
    except msgspec.ValidationError as error:
        raise _invalid_request(text, error) from None
    except msgspec.DecodeError as error:
        raise ParseError(f"the line is not JSON: {error}", hint=_FORM) from None
    except RecursionError:
        raise ParseError("the line is nested too deep", hint=_FORM) from None


def _invalid_request(text: str, error: msgspec.ValidationError) -> RefgeniedError:
    if text.lstrip().startswith("["):
        return InvalidRequestError("batches are not taken", hint=_FORM)
    message = str(error)
    if "missing required field `id`" in message:
        return InvalidRequestError("a request needs an `id`: notifications are not taken", hint=_FORM)
    return InvalidRequestError(f"not a request: {_plain(message)}", hint=_FORM)


def id_of(line: bytes) -> str | int | None:
    """The id in a line that is not a valid request. With it the client knows which request the error is about."""

    class Anything(msgspec.Struct):
        id: Id | None = None

    try:
        return msgspec.json.decode(line, type=Anything).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_params(verb: str, params: msgspec.Raw, shape: type[P]) -> P:
    """The params of a verb. InvalidParamsError names the fault and its place, and the params that the verb takes."""
    try:
        return msgspec.json.decode(params, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = "nested too deep" if isinstance(error, RecursionError) else _plain(str(error))
        if bytes(params).lstrip()[:1] == b"[":
            message = "params go by name: an object, not a list"
        raise InvalidParamsError(f"{verb}: {message}", hint=f"{verb} takes {known_params(shape)}") from None


def known_params(shape: type[msgspec.Struct]) -> str:
    """`path, force (optional)`: the params of a verb in one line."""
    names = [field.name if field.required else f"{field.name} (optional)" for field in msgspec.structs.fields(shape)]
    return ", ".join(names) or "no params"


def _plain(message: str) -> str:
    """msgspec's message in the words of the protocol: `limit` instead of `$.limit`."""
    message = message.replace("Object contains", "there is an").replace("Object missing", "there is no")
    message = message.replace("required field", "field").replace(" - at `$`", "").replace("`$.", "`")
    return message[:1].lower() + message[1:]


# --------------------------------------------------------------------------- lines from the daemon


def reply(request: str | int, result: object) -> bytes:
    """A result line, never longer than MAX_REPLY.

    Verbs give long lists in pages. If a result is still too long, its texts and lists are cut, and it has `shortened`.
    """
    return _fitting(lambda body: {"jsonrpc": "2.0", "id": request, "result": body}, result)


def error_reply(request: str | int | None, error: RefgeniedError) -> bytes:
    return _line({"jsonrpc": "2.0", "id": request, "error": error_body(error)})


def error_body(error: RefgeniedError) -> dict[str, object]:
    data = {"kind": error.kind, "hint": error.hint[:4096]}
    return {"code": error.code, "message": error.message[:4096], "data": data}


def notification(method: str, watch: str | int, params: dict[str, object]) -> bytes:
    return _fitting(lambda body: {"jsonrpc": "2.0", "method": method, "params": body}, {"watch": watch, **params})


def _fitting(message: Callable[[object], dict[str, object]], body: object) -> bytes:
    line = _line(message(body))
    if len(line) <= MAX_REPLY:
        return line
    plain = _plain_of(body)
    for most in (4096, 1024, 256, 64, 16):
        line = _line(message(_shortened(plain, most)))
        if len(line) <= MAX_REPLY:
            return line
    raise InternalError(f"the reply would be {len(line)} bytes, the limit is {MAX_REPLY}", hint="ask for less")


def _shortened(body: object, most: int) -> object:
    """The body, but with at most `most` characters in each text, and `most` items in each inner list or object.

    A list of the body itself stays whole: it is a page, and the next page begins after its last item.
    """

    def one(value: object, depth: int) -> object:
        match value:
            case str() if len(value) > most:
                return f"{value[: most - 1]}…"
            case list() | tuple():
                items = cast("Sequence[object]", value)
                return [one(item, depth + 1) for item in (items if depth < 2 else items[:most])]
            case dict():
                pairs = cast("dict[str, object]", value).items()
                return {name: one(item, depth + 1) for name, item in islice(pairs, most if depth else None)}
            case _:
                return value

    cut = one(body, 0)
    return {**cast("dict[str, object]", cut), "shortened": True} if isinstance(cut, dict) else cut


def _line(message: dict[str, object]) -> bytes:
    return encode(message) + b"\n"


def encode(value: object) -> bytes:
    r"""JSON in one line. Bytes of a name that are not UTF-8 become `\udcNN`, as in Python."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(_plain_of(value), separators=(",", ":")).encode("ascii")


def _plain_of(value: object) -> object:
    """The same as dicts, lists and texts. What was encoded before (msgspec.Raw) is decoded again."""
    return msgspec.to_builtins(value, enc_hook=lambda raw: json.loads(bytes(raw)))
