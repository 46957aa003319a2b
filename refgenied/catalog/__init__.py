"""Makes the files that refgenieserver needs in the archive folder: side files, flat names and `genome_config.yaml`.

One call, `updater.refresh`, makes all of it from the database, the manifests and the last look. It may be repeated, and
writes nothing when nothing has changed. The order is: side files, the flat name (a hard link), the config. Each file is
written beside its final name, synced and renamed. If a crash comes between two steps, the next refresh repairs it.
While an archive is being replaced, its flat name and the config stay as they were.

*When.* A refresh follows each publish, each removal and each look. It looks at every archive. So in a row of publishes
a refresh waits for four times the duration of the last one: refreshes take a fifth of the time, for any number of
archives. The last publish of a row, `archive wait`, `archive create` and a stop are followed by a refresh at once.

*Faults.* If the system reports an error about one archive, that archive is left out, the status has a line about it,
and a refresh comes every minute. A full disk or a shortage of memory or descriptors ends the refresh. An archive is
served even if its page cannot be written (`entry`). `sound` changes values that refgenieserver's models refuse: one
description that is a number breaks its front page, and one genome without an alias breaks its list of all assets.
Entries of archives that another program made (a flat file without a manifest of ours) stay in the config.

*Kept archives.* Before a flat name leads to another file, or is deleted, the old file gets a hidden name, `.{asset
group}__{asset}.{md5}.tgz` (`kept`; a name that is too long is cut and a hash replaces the rest). The hidden name is
deleted after 15 minutes by a monotonic clock; if an earlier run left it, the file's ctime counts. So `archive remove
--delete-file` frees the disk a quarter of an hour later. On a file system without hard links the flat name is a
symbolic link and nothing can be kept: a client that knows the digest of the old archive gets 503.
"""
