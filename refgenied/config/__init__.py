"""The settings: what they are (`settings`), how they are read (`load`, `toml`) and written (`write`, `creation`), where
things are by default (`places`), which places must not be the same (`roles`), which can be used (`checking`), and the
commands about them (`commands`).
"""
