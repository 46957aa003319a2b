"""`refgenied serve` follows its config in a thread of its own."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from refgenied.genomes.refgenie0 import CONFIG_NAME

pytestmark = [pytest.mark.anyio, pytest.mark.needs("refgenieserver")]
pytest.importorskip("refgenieserver", reason="an extra")

EMPTY = "config_version: 0.4\ngenomes: {}\n"


async def test_a_disk_that_does_not_answer_stops_only_the_look_at_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refgenied.serve import follower  # noqa: PLC0415 - refgenieserver takes a second

    monkeypatch.setattr(follower, "SILENT_DISK_SECONDS", 0.0)
    config = tmp_path / CONFIG_NAME
    config.write_text(EMPTY)
    following = follower.Follower(tmp_path)
    assert following.problem == ""
    asked, answer, stat = threading.Event(), threading.Event(), os.stat

    def dead(path: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if path == config:
            asked.set()
            answer.wait()
        return stat(path, *arguments, **named)

    monkeypatch.setattr(os, "stat", dead)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(following.run)
            await anyio.to_thread.run_sync(asked.wait)
            assert "has not answered" in following.problem  # our own loop runs on
            group.cancel_scope.cancel()  # and we can end
    answer.set()


async def test_a_new_config_becomes_the_current_edition(tmp_path: Path) -> None:
    from refgenied.serve.follower import Follower  # noqa: PLC0415 - refgenieserver takes a second

    following = Follower(tmp_path)
    first = following.shelf.current
    assert "is not there" in following.problem
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(following.run)
            for text, refused in ((EMPTY, False), ("genomes: [", True), (EMPTY + "# again\n", False)):
                (tmp_path / ".partial").write_text(text)
                (tmp_path / ".partial").rename(tmp_path / CONFIG_NAME)
                while bool(following.problem) is not refused:
                    await anyio.sleep(0.01)
            assert following.shelf.current is not first
            group.cancel_scope.cancel()
