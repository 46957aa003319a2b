"""Makes the files that refgenieserver needs in the archive folder: side files, flat names and `genome_config.yaml`.

All of it is made from the database, the manifests and the last look, and may be made again at any time. The order for
each archive is: side files, the flat name (a hard link), the config. New flat names are brought to the disk before the
config that needs them. If a crash comes between two steps, the next start repairs it: the side files alone are not
synced, and each start compares them. While an archive is being replaced, its flat name and the config stay the same.

*What.* Events carry the asset's key, and a look shares with the one before all assets that are the same. So a refresh
looks at the assets of new events, and at those that differ in the new look (`updater`, `folder`, `showing`). It reads
all of them at the start, after each full look, after other settings, after an error, and when another program has
changed the config: what a missed event or a wrong cache has left wrong is found then. An archive that is shown as it
should be costs three system calls and no reading of its manifest. The publishing lock is held for 200 archives at a
time, while records are compared with files, and never while the config is made.

*The config* is kept as rendered parts (`parts`): one asset's entry, and what stands around the entries of a group and
of a genome. A change renders its own part, and the parts are joined: byte for byte what the whole tree would give
(`rendering`, `parted`). Of an existing file only what is not ours is kept (`others`). It is not read while it is as we
wrote it. When another program has changed it before our rename, the refresh begins again.

*When.* A refresh follows each publish, removal and look; there is one at a time. Refreshes take at most a tenth of the
time: the next one waits for nine times the duration of the last one, and after a write for a quarter of a second at
least. When no job runs or is due, it waits for 0.75 s at most. So a new entry is then served within a second. A look at
all archives does not count for this rest, as it comes with each sweep: only a second one that follows within nine times
its duration does. A change during a refresh or a rest is followed by another refresh, so one always follows the last
publish of a row. `archive wait --served`, `archive remove` and a stop are followed by a refresh at once; it goes on
when its client is gone.

*Faults.* If the system reports an error about one archive, that archive is left out, the status has a line about it,
and it is looked at again every minute. A full disk or a shortage of memory or descriptors ends the refresh. An archive
is served even if its page cannot be written (`entry`). `sound` changes values that refgenieserver's models refuse: one
description that is a number breaks its front page, and one genome without an alias breaks its list of all assets.
Entries of archives that another program made (a flat file without a manifest of ours) stay in the config.

*Kept archives.* Before a flat name leads to another file, or is deleted, the old file gets a hidden name, `.{asset
group}__{asset}.{md5}.tgz` (`kept`; a name that is too long is cut and a hash replaces the rest). The hidden name is
deleted after 15 minutes by a monotonic clock; if an earlier run left it, the file's ctime counts. So `archive remove
--delete-file` frees the disk a quarter of an hour later. On a file system without hard links the flat name is a
symbolic link and nothing can be kept: a client that knows the digest of the old archive gets 503.
"""
