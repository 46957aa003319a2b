"""`refgenied serve`: the real refgenieserver app in a process of its own, with downloads counted."""
