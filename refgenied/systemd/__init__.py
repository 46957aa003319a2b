"""Messages to systemd while the daemon runs, and the units for a configuration.

`supervision` asks the database every 2 s. Only when the database has answered, it sends `WATCHDOG=1` and `STATUS=`.
While the daemon drains, each message asks for 20 s more (`EXTEND_TIMEOUT_USEC`), for 10 minutes at most. `READY=1` is
sent when the socket answers and the first look is done, or has taken 5 s. A reload is wrapped in `RELOADING=1` and
`READY=1`. The unit reloads through `refgeniectl reload`, so `systemctl reload` returns when the reload is done, and
fails when it was refused.

`units` fills the templates of the folder `systemd/` with the folders of a configuration. Three things are easy to get
wrong:

- A disk that is mounted after the sandbox was built is not protected by it (it can be written, or is hidden if the
  folder is a bind mount). So `surroundings` compares the mounts over the folders with those at the start. A new mount
  ends the daemon with exit status 75.
- A daemon that cannot start because of its configuration answers the clients that wait at systemd's socket, and tells
  them why. Otherwise they would wait for ever, and systemd would start the daemon again and again.
- No code may need `chown` inside the sandbox: the socket gets its group from `Group=` in the unit.
"""
