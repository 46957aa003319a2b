"""What refgenieserver needs, and refgenieserver itself.

The daemon's side: `entry` and `genome_config` say what the server's config holds, `names` makes the files it wants
beside the archives, `folder` brings the archive folder up to that, `keeper` does so whenever something has changed.

The serving process's side, `server/`: the real refgenieserver, with archives found by their digest and downloads
counted.
"""
