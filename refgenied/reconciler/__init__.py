"""Compares the archives that are wanted with those that are present, and enqueues the difference.

`last_look` keeps the state of the genome folder, `standings` says where each asset stands, and `reconciler` decides
when to look. A change notice, a timer or a client can only ask for another look.

*Work follows change.* Three things ask for work, and each gets only what it needs:

- A notice (`hints`) names paths. When the folder was quiet for `settle_seconds`, a *partial* look sees what lies under
  them, refgenie's config and the running builds. What was noticed stays noticed until a look that covers it has ended.
- A client names assets. `Reconciler.refreshed` looks at them at once, and does not touch what was noticed.
- The sweep, `refgeniectl scan` and a notice without paths are *full* looks, which trust nothing that is kept. So is
  each look after one that failed or was cut off half-way. Partial looks do not put a sweep off.

An asset that has not changed is the same object in two looks. So `last_look` finds what has changed without a
comparison, and `difference` judges only these assets, those of which a job or an archive has ended badly, and those
that could not be queued before. After a full look, a pause and a change of the settings it judges all assets; for the
last two nobody looks at the disk.

*Nothing is computed for assets that nobody asks about.* `standings` judges the assets that a question names: it asks
the database and the archive folder about these alone. A list takes the keys of its page from `key_order`, which is
sorted by change. The numbers of `status` are kept by change in `tally`: an asset is judged anew when a look gives
another object for it, or when an event was about its archive. `tally` is a cache: each full look counts all again.

*Watches.* A look names the folders that are worth a watch; `watchable` keeps at most `watch.most_folders` of them. It
notes each with its ctime, so a change between a look and the watch after it is found without another look.
"""

from refgenied.reconciler.reconciler import Reconciler
from refgenied.reconciler.watchable import Known, Watchable, changed_since, is_of_a_build

__all__ = ["Known", "Reconciler", "Watchable", "changed_since", "is_of_a_build"]
