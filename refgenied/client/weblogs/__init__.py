"""Finds downloads in the access logs of other web servers: `lines` → `targets` → `reader`.

`lines` takes lines apart: it knows what nginx, Apache and Caddy mean by their numbers and times. `targets` finds the
archive of that day by its size and time (the daemon's table `edition` has all that ever were). `reader` sends each
request for an archive to `download.requests`.

The daemon keeps what is no download yet (first requests, ranges, transfers that go on) for each client and archive,
so a log may be cut anywhere. It forgets it after as long as a download of that size may take. It knows by their hash
which lines it has taken. Equal lines get numbers, counted from the beginning of their log: two small pulls within one
second are four equal lines. `download.log` says from where to count when the log was rotated: a log whose lines were
never seen goes on where another ended; a log that begins like a known one is that log; a log without anything new is
a part of what is known.
"""
