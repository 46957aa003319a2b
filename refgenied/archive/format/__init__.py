"""What an archive is made of. Nothing here knows the acts (pack, prove, restore) that use it.

*Tar.* `tar` makes headers by hand: GNU format, the same bytes for the same member, for ever. `tar_reader` is a
strict reader of our own: Python's `tarfile` believes the sizes in headers (a long name of 10 GB), passes over damage,
and its filters were bypassed more than once. What `tar_reader` does not understand is an error.

*Blocks.* The tar stream is cut into blocks of 1 MiB, each a gzip member of its own. `stream` gives the tar stream
back: with a block table any part of it, decompressed ahead on all cores; without one (another program's archive) from
its beginning, in bounded memory. Blocks of Huffman codes alone are read by ISA-L, twice as fast as by libdeflate,
which reads all others; zlib-ng's header tells them apart. A new archive is handed to the disk every 8 MiB, so that
the last sync is short.

*The manifest's seal.* The last field of a manifest is a sha256 over the bytes before it. The database keeps it too,
so each can prove the other. A broken seal is repaired when one field from the record makes the recorded seal come
out. A record that differs is repaired from a manifest that has the recorded seal, or whose archive proves it. What
nothing proves is damage: the archive is made again from the asset. Nobody believes a manifest with a broken seal,
also not a database that is made anew. The seal covers raw bytes, so it covers fields of later versions too. A
manifest from before there were seals is valid, and gets one when its archive is proved.

*refgenie's `asset_digest`* depends on the locale of the person who built the asset, because refgenie pipes names
through `sort`. `sorting` takes the order of bytes first, and then asks `sort` itself for the orders of the UTF-8
locales that are installed (the C library's `strxfrm` disagrees with `sort`). Otherwise every STAR index built under
en_US.UTF-8 would be refused.
"""
