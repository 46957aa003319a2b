"""Compares the archives that are wanted with those that are present, and enqueues the difference.

`last_look` keeps the state of the genome folder, `standings` says where each asset stands, and `reconciler` decides
when to look. A change notice, a timer or a client can only ask for another look.
"""

from refgenied.reconciler.last_look import Watchable
from refgenied.reconciler.reconciler import Reconciler

__all__ = ["Reconciler", "Watchable"]
