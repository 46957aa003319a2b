"""What goes to stderr."""

import json

import pytest
import structlog

from refgenied import logs
from refgenied.config import Log


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
