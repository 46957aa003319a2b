"""`refgenied serve`: the real refgenieserver app in a process of its own.

`edition` is one reading of the config with its archives open, `shelf` the one in force and what clients were promised,
`app` the refgenieserver app over it, `wire` tells whether a client got all of an answer, `traffic` counts and logs,
`spool` brings counts to the daemon, `run` puts it together.
"""
