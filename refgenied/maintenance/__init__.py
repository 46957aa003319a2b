"""The parts that keep archives and records sound, beside the queue.

*Recovery* runs at start, before anything else. Jobs that were running are charged and queued again. For their assets
`archive.presence` decides from the disk alone. An archive that agrees with its manifest stays. An archive that agrees
with the `.partial` manifest is finished, because the crash came between the two renames. Other partial files are
deleted. A new database is filled from the manifests, with the removals.

*Verifier.* `archive verify` compares the file's md5, every block's checksum, every header and the digest of the list
of members, on all threads. The md5 of each member is taken only if this system has not proved the archive before, or
to name the bad member. The reason: an md5 takes 1.2 s for 1 GB on one core, longer than all other steps together, and
an archive with the md5 of a proved archive holds the same bytes. An archive that looks damaged because it was replaced
meanwhile is read again. The mark is written only if the record is still about the same archive and the archive folder
still exists. A marked archive counts as stale, so the next look queues it again.

*Scrubber* proves a share of the folder each day, in a separate thread at nice 10 (a thread of a pool would stay nice).
It pauses while jobs run. The database has the archives in the order of their proofs (`store/proofs`): the next one
costs the same in any folder, and each archive has at most one turn a day.

*Damage* tells the health which archives are marked. It asks the database only after an event that can change this. It
checks an archive when the catalog finds that its record, manifest and file do not agree.

Whoever works on all archives (verify, import, rights, tidier) takes some hundred at a time, so the memory does not grow
with their number. Only a start with a new or an old database has all records in memory.

*Importer.* A foreign archive gets our name: first as a hard link with a `.partial` name, or as a copy if the file
belongs to another user, who could still write to it. A symbolic link is never followed. The manifest of a foreign
archive has no blocks. Its content digest is taken over the members in our order, so its asset has the same digest.
Before a job compresses anything, it compares the asset with the existing archive: kinds, modes and sizes first, then
md5s. So nothing is packed again after genomes and archives were moved to another system, although every stamp differs
there. `archive import` of one archive also undoes a removal, after it has proved the file. A removal and its undoing
are written into the manifest first and recorded after that. After a crash between the two, the next start reads the
manifest.

*Rights* compares the permission bits of archives with those of their assets, after the first look and once a day. It
reports archives that more people can read than their assets. Only `archive protect` changes them. With
`archive.publish_private` everybody may read the archives of private assets, so the check opens them.

*Tidier* walks over the archive folder at start and once a day. It deletes partial files with names that only refgenied
uses, and empty asset folders, when nobody works on them. It finishes a publish that a crash has interrupted. It proves
and records an archive with a manifest of ours that the database does not know. The log has one line for all deletions.
"""

DAY = 86_400.0
"""Seconds in a day."""
