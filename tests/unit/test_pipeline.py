"""Order, bounds and ends of the threads."""

import os
import threading
import time

import pytest

from refgenied.archive.format.pipeline import MAX_THREADS, NICENESS, STEP, Pipeline
from refgenied.archive.run import Run, no_check


def ignore(_: object) -> None:
    pass


def pipeline(work=lambda item: item, then=ignore, aside=ignore, retire=ignore, threads=4, check=no_check):
    return Pipeline(work=work, then=then, aside=aside, retire=retire, run=Run(threads, check))


def test_results_and_items_keep_their_order_whatever_the_work_takes():
    results, items, retired = [], [], []

    def work(number: int) -> int:
        time.sleep(0.002 if number % 3 == 0 else 0)
        return -number

    with pipeline(work, results.append, items.append, retired.append) as line:
        for number in range(100):
            line.push(number)
        line.finish()
    assert results == [-number for number in range(100)]
    assert items == retired == list(range(100))


def test_no_more_is_in_flight_than_the_depth():
    gate = threading.Event()
    pushed = 0

    def check() -> None:  # asked when the caller has to wait
        gate.set()

    def then(_: int) -> None:
        gate.wait()

    retired = []
    with pipeline(then=then, retire=retired.append, check=check) as line:
        while not gate.is_set():
            line.push(pushed)
            pushed += 1
        assert pushed <= line.depth + 1
        line.finish()


@pytest.mark.parametrize("where", ["work", "then", "aside", "retire", "check"])
def test_what_goes_wrong_anywhere_reaches_the_caller_and_no_thread_stays(where):
    class Broken(BaseException):
        pass

    calls = 0

    def broken(item: object = None) -> object:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise Broken
        return item

    def run() -> None:
        with pipeline(**{where: broken}) as line:
            for number in range(1000):
                line.push(number)
            line.finish()

    before = threading.active_count()
    with pytest.raises(Broken):
        run()
    assert threading.active_count() == before


def test_an_error_that_looks_like_a_timeout_is_still_an_error():
    def then(_: object) -> None:
        raise TimeoutError(110, "Connection timed out")  # what a network disk may say

    def run() -> None:
        with pipeline(then=then) as line:
            line.push(1)
            line.finish()

    with pytest.raises(TimeoutError, match="Connection timed out"):
        run()


def test_the_number_of_threads_is_bounded():
    before = threading.active_count()
    with pipeline(threads=1000) as line:
        for number in range(200):
            line.push(number)
        assert threading.active_count() - before <= MAX_THREADS + 2
        line.finish()


def test_work_that_nobody_waits_for_is_not_begun():
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    def run() -> None:
        with pipeline(work, threads=1) as line:
            for number in range(line.depth):
                line.push(number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(begun) <= 1


def test_only_the_workers_step_back():
    def niceness(_: object = None) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    here, seen, asides = niceness(), [], []
    with pipeline(niceness, seen.append, lambda _: asides.append(niceness())) as line:
        line.push(1)
        line.push(2)
        line.finish()
    assert (seen, asides, niceness()) == ([min(19, max(here + STEP, NICENESS))] * 2, [here] * 2, here)


@pytest.mark.parametrize("items", [0, 1, 2])
def test_a_single_item_needs_no_thread(items):
    done, me, asked = [], threading.current_thread(), []

    def then(number: int) -> None:
        done.append((number, threading.current_thread() is me))

    with pipeline(lambda number: -number, then, check=lambda: asked.append(1)) as line:
        for number in range(1, items + 1):
            line.push(number)
        line.finish()
    assert done == [(-number, items == 1) for number in range(1, items + 1)]
    assert bool(asked) is (items > 0), "also a single item can be cancelled"
