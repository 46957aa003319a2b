"""What counts as one download."""

from __future__ import annotations

import itertools

import pytest

from refgenied.client.pulls import MOST_PIECES, PAIR_SECONDS, Pulls, asks_twice

SIZE = 1000
WHOLE = (0, SIZE)


class Log:
    """Requests one after the other, each answered at once."""

    def __init__(self) -> None:
        self.pulls = Pulls()
        self.now = 0.0

    def get(
        self, sent: tuple[int, int] = WHOLE, *, delivered: bool = True, twice: bool = False, who: str = "a"
    ) -> bool:
        self.pulls.begin(who, self.now)
        return self.pulls.end(who, self.now, sent, SIZE, delivered=delivered, twice=twice)


def test_whole_transfers_count_each() -> None:
    log = Log()
    assert [log.get() for _ in range(3)] == [True, True, True]


def test_aborted_transfers_do_not_count() -> None:
    log = Log()
    assert not log.get((0, 400), delivered=False)
    assert not log.get(WHOLE, delivered=False), "everything was given to the kernel, and the client left"
    assert log.get()


def test_ranges_count_once_when_they_cover_everything() -> None:
    log = Log()
    assert [log.get(span) for span in ((0, 300), (600, 1000), (250, 600))] == [False, False, True]
    assert not log.get((0, 300))


def test_a_transfer_that_was_cut_and_resumed_counts_once() -> None:
    log = Log()
    assert not log.get((0, 700), delivered=False)
    assert log.get((500, 1000))
    log = Log()
    assert not log.get(WHOLE, delivered=False)
    assert not log.get((100, 200)), "the end is still missing"
    assert log.get((400, 1000))


@pytest.mark.parametrize("probe_comes_whole", [False, True])
def test_of_refgenies_two_requests_one_counts(*, probe_comes_whole: bool) -> None:
    log = Log()
    for _ in range(3):
        assert not log.get(WHOLE if probe_comes_whole else (0, 10), delivered=probe_comes_whole, twice=True)
        assert log.get(twice=True)


def test_four_clients_behind_one_address_in_any_order() -> None:
    """Each client's probe comes before its real request; everything else may be mixed."""
    for order in set(itertools.permutations("AABBCC")):
        pulls, asked, count = Pulls(), {"A": 0, "B": 0, "C": 0}, 0
        for client in order:
            asked[client] += 1
            pulls.begin("one address", 0.0)
            count += pulls.end("one address", 0.0, WHOLE, SIZE, delivered=True, twice=True)
        assert count == 3, order


def test_an_aborted_pull_leaves_nothing_over_for_the_next() -> None:
    log = Log()
    log.get((0, 10), delivered=False, twice=True)
    log.get((0, 500), delivered=False, twice=True)
    log.now += PAIR_SECONDS + 1
    assert not log.get(twice=True), "a small archive: the probe comes whole"
    assert log.get(twice=True)


def test_clients_are_kept_apart() -> None:
    log = Log()
    assert not log.get((0, 500), who="a")
    assert not log.get((500, 1000), who="b")


def test_who_reads_here_and_there_is_not_remembered_without_end() -> None:
    log = Log()
    for first in range(0, SIZE - 2, 2):
        log.get((first, first + 1))
    assert len(log.pulls._states["a"].covered) == MOST_PIECES
    assert log.get()


def test_who_asks_twice() -> None:
    assert asks_twice("Python-urllib/3.11")
    assert not asks_twice("curl/8.0")
