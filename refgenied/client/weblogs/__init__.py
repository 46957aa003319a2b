"""Finds downloads in the access logs of other web servers: `lines` → `targets` → `reader`."""
