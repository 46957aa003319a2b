"""The archive folder: is it the folder that we know, its free space, its lost archives, and the publishing lock.

*The lock.* `folder.ArchiveFolder.publishing` is held from the first change of a final name to the commit of its
record: by a publish, an import and a removal; and by the catalog while it compares records with files and changes flat
names, for a hundred archives at a time, but not while it writes the config. `archive verify` takes it before it marks
an archive as damaged. Nobody holds it during packing or reading. Archives that are ready at the same time are published
under one hold of it. Partial files need no lock: they belong to the asset's running job, or to the request that has
reserved the asset and waited until no job of it ran.

*The generation.* Each publish, import, adoption and removal raises a number. It is raised first in the archive folder
(`.refgenied.generation`, with the names of the assets that change together), before anything else changes, and then in
the database, in the transaction of their records. So after a kill the two numbers differ by one, and the next start
reads the manifests of those assets alone. The name of an asset whose change failed stays in the file until a start has
looked at it. After an orderly end the file names no asset, and the two numbers must be equal. Otherwise the database
or the folder came from a backup:

- The folder's number is larger: the database came from a backup. All manifests are read once, and they are believed,
  also about removals. Counted downloads stay. The log, the event `database.rebuilt` and `status` say so.
- The database's number is larger: the folder came from a backup. Its archives are recorded as they are. Removals that
  the database knows stay, and are marked again. An archive that is recorded and missing is `lost`, and is made again
  if its asset still exists.

*The names.* The main name of an archive is refgenie 1's nested name. `names` makes the flat name that refgenieserver
looks for, `linked` makes the folder with links to the asset's real files, and `leftovers` knows the names of unfinished
files.
"""
