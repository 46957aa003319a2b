"""Compares what is wanted with what is present, and enqueues the difference.

`last_look` is what the genome folder holds, `standings` what that means for each asset, `reconciler` when to look.
"""

from refgenied.reconciler.last_look import Watchable
from refgenied.reconciler.reconciler import Reconciler

__all__ = ["Reconciler", "Watchable"]
