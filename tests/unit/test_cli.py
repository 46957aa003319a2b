"""The command line of `refgeniectl`: what argparse finds is what the commands take."""

import argparse
import inspect
import json
from collections.abc import Callable, Iterator

import pytest

from refgenied.client import cli
from refgenied.client.commands import create
from refgenied.control.protocol import MAX_REQUEST

GROUPS = ["config", "asset", "archive", "downloads", "queue"]
OF_THE_SESSION = {"help", "socket", "json"}


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands below one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from commands(child)
            return
    yield parser


@pytest.mark.parametrize("parser", list(commands(cli.parser(GROUPS))), ids=lambda parser: parser.prog)
def test_a_command_takes_what_its_parser_gives(parser: argparse.ArgumentParser) -> None:
    run: Callable[..., int] = parser.get_default("run")
    _, *keywords = inspect.signature(run).parameters.values()
    assert all(one.kind is one.KEYWORD_ONLY for one in keywords)
    assert {one.name for one in keywords} == {action.dest for action in parser._actions} - OF_THE_SESSION


def test_a_group_that_is_not_named_stays_empty() -> None:
    there = {parser.prog for parser in commands(cli.parser(["status", "archive"]))}
    assert {"refgeniectl status", "refgeniectl archive list"} <= there
    assert "refgeniectl queue pause" not in there


def test_many_paths_are_asked_for_in_requests_that_the_daemon_takes() -> None:
    paths = [f"{number:048}/fasta:dé{'x' * (number % 90)}" for number in range(5000)]
    requests = list(create._requests(paths))
    assert [path for some in requests for path in some] == paths
    whole = {"jsonrpc": "2.0", "id": 1, "method": "archive.create"}
    for some in requests:
        line = json.dumps(whole | {"params": {"paths": some, "force": False}}).encode()
        assert len(line) < MAX_REQUEST
        assert len(some) <= 1000
