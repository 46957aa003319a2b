"""`refgenied serve`: the real refgenieserver in a process of its own, with archives found by their digest and
counted.

*Editions.* One reading of the server's config is an edition: refgenie's own config object, and which file each
archive is (inode, mtime, size). An archive is opened when a client asks for it, by its flat name or its hidden name,
and is sent only if it is that very file. Otherwise the answer is 503 with `Retry-After`. An edition accepts another
file in two cases: the same bytes were archived again (the manifest says so), or the md5 of the file under the flat
name proves to be the digest (it is read once, in the background). If the file under the flat name is newer than the
config, the old one is taken by its hidden name, or the edition waits until the config follows.

A request sees one edition from its first line to its last. `refgenie pull` asks for the digest and then for the file,
so a client that was told of an archive sees that edition until it has the file: for 2 minutes, and for 10 minutes
after the archive was replaced. All clients behind one address share this promise, so that they are told the same.

*Answers.* The answer with an archive is our own (`delivery`), because Starlette's knows no conditions and refuses
ranges that are partly outside of the file. Connections are taken one by one, as many as there are descriptors for,
each counted twice for its archive: asyncio's accept loop fails 2,048 times a second when descriptors are used up, and
logs each failure. systemd's watchdog is told that we live after a request to our own address was answered. While
clients use all connections, that counts as an answer.

*Counting.* The kernel takes megabytes before a client reads the first byte. So the end of an answer is held back
until the client has closed, has sent its next request, or has acknowledged every byte and stays. A reset, or an end
with bytes that are not acknowledged, is no download. refgenie asks twice for each pull, and the first answer with a
small archive also arrives whole: of two requests of `urllib` one counts (`shared/pulls`, which `downloads import`
uses too). Every download keeps its row (about 300 bytes): its id makes a second import of the same log harmless, also
years later.

*The spool.* A download is a line in a file of this process. The line is on the disk before the client's connection is
closed or takes its next request. Lines that arrive while the disk is busy are synced together. For a client that has
everything and stays connected the line is written after 20 ms, and taken back if the client leaves after all. So a
kill loses only what was complete in the last 50 ms. The daemon gets the lines by `download.record`, each with its id,
and the file is emptied when all are recorded. Each process locks its own file; a file without a lock is read by the
next process. When the disk takes nothing, downloads are in memory and `/health` says so. Ranges and transfers that
were cut are no downloads yet; they are written every 5 s and at the end, so that a client may go on after a restart.
"""
