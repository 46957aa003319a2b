"""What goes to stderr."""

import json

import pytest
import structlog

from refgenied import logs
from refgenied.config.settings import Log


def test_a_traceback_in_json_leaves_out_the_local_variables(capfd: pytest.CaptureFixture[str]) -> None:
    whole_config = "x" * 100  # noqa: F841 - in a server it is the genome config, in every frame
    before = structlog.get_config()
    try:
        logs.set_up(Log(format="json"))
        try:
            int("why")
        except ValueError:
            structlog.get_logger().exception("library")
        logs.flush()
    finally:
        structlog.configure(**before)
    line = json.loads(capfd.readouterr().err)
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert line["exception"][0]["frames"][0]["name"] == "test_a_traceback_in_json_leaves_out_the_local_variables"
    assert "xxx" not in json.dumps(line)


def test_names_in_a_text_log_cannot_steer_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    evil = "e\u202egpj\x1b[31m\nforged line \udcff"
    try:
        logs.set_up(Log(format="text"))
        structlog.get_logger().warning("asset.state", asset=evil, reason=evil, size=3)
        try:
            int(evil, 10)
        except ValueError:
            structlog.get_logger().exception("library")
        logs.flush()
    finally:
        structlog.configure(**before)
    told = capfd.readouterr().err
    assert not [c for c in told if not c.isprintable() and c != "\n"]
    first, *trace = told.splitlines()
    assert first.count(r"e\u202egpj\x1b[31m\nforged line \udcff") == 2
    assert r"ValueError: invalid literal for int() with base 10: 'e\u202egpj\x1b[31m" in "".join(trace), (
        "a traceback keeps its lines"
    )
