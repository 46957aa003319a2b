"""The genome folder: its assets, the state of each, and a safe walk over the files of one asset.

This is a library with blocking calls. It knows no asyncio, no SQL and no sockets.

*When a build is complete.* `folder.GenomeFolder` asks these questions in this order:

1. Does any build folder of the asset have a failed flag? Then the build has failed.
2. Does a build run? It does if there is a running, waiting or partial flag, a `lock.*`, a `recover.*`, or a build
   folder without a completed flag. Then the asset is building, or interrupted after 30 minutes without a change.
3. Does the asset's folder exist, without files of a `refgenie pull` that is still running?
4. Does the layout agree? `refgenie0`: the config has an entry with `asset_digest` and `seek_keys`. `refgenie1`:
   `alias/` has links to the asset, and all of them lead into this one folder.

Then the files get a stamp, and the flags are read again: if they have changed, the asset is building.

*Files of other people.* Anybody who may write to the genome folder may put anything there. Files are opened by
`files.regular.open_regular`: it checks the type before it opens, so it never opens a FIFO, a terminal or a device. It
does not block, and reads have a limit. YAML has one reader (`yaml_reader`), made from the parser's events, because
PyYAML composes by recursion in C: 200 kB of `[` end the process. It counts bytes, depth and values, with each alias
replaced by its value (96 MiB, 50 and 4,000,000 at most; four times as much of our own, `yaml_limits`). It reads names
and numbers as refgenconf 0.13.1 does (`2.50:` is the tag "2.5"). A value without a meaning is left out and reported
with its line; the rest of the config stays. One look takes at most 150,000 assets, 1,000 aliases of a genome, 128 KiB
of one entry and a million names of one folder, and reports at most 100 problems.

*Looks.* `look` is a whole look and trusts nothing that was kept. `look_again` is a partial one: it looks at refgenie's
entries that differ, the paths that were noticed, the assets that are named, and those that were being built. `asset` is
a test of one asset. Both take from the last survey only where to look, and read config, links and flags anew; so what
they cost follows the change. alias/ is not watched. So for a data folder without a name, and for one that was noticed,
the names in its group are read that are new or have changed, under its genome's aliases and under those of no genome.
`asset` also sees a build under an alias that the genome got since the last look. What they cannot know is found by the
next whole look: a new link in alias/ to an asset that has one already, files or folders that changed without a notice.
An asset that is as it was is the same object in each look. A whole look at 10,000 assets that have not changed takes
twice as long as listing all files and asking for their status, or less: the genome folder stays open from one asset to
the next, and an asset without links is stamped by a walk of its own (`plain_tree`).

refgenie writes its whole config for each build. `config_text` parses only what differs, with the result of parsing all
of it. A whole parse is needed after a start, and when the config has a problem, an anchor or a merge.

*Memory.* For each asset at most 2 kB are kept: the asset, its key and entry, the survey and the text of the config.
Names and descriptions that many assets have are kept once.

*Stamps.* A stamp covers the metadata of the asset's files (path, type, mode, size, mtime, ctime, inode), the identity
of the completed flag, and refgenie's entry. Equal stamps mean that nothing was built and nothing was touched. The
files alone have a second stamp. `refgenie build` without a change, or with `-R`, writes only the flags; then the
second stamp shows that nothing must be read.
"""
