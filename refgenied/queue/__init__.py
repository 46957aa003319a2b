"""Jobs: from the request for an archive to the end of its job.

            claim            succeed
 queued ------------> running ------> succeeded
   ^  |                | | |  fail (a permanent error)
   |  | cancel_queued  | | +--------> failed
   |  v                | |  cancel_running, fold (another job of the asset replaces this one)
   | cancelled <-------|-+
   +-------------------+  retry_later (an attempt is charged; the job waits), hand_back (shutdown, or a condition:
   |                      nothing is charged), crashed (found running at start: an attempt is charged)
   +-- revive: a user retries a job that failed, was cancelled, or waits to be tried again

The table is `model.ARROWS`. Each change is `UPDATE … WHERE id = ? AND state IN (…)`, which must change one row.

*The steps of a job.* The reconciler enqueues it (`jobs`). `worker` claims it and asks `archiver` for a `Result`: the
archive is up to date, an existing archive is adopted, or a new one is packed. `publishing` gives the archive its final
names and records it, inside `ArchiveFolder.changing_some`. `feed` sends the events to subscribers; the catalog is one
of them. `arrows` has the transactions. `records` and `downloads` write the changes of archives that do not come from
jobs.

*Several jobs at once.* A small asset (up to 1 MiB) needs one core for a few milliseconds, and then waits for some ten
syncs. So up to eight of them are in the making at the same time. The worker looks at the next asset before it claims
its job, and if it is small, at those that follow: small ones are claimed together, in one transaction. A larger asset
is claimed when nothing else runs. It has all cores, and nothing begins until it is done. So has a job that ran when
the daemon was killed: it may be the reason, and if it ran beside others, its next kill would be charged to them too.
The order of the queue is kept. Each job can be cancelled, and has its progress, its error and its end of its own.

An error of the look before the claim is an error of the first job. When the look hangs on a dead disk, the health says
so after ten seconds, and the jobs wait: usually the others are on the same disk. A user who cancels the job passes it
over, and its thread is left behind (at most four).

*Whose fault is an error?* A permanent error (an unsafe tree, a wrong digest) ends the job. After any other error, but
for a full disk, the daemon writes, syncs, renames and deletes a small file at the top of the archive folder. If this
fails too, the error is a *condition* (`conditions`). Every job needs the archive folder, room in it, the database,
and descriptors and memory. During a condition no job is charged, one line of the health says what is wrong and where,
and the queue waits. Each condition is checked every 3 seconds, even when no job waits, and without a write while all
is well. When it is over, the queue continues by itself. If the small file can be written, the asset is at fault: only
its job waits, each time twice as long, up to an hour. It is tried again without end, and `status` names it.

*A full disk.* When packing fills the archive disk, the partial files are deleted; the old archive stays. The job is
handed back, and no job is claimed until `conditions.Room` sees room. This is so when the free bytes have grown by
1/16 of the bytes that were free (64 KiB to 16 MiB), after 10 minutes, or after a user's `queue resume`; in the last
two cases smaller jobs go first. If not even a small file could be written (a quota, a disk without inodes), it is
also so when a small file can be written again.

A job that was running when the daemon was killed goes behind all others, and the more often in a row, the farther
behind: several jobs may have run, and the one that is the reason comes last. After the third kill in a row it waits for
a day, then for two, four … (at most 32), also over restarts, until the asset is built again or `queue retry` is given.

Waits do not depend on the clock: when somebody sets the clock, the times of waiting jobs are moved by the same amount.

*How archives are published.* `publishing` does it, shielded from cancellation, under the one lock of
`archive_folder/`. All that are ready when the lock is free are one group. One that comes alone waits for nobody.

1. Raise the generation in the folder, and write the names of the group's assets beside it.
2. Give files of other programs another name, so they are not overwritten.
3. Rename each `.tgz` and its list of members, sync their folders, rename the manifests, sync the folders again
   (`archive/publisher`). A power cut may keep the later of two renames and lose the earlier one.
4. One transaction: records, generation, the jobs' ends, events. If the database takes no write, try again. If the
   transaction fails for another reason, each job has a transaction of its own.

An error of one job in these steps is only its own. Its asset stays named beside the generation until a start has looked
at it.

After a kill during these steps, `maintenance/recovery` looks at the assets that the generation names, and
`archive/presence` finishes or undoes the renames.

*Order.* Jobs that a user asked for come first, then new builds, then assets that were built before the first start;
within each group the oldest comes first. After a failed or cancelled job, no look queues the asset again while its
stamp stays the same: it must be built again, or a user must ask. An error that is only true for a moment (the asset
is being built again) has no such effect.
"""
