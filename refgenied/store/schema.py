"""The tables, as migrations: one for each version, each in one transaction. Never change a released one."""

APPLICATION_ID = 0x72676E64  # "rgnd", by which file(1) and we know the database

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE job (
            id             INTEGER PRIMARY KEY AUTOINCREMENT,
            genome_digest  TEXT    NOT NULL,
            asset_group    TEXT    NOT NULL,
            asset          TEXT    NOT NULL,
            state          TEXT    NOT NULL CHECK (state IN ('queued','running','succeeded','failed','cancelled')),
            priority       INTEGER NOT NULL,
            force          INTEGER NOT NULL CHECK (force IN (0, 1)),
            stamp          TEXT    NOT NULL,
            attempts       INTEGER NOT NULL DEFAULT 0,
            crashes        INTEGER NOT NULL DEFAULT 0,
            requested_by   TEXT    NOT NULL,
            created_at     REAL    NOT NULL,
            not_before     REAL    NOT NULL,
            started_at     REAL,
            ended_at       REAL,
            outcome        TEXT,
            error_kind     TEXT,
            error          TEXT
        ) STRICT
        """,
        # The database makes sure that an asset has at most one queued and at most one running job.
        "CREATE UNIQUE INDEX job_one_queued ON job (genome_digest, asset_group, asset) WHERE state = 'queued'",
        "CREATE UNIQUE INDEX job_one_running ON job (genome_digest, asset_group, asset) WHERE state = 'running'",
        "CREATE INDEX job_next ON job (priority, id) WHERE state = 'queued'",
        "CREATE INDEX job_of_asset ON job (genome_digest, asset_group, asset, id)",
        """
        CREATE TABLE archive (
            genome_digest  TEXT    NOT NULL,
            asset_group    TEXT    NOT NULL,
            asset          TEXT    NOT NULL,
            aliases        TEXT    NOT NULL,
            path           TEXT    NOT NULL UNIQUE,
            size           INTEGER NOT NULL,
            digest         TEXT    NOT NULL,
            asset_digest   TEXT    NOT NULL,
            content_digest TEXT    NOT NULL,
            files          INTEGER NOT NULL,
            source_size    INTEGER NOT NULL,
            stamp          TEXT    NOT NULL,
            files_stamp    TEXT    NOT NULL,
            created_at     REAL    NOT NULL,
            proved_at      REAL,
            download_count INTEGER NOT NULL DEFAULT 0,
            requested_by   TEXT    NOT NULL,
            PRIMARY KEY (genome_digest, asset_group, asset)
        ) STRICT
        """,
        """
        CREATE TABLE removal (
            genome_digest  TEXT NOT NULL,
            asset_group    TEXT NOT NULL,
            asset          TEXT NOT NULL,
            stamp          TEXT NOT NULL,
            removed_at     REAL NOT NULL,
            removed_by     TEXT NOT NULL,
            PRIMARY KEY (genome_digest, asset_group, asset)
        ) STRICT
        """,
        """
        CREATE TABLE event (
            seq            INTEGER PRIMARY KEY AUTOINCREMENT,
            at             REAL NOT NULL,
            kind           TEXT NOT NULL,
            genome_digest  TEXT,
            asset_group    TEXT,
            asset          TEXT,
            job            INTEGER,
            data           TEXT NOT NULL
        ) STRICT
        """,
        "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    ),
    ("ALTER TABLE archive ADD COLUMN damaged TEXT",),
    (
        # A download has an id. So it can be reported twice and is counted once.
        """
        CREATE TABLE download (
            id             TEXT NOT NULL PRIMARY KEY,
            genome_digest  TEXT NOT NULL,
            asset_group    TEXT NOT NULL,
            asset          TEXT NOT NULL,
            digest         TEXT NOT NULL,
            at             REAL NOT NULL,
            reported_by    TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX download_of_asset ON download (genome_digest, asset_group, asset)",
        # Every archive that an asset has ever had, with its size, because a line of a log has only a size.
        """
        CREATE TABLE edition (
            genome_digest  TEXT    NOT NULL,
            asset_group    TEXT    NOT NULL,
            asset          TEXT    NOT NULL,
            digest         TEXT    NOT NULL,
            size           INTEGER NOT NULL,
            published_at   REAL    NOT NULL,
            PRIMARY KEY (genome_digest, asset_group, asset, digest)
        ) STRICT, WITHOUT ROWID
        """,
        """
        INSERT INTO edition (genome_digest, asset_group, asset, digest, size, published_at)
        SELECT genome_digest, asset_group, asset, digest, size, created_at FROM archive
        """,
    ),
    ("ALTER TABLE archive ADD COLUMN access TEXT",),
    ("ALTER TABLE archive ADD COLUMN seal TEXT",),
    (
        # When the daemon was killed while the job ran: Unix seconds, as a JSON list.
        "ALTER TABLE job ADD COLUMN crashed_at TEXT NOT NULL DEFAULT '[]'",
        # A job that was running when the daemon was killed goes last.
        "DROP INDEX job_next",
        "CREATE INDEX job_next ON job (crashes > 0, priority, id) WHERE state = 'queued'",
        "CREATE INDEX job_again ON job (id) WHERE state = 'queued' AND attempts > 0",
    ),
    (
        # A line of another server's log with a request for an archive. Equal lines have numbers.
        """
        CREATE TABLE log_line (
            line           TEXT    NOT NULL,
            number         INTEGER NOT NULL,
            PRIMARY KEY (line, number)
        ) STRICT, WITHOUT ROWID
        """,
        # The part of one archive that one client has got. The rest may be in the next log.
        "CREATE TABLE log_pull (who TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID",
        # How a log begins, and how often its first lines were in earlier logs. A log may be cut between equal lines.
        """
        CREATE TABLE log_start (
            start          TEXT    NOT NULL PRIMARY KEY,
            first_line     TEXT    NOT NULL,
            repeated       INTEGER NOT NULL,
            before         TEXT    NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX log_start_line ON log_start (first_line)",
    ),
    (
        # So that neither the next job nor a status reads all jobs or all archives.
        "CREATE INDEX job_due ON job (not_before) WHERE state = 'queued'",
        "CREATE INDEX job_failed ON job (id) WHERE state = 'failed'",
        "CREATE INDEX job_ended ON job (ended_at, id) WHERE ended_at IS NOT NULL",
        "CREATE INDEX archive_size ON archive (size)",
        # To find the archive of an asset whose genome has gone from the genome folder.
        "CREATE INDEX archive_of_group ON archive (asset_group, asset)",
    ),
    (
        # In the order in which archives are proved again, and those that are known to be damaged.
        "CREATE INDEX archive_proved ON archive (proved_at, genome_digest, asset_group, asset)",
        "CREATE INDEX archive_damaged ON archive (genome_digest, asset_group, asset) WHERE damaged IS NOT NULL",
    ),
    (
        # Several jobs may have run during a kill: those that were there most often go last.
        "DROP INDEX job_next",
        "CREATE INDEX job_next ON job (crashes, priority, id) WHERE state = 'queued'",
    ),
)
