"""refgenied archives refgenie assets as soon as their builds finish.

This module imports nothing: `refgeniectl` starts in milliseconds because of it.
"""

__version__ = "0.4.0"
