"""Compares the archives that are wanted with those that are present, and enqueues the difference.

`last_look` is what the genome folder holds, `standings` says what that means for each asset, and `reconciler` when to
look. A change notice, a timer or a client can only ask for another look.
"""

from refgenied.reconciler.last_look import Watchable
from refgenied.reconciler.reconciler import Reconciler

__all__ = ["Reconciler", "Watchable"]
