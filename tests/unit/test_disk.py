"""Calls on a disk that does not answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from refgenied.archive_folder.folder import ArchiveFolder
from refgenied.files.disk import DiskThread
from refgenied.model import ShortageError
from refgenied.queue.conditions import Folder

pytestmark = pytest.mark.anyio


async def test_results_and_errors_come_back() -> None:
    disk = DiskThread("test")

    def fail() -> None:
        raise ValueError("what")

    assert await disk.run(max, 1, 2) == 2
    with pytest.raises(ValueError, match="what"):
        await disk.run(fail)
    assert disk.busy_since is None


async def test_an_idle_thread_ends_and_the_next_call_finds_another() -> None:
    disk = DiskThread("idle")
    threads = {await disk.run(threading.current_thread) for _ in range(200)}
    assert threading.main_thread() not in threads
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join, 20)
        assert not thread.is_alive()


async def test_who_waits_can_be_cancelled_and_one_thread_hangs_at_most() -> None:
    disk, began, answer, calls = DiskThread("hanging"), threading.Event(), threading.Event(), []

    def hang() -> None:
        began.set()
        answer.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(disk.run, hang)
        for _ in range(20):
            group.start_soon(disk.run, calls.append, threading.active_count)
        await anyio.to_thread.run_sync(began.wait)
        assert disk.busy_since is not None
        group.cancel_scope.cancel()
    assert sum(thread.name == "hanging" for thread in threading.enumerate()) == 1
    answer.set()
    assert await disk.run(len, "abc") == 3
    assert calls == []  # nobody waited for them any more


@contextmanager
def no_threads() -> Iterator[None]:
    """None can be started any more: each would need more than the address space holds."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


async def test_a_system_that_has_no_thread_for_it_is_asked_again_the_next_time() -> None:
    disk = DiskThread("short")
    with no_threads(), pytest.raises(ShortageError, match="no thread"):
        await disk.run(len, "abc")
    with anyio.fail_after(20):
        assert await disk.run(len, "abc") == 3


async def test_without_a_thread_the_archive_folder_is_neither_lost_nor_found(tmp_path: Path) -> None:
    folder = Folder(ArchiveFolder(str(tmp_path), None))
    with no_threads():
        await folder.look()
        assert isinstance(await folder.probe(), ShortageError)
    assert folder.line == ""
