"""The archive folder: is it the folder we know, how much room it has, what is in place, and the one publishing lock.

*The lock.* `folder.ArchiveFolder.publishing` is held from the first change of a final name to the commit of its
record: by a publish, an import, a removal and an update of the catalog. `archive verify` takes it before it believes
that an archive is damaged. Nobody holds it while something is packed or read. Partial files need no lock: they belong
to the asset's running job, or to the request that has reserved the asset and waited until no job of it ran.

*The generation.* Each publish, import, adoption and removal raises a number. It is raised first in the archive folder
(`.refgenied.generation`, with the name of the asset), before anything else changes, and then in the database, in the
transaction of the record. So after a kill the two numbers differ by one, and the next start reads the manifest of
that one asset. After an orderly end the file names no asset, and then they must be equal. Otherwise the database or
the folder came from a backup:

- The folder's number is larger: the database is the old one. All manifests are read once and they are right, also
  about removals. Counted downloads stay. The log, the event `database.rebuilt` and `status` say so.
- The database's number is larger: the folder is the old one. What is there is recorded as it is. Removals that the
  database knows stay, and are marked again. An archive that is recorded and missing is `lost`, and is made again if
  its asset is still there.

*The names.* refgenie 1's nested name is the archive's own. `names` makes the flat name that refgenieserver looks for,
`linked` the folder with links to the asset's real files, and `leftovers` knows the names of unfinished files.
"""
