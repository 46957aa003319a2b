"""What is kept: jobs, archives, removals and the event log, in one SQLite database.

`connection` owns the one connection and its transactions; `opening` opens the file; `schema` has the tables and their
migrations; `rescue` saves what it can of a file that is damaged or gone; `state_folder` has the lock. `jobs`,
`archives`, `events`, `downloads` and `weblogs` hold every SQL statement, as functions of a transaction. `tables` turns
rows into structs.
"""

from refgenied.store.connection import Store
from refgenied.store.transaction import Transaction

__all__ = ["Store", "Transaction"]
