"""The answer of `rpc.describe`. It is enough to write a client without our code.

Shapes are JSON Schema, made from the types that the verbs take and return. The sentence below a field in the source
explains the field, here too.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import cast, get_args, get_type_hints

import msgspec

from refgenied.control.dispatch import Errors, Verb, Verbs
from refgenied.control.protocol import MAX_REPLY, MAX_REQUEST

Schema = dict[str, object]
_WHERE = "#/types/{name}"

ANSWERS = {
    "at once": "one reply, as soon as it is worked out",
    "late": "one reply, which may take long; notifications that were asked for come before it, and there is no `end`. "
    "Keep the connection open for writing: who closes it has gone, and is not answered",
    "watch": "a reply at once with how things are now, then notifications, of which the last is `end`. Keep the "
    "connection open for writing",
}
"""When a verb answers, and how often. Replies on one connection may come in any order; the `id` tells them apart."""


EXCHANGE = [
    '{"jsonrpc": "2.0", "id": 1, "method": "archive.list", "params": {"pattern": "hg38/*"}}',
    '{"jsonrpc": "2.0", "id": 1, "result": {"archives": [], "next": null}}',
]


class Description(msgspec.Struct, frozen=True):
    protocol: str
    exchange: list[str]
    """A request as a client sends it, and its reply."""
    max_request: int
    """The most bytes of a line, with its newline."""
    max_reply: int
    answers: dict[str, str]
    """The possible values of a verb's `answer`, with an explanation."""
    notifications: dict[str, dict[str, object]]
    """Name → the shape of its params, which have `watch` too: the id of the request that it belongs to."""
    types: dict[str, dict[str, object]]
    """JSON Schemas; other schemas refer to them as `#/types/NAME`."""
    errors: list[dict[str, object]]
    """Errors of any verb. The `data` of an error has its `kind`, and a `hint` that says what to do."""
    verbs: list[dict[str, object]]


def describe(verbs: Verbs, notices: Mapping[str, type], errors: Errors) -> Description:
    """Every verb: its purpose, when it answers, its params, result and errors. `notices`: each notification's type.
    `errors`: the errors that every verb may answer with.

    It reads the source of this package. This blocks for a quarter of a second.
    """
    results = {name: _results_of(verb) for name, verb in verbs.items()}
    params = [verb.params for verb in verbs.values()]
    everything = list(
        dict.fromkeys([*params, *(shape for found in results.values() for shape in found), *notices.values()])
    )
    shown, types = msgspec.json.schema_components(everything, schema_hook=_anything, ref_template=_WHERE)
    schemas: dict[type, Schema] = dict(zip(everything, shown, strict=True))
    for shape in _shapes_in(everything, set()):
        _explain(types.get(shape.__name__, {}), shape)
    of_params = {shape.__name__ for shape in params}
    return Description(
        protocol="JSON-RPC 2.0 over a Unix socket: UTF-8, one object a line, params by name, id required, no batches; "
        "times are Unix seconds, sizes are bytes, paths are absolute",
        exchange=EXCHANGE,
        max_request=MAX_REQUEST,
        max_reply=MAX_REPLY,
        answers=ANSWERS,
        notifications={name: schemas[shape] for name, shape in notices.items()},
        types={name: schema for name, schema in types.items() if name not in of_params},
        errors=_kinds(errors),
        verbs=[_verb(verb, results[name], schemas, types) for name, verb in sorted(verbs.items())],
    )


def _kinds(errors: Errors) -> list[Schema]:
    return [{"code": error.code, "kind": error.kind} for error in errors]


def _verb(verb: Verb, results: Sequence[type], schemas: Mapping[type, Schema], types: Mapping[str, Schema]) -> Schema:
    params = types[verb.params.__name__]
    shapes = [schemas[result] for result in results]
    return {
        "name": verb.name,
        "summary": verb.summary,
        "writes": verb.writes,
        "lasts": verb.lasts,
        "answer": verb.answer,
        "notifications": [*verb.notifies, *(["end"] if verb.begins else [])],
        "params": {name: value for name, value in params.items() if name in ("properties", "required")},
        "result": shapes[0] if len(shapes) == 1 else {"anyOf": shapes},
        "errors": _kinds(verb.errors),
    }


def _anything(shape: type) -> Schema:
    """The schema of `object` in our types: any JSON value."""
    if shape is object:
        return {"description": "any JSON value"}
    raise NotImplementedError


def _results_of(verb: Verb) -> tuple[type, ...]:
    """The types that a reply may have; usually there is one."""
    if verb.begins is not None:
        return (verb.begins,)
    given = get_type_hints(verb.handler)["return"]
    return get_args(given) if isinstance(given, UnionType) else (given,)


def _shapes_in(hints: Iterable[object], seen: set[type]) -> set[type]:
    """`seen`, with the structs and dataclasses in these annotations, and in those of their fields."""
    for hint in hints:
        _shapes_in(get_args(hint), seen)
        if isinstance(hint, type) and hint not in seen and (is_dataclass(hint) or issubclass(hint, msgspec.Struct)):
            seen.add(hint)
            _shapes_in(get_type_hints(hint).values(), seen)
    return seen


def _explain(schema: Schema, shape: type) -> None:
    fields = cast("dict[str, Schema]", schema.get("properties", {}))
    for owner in shape.__mro__:
        said = _sentences(owner.__module__).get(owner.__name__, {})
        for name in fields.keys() & said:
            fields[name].setdefault("description", said[name])


@cache
def _sentences(module: str) -> dict[str, dict[str, str]]:
    """Class → field → the sentence below the field. Empty when there is no source."""
    try:
        tree = ast.parse(Path(getattr(sys.modules[module], "__file__", None) or "").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    return {node.name: dict(_below_fields(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _below_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(node.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())
            case _:
                continue
