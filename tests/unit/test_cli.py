"""The command line of `refgeniectl`: what argparse finds is what the commands take."""

import argparse
import inspect
from collections.abc import Callable, Iterator

import pytest

from refgenied.client import cli

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
