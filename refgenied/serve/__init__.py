"""`refgenied serve`: runs the real refgenieserver in a separate process, finds archives by their digest, and counts
downloads.

*Editions.* Each time the server's config is read, the result is an edition: refgenie's own config object, and which
file each archive is (inode, mtime, size). When a client asks for an archive, it is opened by its flat name or its
hidden name, and is sent only if it is the same file. Otherwise the answer is 503 with `Retry-After`. An edition accepts
another file in two cases: the manifest says that the same bytes were archived again, or the file under one of its names
has the right md5 (it is read once, in the background). If the file under the flat name is newer than the config, the
old file is found by its hidden name, or the edition waits for the new config.

*Work follows change.* A new edition shares with the one before what has not changed (`edition_reader`), and a start
looks once at each file and reads no manifest, except of archives that are about as new as the config. No archive is
open before a client asks for it. A thread reads the config; it gives the requests their turn every half millisecond.
Nothing is done once a second for each archive or each promise.

A request sees one edition from its first line to its last. `refgenie pull` asks for the digest and then for the file.
So a client that was told a digest sees the same edition until it has the file: for 2 minutes, and at most 10 minutes
after the edition was replaced. All clients behind one address share this promise, so they all get the same answer.

*Answers.* We send archives with our own code (`delivery`), because Starlette's code knows no conditions and refuses
ranges that are partly outside of the file. Connections are accepted one by one, as many as there are descriptors; each
needs two, one of them for its archive. Without this limit asyncio's accept loop fails 2,048 times a second when
descriptors are used up, and logs each failure. systemd's watchdog gets a sign of life after a request to our own
address was answered, or while clients use all connections.

*Counting.* The kernel takes megabytes before a client reads the first byte. So the end of an answer is held back
until the client has closed the connection, has sent its next request, or has acknowledged every byte and stays. If the
client resets the connection, or closes it before it has acknowledged every byte, there is no download. refgenie asks
twice for each pull, and a small archive arrives completely with the first answer too. So of two requests of `urllib`
one counts (`shared/pulls`, which `downloads import` uses too). Every download keeps its row (about 300 bytes). Its id
makes a second import of the same log harmless, even years later.

*The spool.* A download is a line in a file of this process. The line is on the disk before the client's connection is
closed or takes its next request. Lines that arrive while the disk is busy are synced together. If a client has all
bytes and stays connected, the line is written after 20 ms, and taken back if the client then drops the answer. So a
kill loses only downloads of the last 50 ms. The daemon gets the lines by `download.record`, each with its id, and the
file is emptied when all are recorded. Each process locks its own file; the next process reads files without a lock.
When the disk takes no writes, downloads are in memory and `/health` says so. Ranges and interrupted transfers are not
downloads yet; they are saved every 5 s and at the end, so a client may continue after a restart.
"""
