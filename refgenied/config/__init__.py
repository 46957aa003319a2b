"""The settings: their definition (`settings`), reading (`load`, `toml`), writing (`write`, `creation`), default places
(`places`), places that must not be the same (`roles`), a check of the folders (`checking`), and commands (`commands`).
"""
