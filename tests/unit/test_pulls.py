"""What counts as one download."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from refgenied.shared.pulls import (
    BUFFERED_BYTES,
    DROP_SECONDS,
    MAX_PIECES,
    MAX_PULLS,
    PAIR_SECONDS,
    Answer,
    Pull,
    Pulls,
    asks_twice,
    remembered,
)

SIZE = 1000
LONG = BUFFERED_BYTES + 1


class Client:
    """Requests one after the other, each answered at once."""

    def __init__(self) -> None:
        self.pull = Pull()
        self.now = 1_000_000.0

    def get(self, first: int | None = 0, end: int = SIZE, **more: Any) -> bool:
        """Bytes [first, end), or a range of so many bytes."""
        sent = end - (first or 0)
        answer: dict[str, Any] = {"at": self.now, "begun": self.now, "size": SIZE, "least": sent, "most": sent}
        answer["ranged"] = first != 0
        return self.pull.take(Answer(first=first, **(answer | more)))

    def refgenie(self, sent: int = SIZE, size: int = SIZE, **more: Any) -> bool:
        return self.get(0, sent, size=size, twice=True, **more)


def test_whole_transfers_count_each() -> None:
    client = Client()
    assert [client.get() for _ in range(3)] == [True, True, True]


def test_broken_transfers_do_not_count() -> None:
    client = Client()
    assert not client.get(0, 400)
    assert not client.get(0, SIZE - 1)
    assert client.get()


# --------------------------------------------------------------------------- ranges


def test_ranges_count_once_when_they_cover_everything() -> None:
    client = Client()
    assert [client.get(*span) for span in ((0, 300), (600, 1000), (250, 600))] == [False, False, True]
    assert not client.get(0, 300, ranged=True)


def test_the_same_half_twice_is_no_download() -> None:
    client = Client()
    assert not any(client.get(0, 500, ranged=True) for _ in range(5))
    assert client.get(500, 1000)


@pytest.mark.parametrize("backwards", [False, True])
def test_two_hundred_small_ranges_are_one_download(*, backwards: bool) -> None:
    client = Client()
    spans = [(first, first + 5) for first in range(0, SIZE, 5)]
    found = [client.get(*span, ranged=True) for span in (reversed(spans) if backwards else spans)]
    assert found == [False] * 199 + [True]


def test_a_transfer_that_was_cut_and_resumed_counts_once() -> None:
    client = Client()
    assert not client.get(0, 700)
    assert client.get(500, 1000)
    assert not client.get(500, 1000)


def test_ranges_of_which_only_the_lengths_are_known() -> None:
    client = Client()
    assert [client.get(None, sent) for sent in (600, 400, 600, 300, 100)] == [False, True, False, False, True]
    assert [client.get(None, 5) for _ in range(400)].count(True) == 2
    assert [client.get(None, sent) for sent in (300, 499, 499, 501)] == [False, False, False, True]


def test_ranges_with_their_headers_are_estimated_and_count_once() -> None:
    client = Client()
    assert [client.get(None, 0, least=3, most=6) for _ in range(200)].count(True) == 1


def test_the_rest_of_a_cut_transfer_is_known_by_its_length() -> None:
    client = Client()
    assert not client.get(0, 700)
    assert not client.get(None, 200)
    client = Client()
    assert not client.get(0, 700)
    assert client.get(None, 400)


def test_what_was_left_long_ago_is_forgotten() -> None:
    client = Client()
    client.get(0, 500, ranged=True)
    client.now += remembered(SIZE) + 1
    assert not client.get(500, 1000)


def test_who_reads_here_and_there_is_not_remembered_without_end() -> None:
    client = Client()
    for first in range(0, SIZE - 2, 2):
        client.get(first, first + 1, ranged=True)
        client.get(None, first + 1)
    assert len(client.pull.covered) == MAX_PIECES
    assert len(client.pull.lengths) <= MAX_PIECES
    assert client.get()


# --------------------------------------------------------------------------- refgenie's pairs


@pytest.mark.parametrize("first", [SIZE, 10])
def test_of_refgenies_two_requests_one_counts(first: int) -> None:
    client = Client()
    for _ in range(3):
        assert not client.refgenie(first)
        assert client.refgenie()


@pytest.mark.parametrize("first", [SIZE, 10])
def test_a_slow_pull_counts_when_only_ends_are_known(first: int) -> None:
    client = Client()
    assert not client.refgenie(first, begun=None)
    client.now += remembered(SIZE)
    assert client.refgenie(begun=None)


def test_a_first_request_that_is_noticed_late_belongs_to_the_second() -> None:
    client = Client()
    assert not client.refgenie()
    assert client.refgenie(10), "it had begun before the other ended"


@pytest.mark.parametrize("first", [SIZE, 10])
def test_a_second_request_that_breaks_uses_up_the_first(first: int) -> None:
    client = Client()
    assert not client.refgenie(first)
    begun = client.now
    client.now += DROP_SECONDS + 1
    assert not client.refgenie(500, begun=begun)
    assert not client.refgenie()
    assert client.refgenie()


def test_an_aborted_pull_leaves_nothing_over_for_the_next() -> None:
    client = Client()
    assert not client.refgenie(10)
    assert not client.refgenie(500)
    client.now += PAIR_SECONDS + 1
    assert not client.refgenie(), "the archive is small: the first answer comes whole"
    assert client.refgenie()


def test_a_long_archive_is_never_sent_whole_to_who_drops_it() -> None:
    client = Client()
    assert client.refgenie(LONG, LONG)
    client.now += 60
    assert client.refgenie(LONG, LONG)
    assert not client.refgenie(4_000_000, LONG)
    assert client.refgenie(LONG, LONG)


def test_where_broken_transfers_look_whole_only_pairs_count() -> None:
    client = Client()
    assert [client.refgenie(LONG, LONG, sure=False) for _ in range(4)] == [False, True, False, True]
    assert [Client().refgenie(LONG, LONG), client.refgenie(LONG, LONG, sure=False)] == [True, False]
    client = Client()
    assert [client.refgenie(LONG, LONG) for _ in range(2)] == [True, False], "nobody is so fast"


def test_clients_behind_one_address_in_any_order() -> None:
    """Each client's first request comes before its second; it may come whole; everything else may be mixed."""
    for order in set(itertools.permutations("AABBCC")):
        for firsts in itertools.product((SIZE, 10), repeat=3):
            client, left = Client(), dict(zip("ABC", firsts, strict=True))
            count = 0
            for name in order:
                client.now += 0.1
                count += client.refgenie(left.pop(name, SIZE))
            assert count == 3, (order, firsts)


