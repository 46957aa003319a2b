"""What is durable: jobs, archives, removals and the event log, in one SQLite database.

`connection` owns the one connection and the transaction; `schema` the tables and their migrations; `jobs`,
`archives` and `events` hold every SQL statement, as functions of a transaction.
"""

from refgenied.store.connection import Store, Transaction

__all__ = ["Store", "Transaction"]
