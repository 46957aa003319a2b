"""Finds downloads in the access logs of other web servers: `lines` → `targets` → `reader`.

`lines` splits lines: it knows the meaning of the numbers and times of nginx, Apache and Caddy. `targets` finds the
archive that existed at that time by its size (the daemon's table `edition` has all archives that ever existed).
`reader` makes the requests for archives that are sent to `download.requests`.

The daemon keeps the parts that are not a download yet (first requests, ranges, unfinished transfers) for each client
and archive, so a log may be cut anywhere. It forgets a part after the time that a download of this size may take. It
knows by their hashes which lines it has taken. Equal lines get numbers, counted from the beginning of their log: two
small pulls within one second are four equal lines. After a rotation, `download.log` says from where to count. A log
with new lines continues another log. A log that begins like a known log is that log. A log without new lines is a part
of a known log.
"""
