"""Compares what is wanted with what is present, and enqueues the difference."""

from refgenied.reconciler.reconciler import ANSWER_SECONDS, Reconciler, Watchable

__all__ = ["ANSWER_SECONDS", "Reconciler", "Watchable"]