# --------------------------------------------------------------------------- memory


def test_what_is_known_can_be_kept_and_goes_on() -> None:
    client = Client()
    client.refgenie(10)
    client.get(0, 500, ranged=True)
    client.get(None, 10)
    client.pull = Pull.load(json.loads(json.dumps(client.pull.state)))
    assert client.refgenie()
    assert client.get(500, 1000)


def test_clients_are_kept_apart_and_the_oldest_is_forgotten() -> None:
    pulls = Pulls()
    half, rest = (Answer(0.0, 0.0, SIZE, first, 500, 500, ranged=True) for first in (0, 500))
    assert not pulls.take(("a", "x"), half)
    assert not pulls.take(("b", "x"), rest)
    assert pulls.take(("a", "x"), rest)
    pulls.take(("a", "x"), half)
    for number in range(MAX_PULLS):
        pulls.take((str(number),), half)
    assert not pulls.take(("a", "x"), rest)


def test_what_is_no_download_yet_outlives_its_process() -> None:
    before, after = Pulls(), Pulls()
    half, rest = (Answer(0.0, 0.0, SIZE, first, 500, 500, ranged=True) for first in (0, 500))
    before.take(("a",), half)
    before.take(("b",), half)
    before.take(("b",), rest)
    assert before.changed
    kept = json.loads(json.dumps(before.states()))
    assert len(kept) == 1
    assert not before.changed
    after.load(kept)
    assert not after.take(("b",), rest)
    assert after.would_take(("a",), rest)
    assert after.take(("a",), rest)


def test_who_asks_twice() -> None:
    assert asks_twice("Python-urllib/3.11")
    assert not asks_twice("curl/8.0")
