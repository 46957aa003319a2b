"""What systemd is told while the daemon runs, and the units for a configuration.

`supervision` beats every 2 s: it asks the database, and only when the database has answered it sends `WATCHDOG=1` and
`STATUS=`. While the daemon drains, each beat asks for 20 s more (`EXTEND_TIMEOUT_USEC`), for 10 minutes at most.
`READY=1` is sent when the socket answers and the first look is done, or has taken 5 s. A reload is wrapped in
`RELOADING=1` and `READY=1`. The unit reloads through `refgeniectl reload`, so `systemctl reload` returns when it is
done and fails when it was refused.

`units` fills the templates of the folder `systemd/` with the folders of a configuration. Three things are easy to get
wrong:

- A disk that is mounted after the sandbox was built is outside of it (it can be written, or is hidden when the folder
  is a bind mount). So `surroundings` compares the mounts over the folders with those at start, and a new one ends the
  daemon with 75.
- A daemon that cannot start because of its configuration answers the clients that wait at systemd's socket, and tells
  them why. If they were left there, they would wait for ever and make systemd start it again and again.
- Nothing may need `chown` inside the sandbox: the socket gets its group from `Group=` in the unit.
"""
