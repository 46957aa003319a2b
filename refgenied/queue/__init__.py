"""Jobs: from the request that an asset is archived to the end of its job.

            claim            succeed
 queued ------------> running ------> succeeded
   ^  |                | | |  fail (a permanent error)
   |  | cancel_queued  | | +--------> failed
   |  v                | |  cancel_running, fold (another job of the asset takes over)
   | cancelled <-------|-+
   +-------------------+  retry_later (an attempt is charged; the job waits), hand_back (shutdown, or a condition:
   |                      nothing is charged), crashed (found running at start: an attempt is charged)
   +-- revive: a user retries a job that failed, was cancelled, or waits to be tried again

The table is `model.ARROWS`. Each change is `UPDATE … WHERE id = ? AND state IN (…)`, which must change one row.

*The way of a job.* The reconciler enqueues it (`jobs`). `worker` claims it and asks `archiver` for a `Result`: the
archive is up to date, an archive that was there is adopted, or a new one is packed. The worker gives the archive its
final names and records it, inside `ArchiveFolder.changing`. `feed` tells of the events; the catalog follows them.
`records` and `downloads` write what happens to archives outside of jobs.

*Whose fault is it?* A permanent error (an unsafe tree, a wrong digest) ends the job. After any other error the daemon
writes, syncs, renames and deletes a small file at the top of the archive folder. If that fails too, the error is a
*condition* (`conditions`): the archive folder, room in it, the database, and descriptors and memory are what every
job needs. Then no job is charged, one line of the health says what is wrong and where, and the queue waits. Each
condition is looked at every 3 seconds, also when no job waits, and without a write while all is well; the queue goes
on by itself. If the small file can be written, the fault is that of the asset: only its job waits, twice as long each
time, up to an hour, for ever, and `status` names it.

*A full disk.* A pack that finds the archive disk full deletes its partial files; the archive in place stays. The job
is handed back, and nothing is claimed until `conditions.Room` says that there is room: the free bytes have grown by
1/16 of what was free (64 KiB to 16 MiB), or a small file can be written again (a quota, a disk without inodes), or 10
minutes have passed, or a user gives `queue resume`. In the last two cases smaller jobs go first.

A job that was running when the daemon was killed goes last from then on. After the third kill in a row it waits for a
day, then for two, four … (at most 32), also over restarts, until the asset is built again or `queue retry` is given.

Waits do not depend on the clock: when somebody sets it, what waits is moved by as much.

*How an archive is published.* `worker` does it, shielded from cancellation, under the one lock of `archive_folder/`:

1. Raise the generation in the folder, with the name of the asset.
2. Give files of other programs another name, so that nothing of theirs is overwritten.
3. Rename the `.tgz`, the list of members, the manifest, and sync the folder (`archive/publisher`).
4. One transaction: record, generation, the job's end, events. If the database takes no write, try again.

After a kill in between, `maintenance/recovery` looks at the assets that the generation names, and `archive/presence`
finishes or takes back the renames.

*Order.* What a user asked for comes first, then new builds, then what was built before the first start; within each
the oldest. A failed or cancelled job holds for its stamp: no look queues the asset again until it is built again or a
user asks. An error that is only true for a moment (the asset is being built again) holds nothing.
"""
