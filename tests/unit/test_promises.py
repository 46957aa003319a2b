"""Which edition a client of `refgenied serve` sees, and how long an old one is kept for it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from refgenied.model import AssetKey
from refgenied.serve import editions
from refgenied.serve.editions import MOST_PROMISES, MOST_TOLD, ConfigEdition, Shelf
from refgenied.serve.served_archive import ServedArchive, ServedFolder

GENOME = "d1" * 24
FASTA, OTHER = AssetKey(GENOME, "fasta", "default"), AssetKey(GENOME, "other", "default")


def edition(**digests: str) -> ConfigEdition:
    """With an archive for each asset group."""
    folder = ServedFolder(Path("/nowhere"))
    keys = {AssetKey(GENOME, group, "default"): digest for group, digest in digests.items()}
    archives = {key: ServedArchive(folder, key, digest, ()) for key, digest in keys.items()}
    return ConfigEdition(object(), {}, archives, (1,), ())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(editions, "time", clock)
    return clock


def test_a_client_sees_what_it_was_told_of_until_it_has_it() -> None:
    shelf = Shelf(first := edition(fasta="1"))
    shelf.told("ann", FASTA, first)
    shelf.put(second := edition(fasta="2"))
    assert (shelf.view("ann", FASTA), shelf.view("bob", FASTA)) == (first, second)
    shelf.kept("ann", FASTA)
    assert shelf.view("ann", FASTA) is second


def test_a_promise_ends(clock: Clock) -> None:
    shelf = Shelf(first := edition(fasta="1"))
    shelf.told("ann", FASTA, first)
    shelf.put(second := edition(fasta="2"))
    clock.now += editions.PROMISE_SECONDS - 1
    assert shelf.view("ann", FASTA) is first
    clock.now += 2
    assert shelf.view("ann", FASTA) is second


def test_a_promise_ends_however_often_it_is_made_again(clock: Clock) -> None:
    shelf = Shelf(first := edition(fasta="1"))
    shelf.put(second := edition(fasta="1", other="1"))
    shelf.told("ann", FASTA, second)
    shelf.put(third := edition(fasta="2"))
    asked = 0
    while shelf.view("ann", FASTA) is second:
        shelf.told("ann", FASTA, second)
        clock.now += 60
        asked += 1
    assert asked * 60 == editions.SUPERSEDED_SECONDS + 60
    assert shelf.view("ann", FASTA) is third
    assert first is not second


def test_an_old_edition_stays_only_for_archives_that_are_others_now() -> None:
    shelf = Shelf(first := edition(fasta="1", other="1"))
    shelf.told("ann", FASTA, first)
    gone = weakref.ref(first)
    del first
    for number in range(3):
        shelf.put(edition(fasta="1", other=str(number)))
    gc.collect()
    assert gone() is None, "the promised archive is the current one"
    shelf.told("ann", FASTA, kept := shelf.current)
    shelf.put(edition(fasta="2"))
    shelf.put(edition(fasta="3"))
    assert shelf.view("ann", FASTA) is kept


def test_promises_are_few_and_those_whose_time_is_over_are_forgotten(clock: Clock) -> None:
    shelf = Shelf(first := edition(fasta="1", other="1"))
    for client in range(MOST_PROMISES + 5):
        shelf.told(str(client), FASTA, first)
    for _ in range(MOST_TOLD * 2):
        shelf.told("busy", FASTA, first)
    clock.now += editions.PROMISE_SECONDS - 1
    shelf.told("late", OTHER, first)
    shelf.put(second := edition(fasta="2", other="2"))
    views = [shelf.view(str(client), FASTA) for client in (0, 6, 7, MOST_PROMISES + 4)]
    assert views == [second, second, first, first]
    clock.now += 2
    gone = weakref.ref(first)
    shelf.tidy()
    assert shelf.view("late", OTHER) is first
    shelf.kept("late", OTHER)
    del first, views
    gc.collect()
    assert gone() is None


def test_one_who_asks_again_and_again_keeps_no_promise_of_others(clock: Clock) -> None:
    shelf = Shelf(first := edition(fasta="1"))
    shelf.told("busy", FASTA, first)
    shelf.put(edition(fasta="2"))
    shelf.told("bob", FASTA, second := shelf.current)
    shelf.put(edition(fasta="3"))
    gone = weakref.ref(second)
    del second
    clock.now += editions.PROMISE_SECONDS / 2
    shelf.told("busy", FASTA, first)
    clock.now += editions.PROMISE_SECONDS / 2 + 1
    shelf.tidy()
    gc.collect()
    assert gone() is None
    assert shelf.view("busy", FASTA) is first
