"""What is kept: jobs, archives, removals and the event log, in one SQLite database.

`connection` owns the one connection and its transactions; `opening` opens the file; `schema` has the tables and their
migrations; `rescue` saves what it can of a file that is damaged or gone; `state_folder` has the lock. `jobs`,
`archives`, `events`, `downloads` and `weblogs` hold every SQL statement, as functions of a transaction. `tables` turns
rows into structs.

*The database's file.* Each start reads all of it (`quick_check`: 0.2 s for 10,000 archives and 200,000 downloads). A
damaged file is kept as `refgenied.sqlite3.damaged-…`, and a new one is filled from the manifests and with the
downloads that can still be read, from both ends of the table. Damage that is met while the daemon runs ends it with
75, and the next start reads the indexes too.

The name is looked at every 2 s. When the file was deleted, all of it is written once more and gets its name at the
end. When another file has the name, that one is the database of the next start, which finds out how old it is. SQLite
leaves its log beside a file that was moved and would write it into the other file, so a log of ours is taken away
first. A file that was written over in place (`cp backup …`) is known by its size and time, because only this room has
SQLite write into it (`wal_autocheckpoint = 0`): our data get another inode before ours is closed.
"""

from refgenied.store.connection import Store
from refgenied.store.transaction import Transaction

__all__ = ["Store", "Transaction"]
