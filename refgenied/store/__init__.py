"""Jobs, archives, removals and the event log, in one SQLite database.

`connection` owns the one connection and its transactions, which run in one `thread`; `opening` opens the file; `schema`
has the tables and their migrations; `rescue` saves data from a file that is damaged or gone; `state_folder` has the
lock. `jobs`, `archives`, `events`, `downloads` and `weblogs` hold every SQL statement, as functions of a transaction.
`tables` turns rows into structs.

*The database's file.* Each start reads all of it (`quick_check`: 0.2 s for 10,000 archives and 200,000 downloads). A
damaged file is kept as `refgenied.sqlite3.damaged-…`. A new file is filled from the manifests and with the downloads
that can still be read, from both ends of the table. If the running daemon finds damage, it ends with exit status 75,
and the next start reads the indexes too.

The file's name is checked every 2 s. If the file was deleted, its whole content is written to a new file, which gets
the name at the end. If another file has the name, the next start uses that file, and finds out how old it is. SQLite
leaves its log beside a file that was moved, and would write it into the other file, so our log is deleted first. If a
program writes over the file in place (`cp backup …`), its size and time show this, because only this room lets SQLite
write into it (`wal_autocheckpoint = 0`). Then the other program's data are copied to a new file before ours is closed.
"""

from refgenied.store.connection import Store
from refgenied.store.transaction import Transaction

__all__ = ["Store", "Transaction"]
