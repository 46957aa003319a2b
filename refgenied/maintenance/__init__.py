"""What keeps archives and records sound, beside the queue.

*Recovery* runs at start, before anything else. Jobs that were running are charged and queued again. For their assets
`archive.reconcile` decides from the disk alone: an archive that agrees with its manifest stays; one that agrees with
the `.partial` manifest is finished, because the crash came between the two renames; anything else is deleted. A new
database is filled from the manifests, removals included.

*Verifier.* `archive verify` compares the file's md5, every block's checksum, every header and the digest of the list
of members, on all threads. The md5 of each member is taken only when this system has not proved the archive before,
or when something is wrong, to name the member: an md5 takes 1.2 s for 1 GB on one core, longer than all the rest, and
an archive with the md5 of a proved one holds the same bytes. What looks damaged because it was replaced meanwhile is
read again. The mark is written only if the record is still of the same archive and the archive folder is still there.
A marked archive counts as stale, so the next look queues it again.

*Scrubber* proves a share of the folder each day, in a thread of its own at nice 10 (a thread of a pool would stay
nice). It stands still while jobs run.

*Damage* tells the health which archives are marked, and checks those about which something does not fit together, as
the catalog finds when it serves them.

*Importer.* A foreign archive gets our name by a hard link to a `.partial` file first (a copy, if the file belongs to
another user who could still write to it). A symbolic link is never followed. Its manifest has no blocks, and its
content digest is taken over the members in our order, so the asset that it was made from has the same digest. Before
a job compresses anything it compares the asset with the archive in place: kinds, modes and sizes first, then md5s. So
nothing is packed again on a system to which genomes and archives were moved, although every stamp differs there.
`archive import` of one archive also takes back a removal, and proves the file before. A removal, and its undoing, is
written into the manifest first and recorded then: after a crash between the two the next start reads the manifest.

*Rights* compares the permission bits of archives with those of their assets, after the first look and once a day.
What more people may read is reported. It is changed by `archive protect` only, or never looked at with
`archive.publish_private`.

*Tidier* walks over the archive folder once at start and once a day. It deletes partial files that only refgenied
names so, and empty asset folders, when nobody works on them. It finishes a publish that was cut. It proves and
records an archive with a manifest of ours that the database does not know. The log has one line for all that was
deleted.
"""

DAY = 86_400.0
"""In seconds."""
