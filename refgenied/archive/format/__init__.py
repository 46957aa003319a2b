"""The parts of an archive. No code here knows the operations (pack, prove, restore) that use them.

*Tar.* `tar` makes headers by hand: GNU format, always the same bytes for the same member. `tar_reader` is a
strict reader of our own: Python's `tarfile` believes the sizes in headers (a long name of 10 GB), passes over damage,
and its filters were bypassed more than once. `tar_reader` raises an error for everything that it does not understand.

*Blocks.* The tar stream is cut into blocks of 1 MiB, and each block is a separate gzip member. `stream` gives the tar
stream back: with a block table any part of it, and all cores decompress ahead of the reader; without one (another
program's archive) from its beginning, in bounded memory. ISA-L reads blocks with Huffman codes only, twice as fast as
libdeflate, which reads all other blocks; zlib-ng's header tells them apart. While an archive is written, every 8 MiB
are handed to the disk, so the last sync is short.

*The manifest's seal.* The last field of a manifest is a sha256 over the bytes before it. The database keeps it too,
so each of the two can prove the other. A manifest with a broken seal is repaired when one field from the record gives
the recorded seal again. A record that differs is repaired when the manifest has the recorded seal, or when the archive
proves the manifest. If neither can be proved, that is damage: the archive is made again from the asset. A manifest
with a broken seal is never believed, even when a new database is filled from the manifests. The seal covers raw bytes,
so it also covers fields of later versions. A manifest that is older than the seals is valid, and gets a seal when its
archive is proved.

*refgenie's `asset_digest`* depends on the locale of the person who built the asset, because refgenie pipes names
through `sort`. `sorting` first tries the order of bytes. Then it asks `sort` itself for the orders of the installed
UTF-8 locales (the C library's `strxfrm` disagrees with `sort`). Without this, every STAR index built under en_US.UTF-8
would be refused.
"""
