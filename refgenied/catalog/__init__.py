"""What refgenieserver needs in the archive folder: `updater` keeps it so, from the database and the last look."""
