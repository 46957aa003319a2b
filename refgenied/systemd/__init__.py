"""The systemd units: `texts` fills them in for a configuration, `install` puts them in place and takes them away."""

from refgenied.systemd.install import Installation

__all__ = ["Installation"]
