"""What refgenieserver needs in the archive folder: side files, flat names and its `genome_config.yaml`.

All of it is made from the database, the manifests and the last look by one call, `updater.refresh`, which may be
repeated and writes nothing when nothing has changed. The order is: side files, the flat name (a hard link), the
config, each written beside its final name, synced and renamed. A crash between two steps is repaired by the next
refresh. While an archive is being replaced, its flat name and the config stay as they were.

*When.* After each publish and removal, and after each look. A refresh looks at every archive. Therefore, in a row of
publishes, the next one comes after four times its own duration, which takes a fifth of the time whatever the number
of archives is. The last publish of a row, `archive wait`, `archive create` and a stop are followed by one at once.

*Faults.* An error of the system about one archive leaves out that archive and is a line in the status; the folder is
then looked at every minute. A full disk or a shortage of memory or descriptors ends the refresh. A page that cannot
be written (`entry`) never keeps an archive from being served. `sound` changes what refgenieserver's models do not
take: one description that is a number breaks its front page, one genome without an alias its list of all assets.
Entries of archives that another program made (a flat file without a manifest of ours) stay in the config.

*Kept archives.* Before a flat name leads to another file, or is deleted, the old file gets a hidden name, `.{asset
group}__{asset}.{md5}.tgz` (`kept`; a name that is too long is cut and a hash takes the place of the rest). It is
deleted after 15 minutes by a monotonic clock; for names that an earlier run left, by the file's ctime. So `archive
remove --delete-file` frees the disk a quarter of an hour later. On a file system without hard links the flat name is
a symbolic link and nothing can be kept: a client that was told of the old archive gets 503.
"""
