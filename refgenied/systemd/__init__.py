"""What systemd is told while the daemon runs, and the units for a configuration."""
